"""The import: writing the streams of a plan, chunk by chunk.

Like an extraction it may be stopped anywhere and continues with the next chunk. A stream remembers
the file that it came from: one that has changed since is refused, not mixed in.
"""

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparc.common.cache import tables
from sparc.common.cache.features import bad_features
from sparc.common.cache.info import CacheInfo
from sparc.common.cache.own.values import require_same_features
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.removal import remove_cache
from sparc.common.cache.resume import recognize
from sparc.common.cache.thumbnails.own_images import write_thumbnails
from sparc.common.cache.writer import ChunkWriter
from sparc.common.errors import CacheError
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive
from sparc.common.progress import progress, say
from sparc.common.streams.info import StreamInfo
from sparc.common.streams.origin import ImportedFrom
from sparc.common.text import amount, shorten, size
from sparc.common.timing.file import check_timings_file
from sparc.common.timing.phases import Phase, Role
from sparc.common.timing.shares import Shares
from sparc.common.timing.stopwatch import Stopwatch
from sparc.common.timing.timekeeper import Timekeeper
from sparc.common.timing.timings import Timings
from sparc.extract.importing.config import ImportConfig
from sparc.extract.importing.gathering import Gathered
from sparc.extract.importing.plan import Plan
from sparc.extract.summary import reasons_of

COMMAND = "sparc-extract import"

_BOUND = 0.75
"""The share of the time at least of what bounds an import."""

LACKING = "the imported file has no feature of this row"
"""The reason of a row that only other streams have."""


class Summary(NamedTuple):
    """What an import did.

    Attributes:
        cache: The cache, complete in the import's streams.
        rows: Rows that were written for at least one stream.
        timings: Where the time of reading and writing went.
    """

    cache: ActivationCache
    rows: int
    timings: Timings

    def __str__(self) -> str:
        info = self.cache.info
        done = "nothing was left to do"
        if self.rows:
            rate = self.rows / max(self.timings.seconds, 1e-9)
            done = f"{amount(self.rows, 'row')} imported, {rate:,.0f} rows/s"
        rejects = Counter(self.cache.rejects()["stream"].to_pylist())
        parts = [f"{done}. {self.cache.folder} holds {amount(info.rows, 'row')}"]
        for name in self.cache.stream_names:
            lacking = f", {rejects[name]:,} without a feature" if rejects[name] else ""
            parts.append(f"{name} (dim {self.cache.stream(name).dim}{lacking})")
        return f"{', '.join(parts)}; {size(self.cache.folder.size())}."


def run(plan: Plan, location: str, config: ImportConfig, *, overwrite: bool = False) -> Summary:
    """Write the streams of a plan into a cache, or continue where an earlier import stopped.

    Args:
        plan: See `make_plan`.
        location: The cache's folder or URL.
        config: The settings.
        overwrite: Remove the cache that the folder holds first, whatever it is of.

    Raises:
        CacheError: The folder holds something else, a file changed since its stream was begun, a
            value does not fit float16, or no row of a stream has a feature.
        LockedError: Another process writes to the cache.
    """
    check_timings_file(config.timings)
    folder = Folder(location)
    written: set[int] = set()
    with exclusive(folder, recognize):
        if overwrite:
            remove_cache(folder)
        writer = ChunkWriter.open(
            folder, plan.manifest, rows_per_chunk=plan.rows_per_chunk, repair=config.repair
        )
        infos = [_as_begun(writer, info) for info in plan.infos]
        missing = {info.name: writer.open_stream(info) for info in infos}
        same_image = tables.same_image(plan.manifest.rows)
        total = sum(_rows_of(writer.info, chunks) for chunks in missing.values())
        times = Stopwatch(Role.IMPORTER)
        all_rows = writer.info.rows * len(infos)
        with (
            Timekeeper(COMMAND, lambda: [times.shares()], _advice, config.timings) as timekeeper,
            times.running(),
        ):
            with progress(all_rows, "importing", initial=all_rows - total) as bar:
                for stream, info in zip(plan.streams, infos, strict=True):
                    array_rows = plan.alignment.array_rows[f"stream {stream.name}"]
                    gathered = Gathered(stream.array, array_rows, _spool(folder))
                    for chunk in missing[stream.name]:
                        _write_chunk(writer, info, chunk, gathered, same_image, times)
                        count = len(writer.info.chunk_rows(chunk))
                        times.add_rows(0 if chunk in written else count)
                        written.add(chunk)
                        bar.update(count)
                        timekeeper.show(bar)
            rows = _rows_of(writer.info, written)
            with times.at(Phase.WRITE):
                writer.finish()
            cache = ActivationCache(folder)
            _require_features(cache, infos)
            if config.images and config.thumbnails:
                dataset, longest = plan.manifest.dataset, config.thumbnails
                with times.at(Phase.PREPARE):
                    write_thumbnails(folder, writer.info, plan.manifest.rows, dataset, longest)
    return Summary(ActivationCache(folder), rows, timekeeper.ended)


def _advice(shares: Sequence[Shares]) -> str:
    """What bounds the import: one thread reads and writes."""
    (importer,) = shares
    for phase, what in ((Phase.READ, "reading the features"), (Phase.WRITE, "writing the cache")):
        if importer.share(phase) >= _BOUND:
            return f"{what} is the bound: a faster disk for that helps"
    return ""


def _rows_of(info: CacheInfo, chunks: "Sequence[int] | set[int]") -> int:
    return sum(len(info.chunk_rows(chunk)) for chunk in chunks)


def _spool(folder: Folder) -> Path:
    """Where there is room for a copy of features: beside the cache."""
    return folder.local.absolute().parent if folder.local else Path(tempfile.gettempdir())


def _as_begun(writer: ChunkWriter, wanted: StreamInfo) -> StreamInfo:
    """A stream as the cache records it, where only the place of its file is another one.

    Raises:
        CacheError: The file, or how its rows are brought together, has changed.
    """
    if wanted.name not in writer.info.streams:
        return wanted
    begun = writer.cache.stream(wanted.name)
    there, now = begun.origin.imported, wanted.origin.imported
    assert now is not None
    if there is None:
        return wanted  # refused by the writer, unless nothing of it is written
    if dataclasses.replace(there, path=now.path) != now:
        what = next(
            f"{field.name}: {getattr(there, field.name)} there, {getattr(now, field.name)} now"
            for field in dataclasses.fields(ImportedFrom)
            if field.name != "path" and getattr(there, field.name) != getattr(now, field.name)
        )
        raise CacheError(
            f"{writer.folder}: stream {wanted.name} was imported from another file, or this one "
            f"has changed ({shorten(now.path, 200)}; {what}): import it into another folder, "
            "under another name, or give --overwrite"
        )
    return dataclasses.replace(wanted, origin=begun.origin)


def _write_chunk(
    writer: ChunkWriter,
    info: StreamInfo,
    chunk: int,
    gathered: Gathered,
    same_image: npt.NDArray[np.bool_],
    times: Stopwatch,
) -> None:
    rows = writer.info.chunk_rows(chunk)
    with times.at(Phase.READ):
        values, has = gathered.chunk(rows)
    if info.modality == "image" and same_image[rows.start : rows.stop].any():
        _require_same(writer, info, rows, values, same_image)
    reasons = bad_features(values, rows.start, dtype=info.dtype)
    reasons |= {rows.start + int(row): LACKING for row in np.flatnonzero(~has)}
    with times.at(Phase.WRITE):
        writer.write(info.name, chunk, values, reasons)


def _require_same(
    writer: ChunkWriter,
    info: StreamInfo,
    rows: range,
    values: npt.NDArray[Any],
    same_image: npt.NDArray[np.bool_],
) -> None:
    """Refuse rows of one name with several features of an image."""
    before = rows.start // writer.info.rows_per_chunk - 1
    stored = values
    first = rows.start
    if before >= 0 and same_image[rows.start]:
        last = writer.cache.features(info.name, before)[-1:]
        stored, first = np.concatenate([last.astype(values.dtype), values]), rows.start - 1
    same = same_image[first : rows.stop].copy()
    same[0] = False
    try:
        require_same_features(info, stored, same, first_row=first)
    except CacheError as error:
        raise CacheError(
            f"{shorten(str(error).partition(';')[0], 200)}: two entries have one name; name each "
            f"row once, take rows as they are with --align rows, or, where several texts of one "
            f"image have features, say --modality {info.name}=text; then import again with "
            "--overwrite"
        ) from error


def _require_features(cache: ActivationCache, infos: Sequence[StreamInfo]) -> None:
    """Refuse a stream without any feature, and say how many rows hold none."""
    for name, reasons in reasons_of(cache, [info.name for info in infos]).items():
        for why, rows in reasons.most_common():
            say(f"stream {name}: {amount(rows, 'row')} without a feature: {why}")
