"""What all measures of a report share: the codes, the model, and the rows that are sampled.

Whatever is drawn at random depends on the seed and on the cache alone, so that an interrupted
report continues with the same rows.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.analyze.codes.code_rows import CodeRows, concatenate
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.codes.decode import decode
from sparc.analyze.codes.parts import Parts
from sparc.analyze.codes.permutation import Permutation
from sparc.analyze.codes.store import CodeStore
from sparc.analyze.codes.subject import Subject
from sparc.analyze.config import AnalyzeConfig
from sparc.analyze.maths.reduction import Reducer
from sparc.analyze.metrics.counting import Counted, count_codes
from sparc.analyze.metrics.meaning.cofiring import Cofired, count_cofiring
from sparc.analyze.rows.folds import Folds, assign_folds
from sparc.analyze.rows.images import Images
from sparc.analyze.rows.labels import Labels
from sparc.analyze.rows.lines import lines_of
from sparc.analyze.rows.sample import (
    Sample,
    SplitImages,
    choose_sample,
    draw_images,
    split_images,
)
from sparc.analyze.rows.words import CaptionWords, words_of
from sparc.common.cache.reader import ActivationCache
from sparc.common.streams.info import Modality
from sparc.train.model.network import Sparc

Rows = npt.NDArray[np.int64]
"""Rows of the cache, ascending, (n,)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
    """A model, a cache and the codes of its rows.

    Attributes:
        subject: The model.
        cache: The cache.
        store: The report's codes.
        permutation: The order of images of the permuted controls.
        images: The images of the cache.
        labels: The labels of the cache's rows; None where no analysed row has any.
        config: The settings.
    """

    subject: Subject
    cache: ActivationCache
    store: CodeStore
    permutation: Permutation
    images: Images
    labels: Labels | None
    config: AnalyzeConfig
    _counted: dict[CodeSet, Counted] = dataclasses.field(default_factory=dict, repr=False)
    _cofired: dict[CodeSet, Cofired] = dataclasses.field(default_factory=dict, repr=False)

    # ------------------------------------------------------------------ the cache

    @property
    def streams(self) -> tuple[str, ...]:
        """The analysed streams, in the model's order."""
        return self.store.layout.streams

    @property
    def latents(self) -> int:
        """L."""
        return self.store.layout.latents

    @property
    def dims(self) -> dict[str, int]:
        """By stream, the values of a feature."""
        return {name: self.cache.streams[name].dim for name in self.streams}

    @property
    def modalities(self) -> dict[str, Modality]:
        """By stream, what it encodes."""
        return {name: self.cache.streams[name].modality for name in self.streams}

    @property
    def known_labels(self) -> Labels:
        """The labels, for a measure that needs them."""
        assert self.labels is not None
        return self.labels

    @cached_property
    def words(self) -> CaptionWords:
        """The words of the captions."""
        return words_of(self.cache, self.images)

    # ------------------------------------------------------------------ codes and models

    def model(self, code_set: CodeSet) -> Sparc:
        """The model that made some codes."""
        if code_set.control != "untrained":
            return self.subject.model
        assert self.subject.untrained is not None
        return self.subject.untrained

    def parts(self, code_set: CodeSet) -> Parts:
        """The parts that a set of codes is read in."""
        return Parts(self.store, self.cache, code_set, self.permutation)

    def codes_at(self, code_set: CodeSet, rows: Rows, reducer: Reducer) -> CodeRows:
        """The codes of some rows."""
        parts = self.parts(code_set)
        holding = parts.holding(rows)
        shared = parts, holding, rows
        codes: CodeRows = reducer.reduce(_codes_at, concatenate, shared, len(holding))
        return codes.take(np.argsort(codes.rows))

    def features_at(self, rows: Rows, reducer: Reducer) -> Mapping[str, npt.NDArray[Any]]:
        """By stream, the features of some rows as stored, (n, dim)."""
        parts = Parts(self.store, self.cache, CodeSet("joint"))
        holding = parts.holding(rows)
        return reducer.reduce(_features_at, _join_features, (parts, holding, rows), len(holding))

    def decoded(
        self, code_set: CodeSet, codes: CodeRows, source: str, target: str
    ) -> npt.NDArray[np.float32]:
        """Codes of a set, decoded from one stream to the normalized features of another."""
        return decode(self.model(code_set), codes, source, target)

    def counted(self, code_set: CodeSet, reducer: Reducer) -> Counted:
        """What is counted of some codes, in one pass for all measures of a step."""
        if code_set not in self._counted:
            parts = self.parts(code_set)
            # Labels stay where they are: nothing is compared by them where codes are permuted.
            labels = None if code_set.permuted else self.labels
            self._counted[code_set] = count_codes(
                parts,
                labels,
                self.folds,
                self.codes_at(code_set, self.folds.rows, reducer),
                reducer,
                top=self.config.top_rows,
            )
        return self._counted[code_set]

    def cofired(self, code_set: CodeSet, reducer: Reducer) -> Cofired:
        """Which latents of some codes are active together, in one pass for all measures."""
        if code_set not in self._cofired:
            self._cofired[code_set] = count_cofiring(
                self.parts(code_set),
                self.one_per_image,
                reducer,
                partners=self.config.partners,
                seed=self.config.seed,
            )
        return self._cofired[code_set]

    def forget(self) -> None:
        """Drop what was counted for the measures of a step."""
        self._counted.clear()
        self._cofired.clear()

    # ------------------------------------------------------------------ rows that are sampled

    @cached_property
    def folds(self) -> Folds:
        """The folds of the jackknife."""
        return assign_folds(self.images, self.config.seed)

    @cached_property
    def one_per_image(self) -> Rows:
        """The first analysed row of each image."""
        return self.images.first_rows(self.store.valid)

    @cached_property
    def sample(self) -> Sample:
        """The rows that retrieval is measured on."""
        sample = choose_sample(self.images, self.store.valid, self.config.rows, self.config.seed)
        return sample.with_captions(self._captions_of(sample.rows))

    def labelled_sample(self, size: int) -> Rows:
        """The first analysed rows of labelled images drawn at random, `size` at most."""
        labelled = self.store.valid & self.known_labels.labelled
        return draw_images(self.images, labelled, size, self.config.seed)

    @cached_property
    def classified(self) -> tuple[Rows, SplitImages]:
        """The rows that classification is measured on, one per image, and their labels."""
        rows = self.labelled_sample(self.config.rows)
        return rows, split_images(self.known_labels.with_ancestors(rows), self.config.seed)

    def _captions_of(self, rows: Rows) -> pa.Array:
        """The captions of some rows; null where there is none."""
        return lines_of(self.cache, ["caption"], rows)["caption"].combine_chunks()


_Wanted = tuple[Parts, Sequence[int], Rows]
"""Parts, the numbers of those that hold any of some rows, and the rows."""


def _codes_at(wanted: _Wanted, number: int) -> CodeRows:
    parts, holding, rows = wanted
    return parts.codes_at(holding[number], rows)


def _features_at(wanted: _Wanted, number: int) -> dict[str, npt.NDArray[Any]]:
    parts, holding, rows = wanted
    part = holding[number]
    positions = np.flatnonzero(np.isin(parts.rows(part), rows))
    return {stream: values[positions] for stream, values in parts.features(part).items()}


def _join_features(
    results: Sequence[Mapping[str, npt.NDArray[Any]]],
) -> dict[str, npt.NDArray[Any]]:
    return {stream: np.concatenate([part[stream] for part in results]) for stream in results[0]}
