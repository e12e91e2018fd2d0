"""From a run and a cache to a report: what is measured, in which order, and how it is resumed.

Codes are written chunk by chunk; then each step adds its pieces to the tables, and a step whose
pieces are there is done. Each metric lives in a module of its own.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial, reduce
from itertools import permutations
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from sparc.analyze.codes.code_rows import CodeRows, concatenate
from sparc.analyze.codes.code_sets import CodeSet, Control
from sparc.analyze.codes.decode import decode
from sparc.analyze.codes.encode import encode_missing, encode_permuted
from sparc.analyze.codes.parts import Parts
from sparc.analyze.codes.permutation import Permutation
from sparc.analyze.codes.store import CodeLayout, CodeStore
from sparc.analyze.codes.subject import Subject, choose_streams, open_subject
from sparc.analyze.config import AnalyzeConfig
from sparc.analyze.maths.reduction import Executor, executor
from sparc.analyze.metrics import (
    agreement,
    classification,
    cofiring,
    latents,
    left_out,
    monosemanticity,
    naming,
    overlap,
    probe,
    purity,
    reconstruction,
    retrieval,
    selection,
)
from sparc.analyze.report.folder import (
    Report,
    ReportInfo,
    ReportWriter,
    deciding_settings,
    recognize,
)
from sparc.analyze.report.summary import figures
from sparc.analyze.rows import top_rows
from sparc.analyze.rows.folds import Folds, assign_folds
from sparc.analyze.rows.images import Images, read_images
from sparc.analyze.rows.labels import Labels, read_labels
from sparc.analyze.rows.words import read_words
from sparc.common.cache.reader import ActivationCache
from sparc.common.devices import choose_device
from sparc.common.errors import CacheError
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive
from sparc.common.progress import progress, say
from sparc.common.text import amount
from sparc.common.versions import software_versions
from sparc.train.model.network import Sparc

Location = str | os.PathLike[str]
_Counts = TypeVar("_Counts")

_CAPTIONS = 1 << 16  # Captions read at a time.

_COUNTED = 1 << 14
"""Rows of a part that are counted at a time: what is counted of them takes several times the memory
of their codes."""


def analyze(
    run: Location, cache: Location, report: Location, config: AnalyzeConfig | None = None
) -> Report:
    """Measure a trained model on a cache, and write a report.

    Run again after an interruption, it goes on where it stopped.

    Args:
        run: A finished run's folder, a saved model's folder, or a hub repository.
        cache: An activation cache, usually not the one that was trained on.
        report: The report's folder or URL.
        config: The settings.

    Returns:
        The finished report.

    Raises:
        SparcError: Run and cache do not go together, the report is on something else, another
            process writes to it, or a file is damaged.
    """
    config = config or AnalyzeConfig()
    folder = Folder(report)
    with exclusive(folder, recognize), executor(config.scheduler, config.workers) as reducer:
        job = _prepare(open_subject(os.fspath(run)), ActivationCache(cache), folder, config)
        if job.lacks_codes:
            job.encode()
        if not job.writer.finished:
            job.measure(reducer)
    return Report(report)


class Step(NamedTuple):
    """Something that is measured at one go.

    Attributes:
        name: Unique among the steps.
        tables: The tables that it adds to.
        measure: Gives its piece of each of those tables.
    """

    name: str
    tables: tuple[str, ...]
    measure: Callable[[Executor], Mapping[str, pa.Table]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that the steps need.

    Attributes:
        subject: The model.
        cache: The cache.
        writer: The report.
        store: Its codes.
        permutation: The order of images of the permuted controls.
        images: The images of the cache.
        labels: The rows' labels; None where there are none.
        captioned: Whether any row has a caption.
        code_sets: The sets of codes that are measured, in the order of the tables.
        config: The settings.
    """

    subject: Subject
    cache: ActivationCache
    writer: ReportWriter
    store: CodeStore
    permutation: Permutation
    images: Images
    labels: Labels | None
    captioned: bool
    code_sets: tuple[CodeSet, ...]
    config: AnalyzeConfig

    # ------------------------------------------------------------------ codes

    @property
    def lacks_codes(self) -> bool:
        """Whether any codes are missing."""
        return any(self.store.missing(s) for s in self.code_sets if s.stored)

    def encode(self) -> None:
        """Write the codes that are missing."""
        device = choose_device(self.config.device)
        batch_size = self.config.batch_size
        model = self.subject.model.to(device)
        encode_missing(self.store, self.cache, model, control="none", batch_size=batch_size)
        if self.config.permuted:
            encode_permuted(self.store, self.cache, model, self.permutation, batch_size=batch_size)
        if CodeSet("joint", "untrained") in self.code_sets:
            untrained = self._model_of(CodeSet("joint", "untrained")).to(device)
            encode_missing(
                self.store, self.cache, untrained, control="untrained", batch_size=batch_size
            )

    # ------------------------------------------------------------------ tables

    def measure(self, reducer: Executor) -> None:
        """Make the pieces that are missing, the tables of them, and the summary."""
        if reducer.elsewhere:
            # A worker of a cluster need not have the device that encoded.
            for model in (self.subject.model, self.subject.untrained):
                if model is not None:
                    model.to("cpu")
        steps = self._steps()
        missing = [s for s in steps if not self.writer.has_pieces(s.name, s.tables)]
        with progress(len(steps), "tables", unit="steps", initial=len(steps) - len(missing)) as bar:
            for step in missing:
                bar.set_postfix_str(step.name)
                found = step.measure(reducer)
                for table in step.tables:
                    self.writer.write_piece(step.name, table, found[table])
                bar.update(1)
        self.writer.join({step.name: step.tables for step in steps})
        self.writer.finish(figures(self.writer.folder))

    def _steps(self) -> list[Step]:
        steps = []
        for code_set in self.code_sets:
            name = f"{code_set.control}-{code_set.mode}"
            tables = ["alive", "streams", "overlap_means"]
            if code_set.control == "none":
                tables += ["latents", "overlap"]
                if self.captioned:
                    tables.append("naming")
            if self._compared(code_set) is not None:
                tables.append("agreement")
            count = partial(self._count, code_set)
            rebuild = partial(self._reconstruct, code_set)
            find = partial(self._retrieve, code_set)
            steps += [
                Step(f"counts-{name}", tuple(tables), count),
                Step(f"reconstruction-{name}", ("reconstruction",), rebuild),
                Step(f"retrieval-{name}", ("retrieval",), find),
            ]
            if self.labels is not None:
                tell = partial(self._classify, code_set)
                steps.append(Step(f"classes-{name}", ("probe", "classification"), tell))
            steps += self._concept_steps(code_set)
        steps.append(Step("retrieval-raw", ("retrieval",), self._retrieve_raw))
        if self.labels is not None:
            steps.append(Step("classes-raw", ("classification",), self._classify_raw))
        for mode, control in self.code_sets:
            if mode == "joint" and not control.startswith("permuted"):
                share = partial(self._selection, control)
                steps.append(Step(f"selection-{control}", ("selection",), share))
                pieces = ("left_out_selection", "left_out_reconstruction")
                steps.append(Step(f"left-out-{control}", pieces, partial(self._leave_out, control)))
        return steps

    def _concept_steps(self, code_set: CodeSet) -> list[Step]:
        """Whether latents stand for one thing, and which of them go together."""
        name, trained = f"{code_set.control}-{code_set.mode}", code_set.control == "none"
        score = partial(self._score, code_set)
        tables = ["monosemanticity_means", *(["monosemanticity"] if trained else [])]
        steps = [Step(f"monosemanticity-{name}", tuple(tables), score)]
        if self.labels is not None:
            tables = ["purity_means", *(["purity"] if trained else [])]
            steps.append(Step(f"purity-{name}", tuple(tables), partial(self._purity, code_set)))
        if trained:
            meet = partial(self._meet, code_set)
            steps.append(Step(f"cofiring-{name}", ("cofiring",), meet))
        return steps

    def _parts(self, code_set: CodeSet) -> Parts:
        return Parts(self.store, self.cache, code_set, self.permutation)

    def _count(self, code_set: CodeSet, reducer: Executor) -> dict[str, pa.Table]:
        parts = self._parts(code_set)
        top = self.config.top_rows
        spare = top_rows.with_spare(top)
        labels = self._compared(code_set)
        counts, pairs, classes = reducer.reduce(
            _count_part, partial(_merge_counts, spare), (parts, labels, spare), len(parts)
        )
        streams, strongest = counts.streams, counts.top
        lists = tuple(top_rows.cut(each, spare) for each in strongest)
        counts = counts._replace(top=tuple(top_rows.cut(each, top) for each in lists))
        folds = self._folds
        fold_codes = self._codes_of(parts, folds.rows, reducer)
        active = latents.active_counts(counts, folds, fold_codes)
        found = {
            "alive": latents.alive_table(active, code_set),
            "streams": latents.streams_table(active, code_set),
            "latents": latents.table(counts, code_set),
            "overlap": overlap.table(pairs, streams, counts.top, code_set),
            "overlap_means": overlap.means(
                pairs, streams, lists, code_set, length=top, folds=folds, fold_codes=fold_codes
            ),
        }
        if labels is not None:
            assert classes is not None
            labelled = tuple(top_rows.marked(each, spare) for each in strongest)
            found["agreement"] = agreement.table(
                classes,
                labelled,
                labels,
                code_set,
                top=top,
                folds=folds,
                fold_codes=fold_codes,
                seed=self.config.seed,
            )
        if self.captioned and code_set.control == "none":
            found["naming"] = self._name(counts, code_set)
        return found

    def _compared(self, code_set: CodeSet) -> Labels | None:
        """The labels that agreement of some codes is measured on; None where it is not.

        Permuted rows are no null for it: they give every latent the overall mix of classes, and
        latents that mean nothing then agree. Its null are latents paired at random.
        """
        return self.labels if code_set.control in ("none", "untrained") else None

    def _name(self, counts: latents.LatentCounts, code_set: CodeSet) -> pa.Table:
        # Not kept for the other set of codes: it is the largest of what grows with the rows.
        batches = self.cache.row_batches(["caption"], _CAPTIONS)
        words = read_words((batch.column("caption") for batch in batches), self.images)
        if words is None:
            return naming.SCHEMA.empty_table()
        return naming.table(
            counts.streams,
            counts.top,
            counts.active.shape[1],
            words,
            self.images,
            self.images.count_rows(self.store.valid),
            code_set,
            names=self.config.names,
        )

    def _reconstruct(self, code_set: CodeSet, reducer: Executor) -> dict[str, pa.Table]:
        parts = self._parts(code_set)
        shared = parts, self._model_of(code_set), self._folds
        sums = reducer.reduce(_reconstruct_part, reconstruction.merge, shared, len(parts))
        table = reconstruction.table(sums, code_set, self._folds.share)
        return {"reconstruction": table}

    def _selection(self, control: Control, reducer: Executor) -> dict[str, pa.Table]:
        shared = (
            self._parts(CodeSet("joint", control)),
            self._parts(CodeSet("independent", control)),
            self._folds,
        )
        counts = reducer.reduce(_selection_part, selection.merge, shared, len(shared[0]))
        return {"selection": selection.table(counts, control, self._folds)}

    def _leave_out(self, control: Control, reducer: Executor) -> dict[str, pa.Table]:
        code_set = CodeSet("joint", control)
        of_row = self._sample.images
        images = Images(of_row, np.ones(of_row[-1] + 1, np.bool_))
        features = self._features_at(self._parts(code_set), self._sample.rows, reducer)
        found = left_out.tables(
            self._model_of(code_set),
            features,
            control,
            assign_folds(images, self.config.seed),
            batch_size=self.config.batch_size,
        )
        return {
            "left_out_selection": found.selection,
            "left_out_reconstruction": found.reconstruction,
        }

    def _score(self, code_set: CodeSet, reducer: Executor) -> dict[str, pa.Table]:
        found = monosemanticity.score_latents(
            self._parts(code_set), self._one_a_image, self._folds, reducer
        )
        return {
            "monosemanticity": monosemanticity.table(found, code_set),
            "monosemanticity_means": monosemanticity.means(found, code_set, self._folds.share),
        }

    def _purity(self, code_set: CodeSet, reducer: Executor) -> dict[str, pa.Table]:
        assert self.labels is not None
        parts = self._parts(code_set)

        def count(matrix: sparse.csr_matrix) -> purity.RowCounts:
            return reducer.reduce(_purity_part, purity.merge, (parts, matrix), len(parts))

        found = purity.tables(
            count,
            self._active_rows(parts, reducer),
            self.labels,
            self.store.valid,
            code_set,
            self._folds.share,
        )
        return {"purity": found.purity, "purity_means": found.means}

    def _active_rows(self, parts: Parts, reducer: Executor) -> dict[str, purity.ActiveRows]:
        assert self.labels is not None
        labelled, folds, top = self.labels.labelled, self._folds, self.config.top_rows
        spare = top_rows.with_spare(top)
        lists, fold_codes = reducer.reduce(
            _labelled_part,
            partial(_merge_labelled, spare),
            (parts, labelled, folds, spare),
            len(parts),
        )
        shape = parts.latents, len(labelled)
        return {
            stream: purity.active_rows(each, fold_codes, stream, folds, top=top, shape=shape)
            for stream, each in lists.items()
        }

    def _meet(self, code_set: CodeSet, reducer: Executor) -> dict[str, pa.Table]:
        found = cofiring.find_pairs(
            self._parts(code_set), self._one_a_image, reducer, partners=self.config.partners
        )
        return {"cofiring": cofiring.table(found, code_set)}

    def _retrieve(self, code_set: CodeSet, reducer: Executor) -> dict[str, pa.Table]:
        parts = self._parts(code_set)
        sample = self._sample
        codes = self._codes_of(parts, sample.rows, reducer)
        matrices = {s: codes.matrix(s, parts.latents) for s in codes.streams}
        pairs = list(permutations(codes.streams, 2))
        tables = [
            retrieval.table(
                "codes",
                code_set.mode,
                code_set.control,
                pairs,
                sample,
                self._modalities,
                lambda source, _: matrices[source],
                lambda target: matrices[target],
            )
        ]
        # Rebuilding needs the features of the same places, which the permuted controls move.
        if not parts.permuted and pairs:
            features = self._features_at(parts, sample.rows, reducer)
            model = self._model_of(code_set)
            tables.append(
                retrieval.table(
                    "cross_reconstruction",
                    code_set.mode,
                    code_set.control,
                    pairs,
                    sample,
                    self._modalities,
                    lambda source, target: decode(model, codes, source, target),
                    lambda target: features[target],
                )
            )
        return {"retrieval": pa.concat_tables(tables)}

    def _retrieve_raw(self, reducer: Executor) -> dict[str, pa.Table]:
        dims = {name: self.cache.streams[name].dim for name in self.writer.info.streams}
        pairs = [(a, b) for a, b in permutations(dims, 2) if dims[a] == dims[b]]
        if not pairs:
            return {"retrieval": retrieval.SCHEMA.empty_table()}
        sample = self._sample
        parts = self._parts(CodeSet("joint"))
        features = self._features_at(parts, sample.rows, reducer)
        found = retrieval.table(
            "raw",
            None,
            "none",
            pairs,
            sample,
            self._modalities,
            lambda source, _: features[source],
            lambda target: features[target],
        )
        return {"retrieval": found}

    def _classify(self, code_set: CodeSet, reducer: Executor) -> dict[str, pa.Table]:
        assert self.labels is not None
        parts = self._parts(code_set)
        rows = self._labelled_sample(self.config.probe_rows)
        labels = self.labels.with_ancestors(rows)
        codes = self._codes_of(parts, rows, reducer)
        probes = [
            probe.table(
                codes.matrix(stream, parts.latents),
                labels,
                self.labels.class_ids,
                code_set,
                stream,
                self.config.seed,
            )
            for stream in codes.streams
        ]
        rows, images = self._classified
        codes = self._codes_of(parts, rows, reducer)
        row = partial(classification.row, mode=code_set.mode, control=code_set.control)
        lines = [
            row(
                "codes",
                source=stream,
                target=stream,
                inputs=codes.matrix(stream, parts.latents),
                images=images,
            )
            for stream in codes.streams
        ]
        # Of unrelated rows a reconstruction says no more than its code.
        if not parts.permuted:
            model = self._model_of(code_set)
            lines += [
                row(
                    "reconstruction",
                    source=source,
                    target=target,
                    inputs=decode(model, codes, source, target),
                    images=images,
                )
                for source in codes.streams
                for target in codes.streams
            ]
        return {"probe": pa.concat_tables(probes), "classification": pa.concat_tables(lines)}

    def _classify_raw(self, reducer: Executor) -> dict[str, pa.Table]:
        rows, images = self._classified
        features = self._features_at(self._parts(CodeSet("joint")), rows, reducer)
        lines = [
            classification.row("raw", None, "none", stream, stream, features[stream], images)
            for stream in self.writer.info.streams
        ]
        return {"classification": pa.concat_tables(lines)}

    @cached_property
    def _classified(self) -> tuple[npt.NDArray[np.int64], classification.Images]:
        """The rows that classification is measured on, one an image, and their labels."""
        assert self.labels is not None
        rows = self._labelled_sample(self.config.rows)
        return rows, classification.choose_images(
            self.labels.with_ancestors(rows), self.config.seed
        )

    def _labelled_sample(self, size: int) -> npt.NDArray[np.int64]:
        """The first analysed rows of some labelled images drawn at random, ascending."""
        assert self.labels is not None
        first = self.images.first_rows(self.store.valid & self.labels.labelled)
        generator = np.random.default_rng([self.config.seed, len(first)])
        return np.sort(generator.permutation(first)[:size])

    def _codes_of(self, parts: Parts, rows: npt.NDArray[np.int64], reducer: Executor) -> CodeRows:
        codes: CodeRows = reducer.reduce(_codes_at, concatenate, (parts, rows), len(parts))
        return codes.take(np.argsort(codes.rows))

    @cached_property
    def _one_a_image(self) -> npt.NDArray[np.int64]:
        """The first analysed row of each image."""
        return self.images.first_rows(self.store.valid)

    @cached_property
    def _folds(self) -> Folds:
        return assign_folds(self.images, self.config.seed)

    @property
    def _modalities(self) -> dict[str, Any]:
        return {name: self.cache.streams[name].modality for name in self.writer.info.streams}

    def _model_of(self, code_set: CodeSet) -> Sparc:
        if code_set.control != "untrained":
            return self.subject.model
        assert self.subject.untrained is not None
        return self.subject.untrained

    @cached_property
    def _sample(self) -> retrieval.Sample:
        sample = retrieval.choose_sample(
            self.images, self.store.valid, self.config.rows, self.config.seed
        )
        return sample.with_captions(self._captions_of(sample.rows))

    def _captions_of(self, rows: npt.NDArray[np.int64]) -> pa.Array:
        """The captions of some rows of the cache, which ascend; null where there is none."""
        found, first = [], 0
        for batch in self.cache.row_batches(["caption"], _CAPTIONS):
            begin, end = np.searchsorted(rows, [first, first + len(batch)])
            found.append(batch.column("caption").take(pa.array(rows[begin:end] - first)))
            first += len(batch)
        return pa.concat_arrays(found)

    def _features_at(
        self, parts: Parts, rows: npt.NDArray[np.int64], reducer: Executor
    ) -> Mapping[str, npt.NDArray[Any]]:
        return reducer.reduce(_take_features, _join_features, (parts, rows), len(parts))


# ---------------------------------------------------------------------- what is done for each part


def _in_batches(
    codes: CodeRows,
    count: Callable[[CodeRows], _Counts],
    merge: Callable[[Sequence[_Counts]], _Counts],
) -> _Counts:
    """What is counted of some rows, so many at a time."""
    counted = map(count, codes.batches(_COUNTED))
    return reduce(lambda total, more: merge([total, more]), counted)


_PartCounts = tuple[latents.LatentCounts, overlap.PairCounts, agreement.ClassCounts | None]


def _count_part(shared: tuple[Parts, Labels | None, int], part: int) -> _PartCounts:
    parts, labels, top = shared

    def merge(found: Sequence[_PartCounts]) -> _PartCounts:
        return _merge_counts(top, found)

    def count(some: CodeRows) -> _PartCounts:
        return (
            latents.count_latents(
                some,
                parts.latents,
                top=top,
                marked=labels.labelled[some.rows] if labels is not None else None,
            ),
            overlap.count_pairs(some, parts.latents),
            agreement.count_classes(some, labels, parts.latents) if labels is not None else None,
        )

    return _in_batches(parts.codes(part), count, merge)


def _merge_counts(top: int, found: Sequence[Any]) -> tuple[Any, Any, Any]:
    counts, pairs, classes = zip(*found, strict=True)
    return (
        latents.merge(counts, top=top),
        overlap.merge(pairs),
        agreement.merge(classes) if classes[0] is not None else None,
    )


def _reconstruct_part(shared: tuple[Parts, Sparc, Folds], part: int) -> reconstruction.ErrorSums:
    parts, model, folds = shared
    return reconstruction.sum_errors(model, parts.features(part), parts.codes(part), folds)


def _selection_part(shared: tuple[Parts, Parts, Folds], part: int) -> selection.SharedChoices:
    joint, independent, folds = shared
    return selection.count_choices(joint.codes(part), independent.codes(part), joint.latents, folds)


def _purity_part(shared: tuple[Parts, sparse.csr_matrix], part: int) -> purity.RowCounts:
    parts, carried = shared
    return _in_batches(
        parts.codes(part),
        lambda some: purity.count_rows(some, carried, parts.latents),
        purity.merge,
    )


class _Labelled(NamedTuple):
    """Of labelled rows, the strongest of each latent, and the codes of those in a fold."""

    lists: dict[str, top_rows.TopRows]
    fold_codes: CodeRows


def _labelled_part(shared: tuple[Parts, npt.NDArray[np.bool_], Folds, int], part: int) -> _Labelled:
    parts, labelled, folds, length = shared
    codes = parts.codes(part)
    codes = codes.take(np.flatnonzero(labelled[codes.rows]))
    return _Labelled(
        {stream: top_rows.strongest(codes, stream, length) for stream in codes.streams},
        codes.take(np.flatnonzero(folds.of_row[codes.rows])),
    )


def _merge_labelled(length: int, found: Sequence[_Labelled]) -> _Labelled:
    lists, fold_codes = zip(*found, strict=True)
    return _Labelled(
        {s: top_rows.merge([part[s] for part in lists], length) for s in lists[0]},
        concatenate(fold_codes),
    )


def _codes_at(shared: tuple[Parts, npt.NDArray[np.int64]], part: int) -> CodeRows:
    parts, rows = shared
    codes = parts.codes(part)
    return codes.take(np.flatnonzero(np.isin(codes.rows, rows)))


def _take_features(
    shared: tuple[Parts, npt.NDArray[np.int64]], part: int
) -> dict[str, npt.NDArray[Any]]:
    parts, rows = shared
    positions = np.flatnonzero(np.isin(parts.rows(part), rows))
    return {stream: values[positions] for stream, values in parts.features(part).items()}


def _join_features(
    found: Sequence[Mapping[str, npt.NDArray[Any]]],
) -> dict[str, npt.NDArray[Any]]:
    return {stream: np.concatenate([part[stream] for part in found]) for stream in found[0]}


# ---------------------------------------------------------------------- what a report is about


def _prepare(
    subject: Subject, cache: ActivationCache, folder: Folder, config: AnalyzeConfig
) -> Job:
    streams = choose_streams(subject, cache, config.streams)
    captions = cache.row_batches(["caption"], _CAPTIONS)
    captioned = any(batch.column("caption").null_count < len(batch) for batch in captions)
    valid = cache.valid_rows(streams)
    if not valid.any():
        raise CacheError(f"{cache.folder} has no row that is valid in {', '.join(streams)}")
    labels = read_labels(cache)
    if labels is not None and not labels.labelled[valid].any():
        labels = None  # those that there are belong to rows that are not analysed
    info = cache.info
    layout = CodeLayout(
        streams=streams,
        latents=subject.model.config.latents,
        k=subject.model.config.k,
        rows=info.rows,
        rows_per_chunk=info.rows_per_chunk,
    )
    starts = range(0, info.rows, info.rows_per_chunk)
    images = read_images(cache.rows(["sample_id"])["sample_id"], valid)
    permutation = Permutation(
        counts=tuple(np.add.reduceat(valid.astype(np.int64), starts).tolist()),
        sizes=images.rows(valid).astype(np.int32),
        block_rows=config.permute_rows,
        seed=config.seed,
    )
    writer = ReportWriter(
        folder,
        ReportInfo(
            run=_absolute(subject.location),
            model_sha256=subject.digest,
            cache=_absolute(cache.folder.location),
            manifest_digest=info.manifest_digest,
            streams=streams,
            stream_digests={s: cache.streams[s].origin.weights_sha256 for s in streams},
            latents=layout.latents,
            k=layout.k,
            selection=subject.model.config.selection,
            rows=int(valid.sum()),
            settings=deciding_settings(config),
            notes=tuple(_notes(subject, streams, labels, captioned, permutation, config)),
            versions=software_versions(),
        ),
    )
    for note in writer.info.notes:
        say(f"note: {note}")
    code_sets = _code_sets(subject, config)
    store = CodeStore(folder)
    stored = [s for s in code_sets if s.stored]
    store.create(layout, valid, stored)
    store.discard_damaged(stored)
    return Job(
        subject=subject,
        cache=cache,
        writer=writer,
        store=store,
        permutation=permutation,
        images=images,
        labels=labels,
        captioned=captioned,
        code_sets=code_sets,
        config=config,
    )


def _absolute(location: str) -> str:
    """A location that still holds elsewhere; a URL or a hub repository is one already."""
    local = Folder(location).local
    return str(local.absolute()) if local is not None and local.exists() else location


def _code_sets(subject: Subject, config: AnalyzeConfig) -> tuple[CodeSet, ...]:
    sets = [CodeSet("joint"), CodeSet("independent")]
    if config.permuted:
        sets += [
            CodeSet("joint", "permuted_before"),
            CodeSet("joint", "permuted_after"),
            CodeSet("independent", "permuted"),
        ]
    if config.untrained and subject.untrained is not None:
        sets += [CodeSet("joint", "untrained"), CodeSet("independent", "untrained")]
    return tuple(sets)


def _notes(
    subject: Subject,
    streams: Sequence[str],
    labels: Labels | None,
    captioned: bool,
    permutation: Permutation,
    config: AnalyzeConfig,
) -> list[str]:
    notes = []
    absent = [name for name in subject.model.config.names if name not in streams]
    if absent:
        are = "is" if len(absent) == 1 else "are"
        notes.append(
            f"of the model's streams, {', '.join(absent)} {are} left out: streams select together "
            "with those that are there, so joint figures are those of the streams left"
        )
    if len(streams) == 1:
        notes.append("there is one stream: agreement, overlap and retrieval compare nothing")
    if labels is None:
        notes.append(
            "no analysed row has a label: there is no agreement, purity, probe or classification"
        )
    if not captioned:
        notes.append("the cache has no captions: there is no naming")
    if not config.untrained:
        notes.append("the untrained control is left out (--no-untrained)")
    elif subject.untrained is None:
        notes.append(
            f"{subject.location} is a saved model without its run: the untrained control is left "
            "out, and whether the cache comes from the same encoders could not be checked"
        )
    if not config.permuted:
        notes.append("the permuted controls are left out (--no-permuted)")
    elif not permutation.exact:
        notes.append(
            f"images are permuted in {len(permutation.blocks)} random blocks of up to "
            f"{config.permute_rows:,} rows, not all at once (--permute-rows)"
        )
    if config.permuted and (near := permutation.inseparable(len(streams))):
        notes.append(
            f"{amount(near, 'image')} of {len(permutation.sizes):,} have a number of rows that at "
            f"most {len(streams) - 1} others have: the permuted controls, which exchange images "
            "with as many rows, cannot keep all of their streams apart"
        )
    return notes
