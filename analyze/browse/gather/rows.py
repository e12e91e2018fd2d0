"""The rows that a site shows: their texts, and which of them show the same image."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from sparc.analyze.concepts.gather import Evidence
from sparc.analyze.rows.images import incidence
from sparc.analyze.rows.labels import Labels
from sparc.analyze.rows.lines import lines_of
from sparc.analyze.rows.words import split_words
from sparc.common.text import shorten

CAPTION = 200
"""Characters of a caption at most."""

NAME = 80
"""Characters of a class or a sample's name."""

IMAGE = 300
"""Characters of an image's name."""

CLASSES = 4
"""Classes of a row."""


class RowTexts(NamedTuple):
    """A row as it is shown."""

    sample: str
    image: str | None
    caption: str | None
    classes: tuple[str, ...]


class RowWords(NamedTuple):
    """The words of captions, in lower case.

    Attributes:
        vocabulary: All of them.
        matrix: (rows, words) int32, 1 where a row's caption has the word.
    """

    vocabulary: tuple[str, ...]
    matrix: sparse.csr_matrix


class ShownRows:
    """The rows that are shown of any latent.

    Args:
        evidence: The report.
        classes: The name of each class of its cache, by `class_id`.
        rows: Which rows, ascending, (n,).
    """

    def __init__(
        self, evidence: Evidence, classes: Sequence[str], rows: npt.NDArray[np.int64]
    ) -> None:
        self._rows = rows
        self._of_row = evidence.images.of_row
        self._table = lines_of(evidence.cache, ["sample_id", "image", "caption"], rows)
        self._classes = _classes(evidence.labels, classes, rows)

    def texts(self, rows: npt.NDArray[np.int64]) -> list[RowTexts]:
        """The texts of some of them, cut."""
        taken = self._table.take(pa.array(self.places(rows))).to_pylist()
        return [
            RowTexts(
                shorten(line["sample_id"], NAME),
                _cut(line["image"], IMAGE),
                _cut(line["caption"], CAPTION),
                self._classes.get(row, ()),
            )
            for row, line in zip(rows.tolist(), taken, strict=True)
        ]

    @cached_property
    def _with_image(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self._table["image"].is_valid())

    @cached_property
    def rows_with_image(self) -> npt.NDArray[np.int64]:
        """Those of them that have an image, ascending."""
        return self._rows[self._with_image]

    def has_image(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which of some shown rows have an image, (n,)."""
        return self._with_image[self.places(rows)]

    def image_names(self, rows: npt.NDArray[np.int64]) -> list[str | None]:
        """The names of some rows' images in the dataset; None where a row has none."""
        taken = self._table["image"].take(pa.array(self.places(rows)))
        names: list[str | None] = taken.to_pylist()
        return names

    def places(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Where some rows stand among those that are shown, (n,)."""
        return np.searchsorted(self._rows, rows)

    @cached_property
    def words(self) -> RowWords:
        """The words of all captions."""
        lists = split_words(self._table["caption"].combine_chunks())
        encoded = lists.flatten().dictionary_encode()
        rows = np.repeat(np.arange(len(lists)), np.asarray(lists.value_lengths()))
        words = np.asarray(encoded.indices, np.int64)
        shape = len(lists), max(1, len(encoded.dictionary))
        return RowWords(tuple(encoded.dictionary.to_pylist()), incidence(rows, words, shape))

    def image_numbers(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The number of each row's image: rows of one image have the same, (n,)."""
        numbers: npt.NDArray[np.int64] = self._of_row[rows]
        return numbers


def _classes(
    labels: Labels | None, classes: Sequence[str], rows: npt.NDArray[np.int64]
) -> Mapping[int, tuple[str, ...]]:
    if labels is None:
        return {}
    carried = labels.matrix[rows]
    result = {}
    for place, row in enumerate(rows.tolist()):
        columns = carried.indices[carried.indptr[place] : carried.indptr[place + 1]][:CLASSES]
        if len(columns):
            result[row] = tuple(classes[labels.class_ids[column]] for column in columns)
    return result


def _cut(text: str | None, width: int) -> str | None:
    return None if text is None else shorten(text, width)
