"""From a run and a cache to a report.

Codes are written chunk by chunk; then each step of each measure adds its pieces to the tables, and
a step whose pieces exist is skipped. `sparc.analyze.plan` lists the steps, `sparc.analyze.measures`
says what they measure.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby

import numpy as np
import pyarrow as pa

from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.codes.encode import encode_missing, encode_permuted
from sparc.analyze.codes.on_cluster import encode_missing_there, encode_permuted_there
from sparc.analyze.codes.permutation import Permutation
from sparc.analyze.codes.store import CodeLayout, CodeStore
from sparc.analyze.codes.subject import Subject, choose_streams, open_subject
from sparc.analyze.config import AnalyzeConfig, deciding_settings
from sparc.analyze.context import Context
from sparc.analyze.maths.reduction import Reducer, open_reducer
from sparc.analyze.measure import Scope, Step
from sparc.analyze.measures.registry import MEASURES
from sparc.analyze.plan import (
    choose_code_sets,
    choose_measures,
    make_notes,
    plan_steps,
    tables_by_step,
)
from sparc.analyze.removal import remove_report
from sparc.analyze.report.figures import figures
from sparc.analyze.report.folder import Report
from sparc.analyze.report.info import ReportInfo
from sparc.analyze.report.summary_file import check_summary_file, write_summary
from sparc.analyze.report.summary_page import summary_page
from sparc.analyze.report.writer import ReportWriter, recognize
from sparc.analyze.rows.images import count_parts, read_images
from sparc.analyze.rows.labels import read_labels
from sparc.analyze.timings import AnalysisTimes
from sparc.common.cache.reader import ActivationCache
from sparc.common.devices import choose_device
from sparc.common.errors import CacheError
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive
from sparc.common.files.shipped import recorded
from sparc.common.progress import progress, say
from sparc.common.timing.file import check_timings_file
from sparc.common.timing.phases import Phase
from sparc.common.timing.timekeeper import say_if_long
from sparc.common.versions import software_versions

Location = str | os.PathLike[str]

_CAPTIONS = 1 << 16
"""Captions read at a time."""


def analyze(
    run: Location,
    cache: Location,
    report: Location,
    config: AnalyzeConfig | None = None,
    *,
    overwrite: bool = False,
) -> Report:
    """Measure a trained model on a cache, and write a report.

    After an interruption the same call continues where it stopped. A finished report gets the
    tables, figures and notes of measures that are newer than it; what it has stays.

    Args:
        run: A finished run's folder, a saved model's folder, or a hub repository.
        cache: An activation cache, usually not the one that was trained on.
        report: The report's folder or URL.
        config: The settings.
        overwrite: Remove the report that the folder holds first, whatever it is about.

    Returns:
        The finished report.

    Raises:
        SparcError: Run and cache do not go together, the report is on something else, another
            process writes to it, or a file is damaged.
    """
    config = config or AnalyzeConfig()
    folder = Folder(report)
    if config.summary is not None:
        check_summary_file(config.summary)
    check_timings_file(config.timings)
    with exclusive(folder, recognize), open_reducer(config.scheduler, config.workers) as reducer:
        subject, opened = open_subject(os.fspath(run)), ActivationCache(cache)
        times = AnalysisTimes(reducer.shares, config.timings)
        with times.keeper:
            with times.tables.running():
                analysis = _prepare(subject, opened, folder, config, overwrite=overwrite)
            with times.codes.running():
                analysis.encode(reducer, times)
            with times.tables.running():
                if analysis.writer.finished:
                    analysis.writer.add_figures(figures(folder))
                else:
                    analysis.measure(reducer, times)
    finished = Report(report)
    if config.summary is not None:
        write_summary(config.summary, summary_page([finished]))
    say_if_long(times.keeper.ended)
    return finished


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Analysis:
    """A report that is being made.

    Attributes:
        context: What its measures share.
        writer: The report.
        code_sets: The sets of codes that are measured, in the order of the tables.
        steps: What is measured on them, step by step.
    """

    context: Context
    writer: ReportWriter
    code_sets: tuple[CodeSet, ...]
    steps: Sequence[Step]

    def encode(self, reducer: Reducer, times: AnalysisTimes) -> None:
        """Write the codes that are missing.

        A cluster's workers do so on their CPUs, unless this process has a GPU: codes of different
        devices differ in the last bits.
        """
        store, cache, config = self.context.store, self.context.cache, self.context.config
        if not any(store.missing(s) for s in self.code_sets if s.stored):
            return
        device = choose_device(config.device)
        encode: Callable[..., None] = partial(encode_missing, times=times)
        permute: Callable[..., None] = partial(encode_permuted, times=times)
        if reducer.distributed and device.type == "cpu":
            encode = partial(encode_missing_there, reducer)
            permute = partial(encode_permuted_there, reducer)
        size = config.batch_size
        model = self.context.subject.model.to(device)
        encode(store, cache, model, control="trained", batch_size=size)
        if config.permuted:
            permute(store, cache, model, self.context.permutation, batch_size=size)
        untrained = CodeSet("joint", "untrained")
        if untrained in self.code_sets:
            model = self.context.model(untrained).to(device)
            encode(store, cache, model, control="untrained", batch_size=size)

    def measure(self, reducer: Reducer, times: AnalysisTimes) -> None:
        """Make the pieces that are missing, the tables of them, and the summary."""
        if reducer.distributed:
            # A worker of a cluster need not have the device that encoded.
            for model in (self.context.subject.model, self.context.subject.untrained):
                if model is not None:
                    model.to("cpu")
        missing = [s for s in self.steps if not self.writer.has_pieces(s.name, s.tables)]
        done = len(self.steps) - len(missing)
        with progress(len(self.steps), "tables", unit="steps", initial=done) as bar:
            for name, shared in groupby(missing, key=lambda step: step.name):
                bar.set_postfix_str(name)
                for step in shared:
                    with times.step(name):
                        self._measure(step, reducer)
                    times.keeper.record()
                    bar.update(1)
                self.context.forget()
        with times.tables.at(Phase.WRITE):
            self.writer.join(tables_by_step(self.steps))
            self.writer.finish(figures(self.writer.folder))

    def _measure(self, step: Step, reducer: Reducer) -> None:
        if step.code_set is None:
            tables = step.measure.measure_raw(self.context, reducer)
        else:
            tables = step.measure.measure(self.context, step.code_set, reducer)
        schemas = step.measure.schemas()
        for name in step.tables:
            _check_columns(step, tables[name], schemas[name], name)
            self.writer.write_piece(step.name, name, tables[name])


def _check_columns(step: Step, table: pa.Table, declared: pa.Schema, name: str) -> None:
    """Check that a measure makes the table that it declares: the pieces of a table must fit."""
    if not table.schema.equals(declared):
        raise TypeError(
            f"the measure {step.measure.name!r} declares another schema of {name!r} than that of "
            f"the table that it makes: {declared} declared, {table.schema} made"
        )


def _prepare(
    subject: Subject,
    cache: ActivationCache,
    folder: Folder,
    config: AnalyzeConfig,
    *,
    overwrite: bool,
) -> _Analysis:
    streams = choose_streams(subject, cache, config.streams)
    captions = cache.row_batches(["caption"], _CAPTIONS)
    captioned = any(batch.column("caption").null_count < len(batch) for batch in captions)
    valid = cache.valid_rows(streams)
    if not valid.any():
        raise CacheError(f"{cache.folder} has no row that is valid in {', '.join(streams)}")
    labels = read_labels(cache)
    if labels is not None and not labels.labelled[valid].any():
        labels = None  # no analysed row has one
    info = cache.info
    layout = CodeLayout(
        streams=streams,
        latents=subject.model.config.latents,
        k=subject.model.config.width,
        rows=info.rows,
        rows_per_chunk=info.rows_per_chunk,
        padded=subject.model.selector.leaves_out,
    )
    starts = range(0, info.rows, info.rows_per_chunk)
    images = read_images(cache, valid)
    permutation = Permutation(
        counts=tuple(np.add.reduceat(valid.astype(np.int64), starts).tolist()),
        sizes=images.rows(valid).astype(np.int32),
        block_rows=config.permute_rows,
        seed=config.seed,
    )
    measures = choose_measures(MEASURES, labelled=labels is not None, captioned=captioned)
    left_out = [measure for measure in MEASURES if measure not in measures]
    code_sets = choose_code_sets(subject, config)
    steps = plan_steps(measures, code_sets)
    scope = Scope(
        subject=subject,
        streams=streams,
        rows=int(valid.sum()),
        labels=labels,
        permutation=permutation,
        parts=count_parts(cache),
        config=config,
    )
    if overwrite:  # not earlier: nothing is removed where run and cache cannot make another one
        remove_report(folder)
    writer = ReportWriter.open(
        folder,
        ReportInfo(
            run=recorded(subject.location),
            model_sha256=subject.digest,
            cache=recorded(cache.folder.location),
            manifest_digest=info.manifest_digest,
            streams=streams,
            stream_digests={s: cache.streams[s].origin.digest for s in streams},
            latents=layout.latents,
            k=subject.model.config.k,
            selection=subject.model.config.selection,
            rows=scope.rows,
            settings=deciding_settings(config),
            notes=tuple(make_notes(scope, measures, left_out)),
            versions=software_versions(),
        ),
        {table for step in steps for table in step.tables},
    )
    for note in writer.info.notes:
        say(f"note: {note.text}")
    store = CodeStore(folder)
    stored = [s for s in code_sets if s.stored]
    store.create(layout, valid, stored)
    store.discard_damaged(stored)
    context = Context(
        subject=subject,
        cache=cache,
        store=store,
        permutation=permutation,
        images=images,
        labels=labels,
        config=config,
    )
    return _Analysis(context=context, writer=writer, code_sets=code_sets, steps=steps)
