"""What an import will do: which arrays become which streams, and whose rows they are."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparc.common.cache import tables
from sparc.common.cache.account.account import DatasetAccount, UnusedFiles, UsedFiles
from sparc.common.cache.info import ARRAYS_DATASET, IMPORTED
from sparc.common.cache.manifest import Manifest
from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import DatasetError
from sparc.common.streams.info import StreamInfo
from sparc.common.streams.origin import StreamOrigin
from sparc.common.text import amount, shorten, size
from sparc.extract.importing.alignment import (
    BARE,
    Alignment,
    ArrayRows,
    Part,
    align,
    array_rows_by_name,
    comparable,
)
from sparc.extract.importing.config import ImportConfig
from sparc.extract.importing.finding import Finder, FoundStream
from sparc.extract.importing.joining import align_with, manifest_of
from sparc.extract.importing.rows import Describer, KnownRows, known_rows, table_ids


@dataclasses.dataclass(frozen=True)
class Plan:
    """What an import will do.

    Attributes:
        streams: The streams, in order.
        infos: What the cache will record of each.
        alignment: Whose rows they are.
        manifest: The rows.
        rows_per_chunk: Rows per chunk.
        lines: What to say about rows and what is known of them.
    """

    streams: Sequence[FoundStream]
    infos: Sequence[StreamInfo]
    alignment: Alignment
    manifest: Manifest
    rows_per_chunk: int
    lines: tuple[str, ...]


def make_plan(source: Path, config: ImportConfig, location: str = "") -> Plan:
    """Find the streams of a source, bring their rows together and describe them.

    Args:
        source: The file or folder that was named.
        config: The settings.
        location: The cache, whose rows the streams get with `join`.

    Raises:
        DatasetError: A file is in no format or damaged, rows cannot be brought together, or what
            was asked for is not there.
    """
    finder = Finder(source, config)
    streams = finder.streams()
    if config.join:
        cache = ActivationCache(location)
        joined = align_with(cache, streams)
        infos = [_stream_info(s, config, by_ids=s.ids is not None) for s in streams]
        chunk_rows = cache.info.rows_per_chunk
        lines = (*_several_files(streams), *joined.lines)
        return Plan(streams, infos, joined, manifest_of(cache), chunk_rows, lines)
    by_ids = {"auto": None, "ids": True, "rows": False}[config.align]
    parts = [Part(f"stream {s.name}", s.array.rows, s.ids) for s in streams]
    alignment = align(parts, by_ids=by_ids)
    known = known_rows(config, streams)
    take = _Taking(config, known, alignment, parts[0])
    described = Describer(config, known, take.column).describe(alignment.ids, alignment.rows)
    infos = [_stream_info(stream, config, by_ids=alignment.by_ids) for stream in streams]
    manifest = Manifest(
        dataset=described.dataset or ARRAYS_DATASET,
        dataset_format=IMPORTED,
        split="",
        rows=described.rows,
        classes=described.classes,
        account=_account(finder, streams, described.used, described.rows),
    )
    lines = (*_several_files(streams), *alignment.lines, *take.lines, *described.lines)
    return Plan(streams, infos, alignment, manifest, config.rows_per_chunk, lines)


class _Taking:
    """Brings a column of what is known to the rows of the cache."""

    def __init__(
        self, config: ImportConfig, known: KnownRows | None, alignment: Alignment, first: Part
    ) -> None:
        self.lines: list[str] = []
        self._array_rows: ArrayRows | None = None
        self._stream = known.stream if known else ""
        if known is None:
            return
        if known.stream:
            self._array_rows = alignment.array_rows[f"stream {known.stream}"]
            return
        ids, rows = table_ids(known, config), known.rows or 0
        if ids is None or alignment.ids is None:
            if rows != first.rows:
                named = "" if ids is None else ", and no stream has names of rows"
                raise DatasetError(
                    f"{known.where} has {amount(rows, 'row')}, {first.name} {first.rows:,}"
                    f"{named}: say with --id-column and --ids what names them"
                    + (f" ({known.note})" if known.note else "")
                )
            self._array_rows = alignment.array_rows[first.name]
            return
        wanted = alignment.ids
        if (alike := comparable([wanted, ids])) is not None:
            wanted, ids = alike
            self.lines.append(f"{known.where}: {BARE}")
        self._array_rows = array_rows_by_name(ids, wanted)
        lacking = int((self._array_rows < 0).sum())
        if lacking == len(self._array_rows):
            raise DatasetError(
                f"{known.where} names none of the rows of the streams (it has {str(ids[0])!r}, "
                f"they have {str(alignment.ids[0])!r}): say with --id-column which column does, or "
                "take lines as they follow one another with --align rows"
            )
        if lacking:
            total = amount(len(self._array_rows), "row")
            self.lines.append(f"{known.where} has no line for {lacking:,} of {total}")
        further = rows - len(np.unique(self._array_rows[self._array_rows >= 0]))
        if further:
            self.lines.append(f"{amount(further, 'line')} of {known.where} stand for no row")

    def column(self, values: pa.Array) -> pa.Array:
        """A column by row of the cache; null where that has no line."""
        if self._array_rows is None:
            return values
        array_rows = pa.array(self._array_rows, mask=self._array_rows < 0)
        return values.take(array_rows)


def _several_files(streams: Sequence[FoundStream]) -> list[str]:
    """Which streams are read of more than one file, and in which order."""
    lines = []
    for stream in streams:
        first, *others = stream.file.files()
        if others:
            lines.append(
                f"stream {stream.name}: the rows of {len(others) + 1:,} files, {first.name} to "
                f"{others[-1].name}, one after the other"
            )
    return lines


def _stream_info(stream: FoundStream, config: ImportConfig, *, by_ids: bool) -> StreamInfo:
    automatic: Literal["float16", "float32"] = (
        "float16" if stream.array.dtype == "float16" else "float32"
    )
    return StreamInfo(
        name=stream.name,
        modality=stream.modality,
        dim=stream.array.dim,
        dtype=automatic if config.dtype == "auto" else config.dtype,
        origin=StreamOrigin(spec="array", imported=stream.imported(by_ids=by_ids)),
    )


def _account(
    finder: Finder, streams: Sequence[FoundStream], table: UsedFiles | None, rows: pa.Table
) -> DatasetAccount:
    """What was used of the source, and what was not."""
    by_file: dict[Path, list[str]] = {}
    for stream in streams:
        by_file.setdefault(stream.file.path, []).append(stream.key)
        if stream.ids_in:
            by_file.setdefault(stream.ids_in[0], []).append(stream.ids_in[1])
    used = []
    for path, names in by_file.items():
        also = table if table is not None and table.what == str(path) else UsedFiles(what="")
        unused = tuple(name for name in also.unused if name not in names)
        advice = f"--column {unused[0]} keeps it" if unused else ""
        if not unused:
            unused = _further(finder, path, (*names, *also.used))
            advice = "of one file and group alone is that read; bring it into one --table"
        used.append(
            UsedFiles(
                what=finder.shown(path),
                used=tuple(filter(None, dict.fromkeys((*names, *also.used)))),
                unused=unused,
                advice=advice if unused else "",
            )
        )
    if table is not None and Path(table.what) not in by_file:
        used.append(dataclasses.replace(table, what=finder.shown(Path(table.what))))
    labelled = pc.sum(pc.greater(pc.list_value_length(rows["label_ids"]), 0)).as_py()
    return DatasetAccount(
        images=pc.count_distinct(rows["sample_id"]).as_py(),
        rows=len(rows),
        captioned=len(rows) - rows["caption"].null_count,
        labelled=labelled or 0,
        used=tuple(used),
        unused=tuple(
            UnusedFiles(what=finder.shown(path), advice=advice)
            for path, advice in finder.passed_over.items()
        ),
    )


def _further(finder: Finder, path: Path, used: Sequence[str]) -> tuple[str, ...]:
    """Columns of a file of features of which nothing was taken."""
    return tuple(name for name in finder.columns(path) if name not in used)


def describe(plan: Plan) -> list[str]:
    """The plan for a person to read; every line is safe to print."""
    lines = []
    for stream, info in zip(plan.streams, plan.infos, strict=True):
        imported = info.origin.imported
        assert imported is not None
        key = f"::{stream.key}" if stream.key else ""
        stored = len(plan.manifest.rows) * (info.dim * np.dtype(info.dtype).itemsize + 1)
        names = f", rows named by {stream.ids_in[1]}" if stream.ids_in else ""
        lines.append(
            f"stream    {info.name}: {info.modality}, {imported.rows:,} x {info.dim} "
            f"{imported.dtype} of {shorten(imported.path + key, 200)} ({imported.format}{names}), "
            f"stored as {info.dtype}, {size(stored)}"
        )
    if plan.manifest.account is not None:
        lines += plan.manifest.account.lines()
    if plan.alignment.by_ids and all(stream.ids is not None for stream in plan.streams):
        lines.append("aligned   by the names of rows")
    else:
        lines.append("aligned   as rows follow one another")
    lines += [f"note      {shorten(line, 300)}" for line in plan.lines]
    columns = tables.dataset_columns(plan.manifest.rows.schema)
    if columns:
        kept = ", ".join(f"{field.name} ({field.type})" for field in columns)
        lines.append(f"columns   {shorten(kept, 300)}")
    if len(plan.manifest.classes):
        lines.append(f"classes   {len(plan.manifest.classes):,}")
    return [line for line in lines if line]
