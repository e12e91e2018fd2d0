"""What is in a cache: what made it, how complete it is, and figures that show whether it is sound.

Features are read a chunk at a time; memory does not grow with the cache.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from sparc.common.cache.account.document import read_account
from sparc.common.cache.info import THUMBNAILS
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.shards.status import describe_shards
from sparc.common.cache.verify import Damage, check_copy, check_metadata
from sparc.common.errors import DamagedCacheError, IncompleteCacheError
from sparc.common.progress import progress
from sparc.common.streams.info import StreamInfo
from sparc.common.streams.origin import StreamOrigin
from sparc.common.text import amount, printable, shorten, size

FIRST_ROWS = 5
WIDTH = 60


class StreamFigures(NamedTuple):
    """Figures of a stream, over the chunks that are written.

    Attributes:
        info: What the stream is and what made it.
        chunks: Chunks written.
        damaged: Chunks that exist and cannot be read.
        valid: Rows with a feature, of those in written chunks.
        norm_mean: Mean L2 norm of the valid features; NaN without any.
        norm_deviation: Standard deviation of the norms.
        norm_smallest: Smallest norm.
        norm_largest: Largest norm.
        norm_of_mean: L2 norm of the mean feature; near the mean norm if all features are alike.
        reasons: Rows without a feature, by reason.
    """

    info: StreamInfo
    chunks: int
    damaged: int
    valid: int
    norm_mean: float
    norm_deviation: float
    norm_smallest: float
    norm_largest: float
    norm_of_mean: float
    reasons: Counter[str]


def measure(cache: ActivationCache, stream: str) -> StreamFigures:
    """Read a stream once and summarize it; damaged chunks are counted and skipped.

    Raises:
        DamagedCacheError: What made the stream, or why rows have no feature, cannot be read.
    """
    info = cache.stream(stream)
    norms = np.zeros(2)  # the sum of the norms and of their squares
    extremes = [np.inf, -np.inf]
    total = np.zeros(info.dim)
    chunks = damaged = valid_rows = 0
    for chunk in range(cache.info.chunks):
        try:
            valid = cache.valid(stream, chunk)
            features = cache.features(stream, chunk)[valid].astype(np.float32)
        except IncompleteCacheError:
            continue
        except DamagedCacheError:
            damaged += 1
            continue
        chunks += 1
        if len(features):
            length = np.linalg.norm(features, axis=1).astype(np.float64)
            norms += length.sum(), (length**2).sum()
            extremes = [min(extremes[0], length.min()), max(extremes[1], length.max())]
            total += features.sum(axis=0, dtype=np.float64)
            valid_rows += len(features)
    rejects = cache.rejects()
    reasons = rejects.filter(pc.equal(rejects.column("stream"), stream)).column("reason")
    mean, square = norms / valid_rows if valid_rows else (np.nan, np.nan)
    return StreamFigures(
        info=info,
        chunks=chunks,
        damaged=damaged,
        valid=valid_rows,
        norm_mean=float(mean),
        norm_deviation=float(np.sqrt(max(square - mean**2, 0.0))),
        norm_smallest=float(extremes[0]),
        norm_largest=float(extremes[1]),
        norm_of_mean=float(np.linalg.norm(total / valid_rows)) if valid_rows else float("nan"),
        reasons=Counter(reasons.to_pylist()),
    )


def describe(cache: ActivationCache) -> Iterator[str]:
    """A cache, described for a person to read, line by line; every line is safe to print.

    Raises:
        DamagedCacheError: After all the lines, if something could not be read.
    """
    info = cache.info
    yield f"activation cache {shorten(str(cache.folder), 200)}"
    yield f"  dataset   {shorten(info.dataset, 200)} ({shorten(info.dataset_format, WIDTH)})" + (
        f", split {shorten(info.split, WIDTH)}" if info.split else ""
    )
    sections: list[Callable[[], Iterator[str]]] = [
        partial(_refuse, cache, check_copy(cache)),
        partial(_describe_rows, cache),
        partial(_describe_account, cache),
        partial(_describe_classes, cache),
        partial(_describe_files, cache),
        partial(_describe_thumbnails, cache),
        partial(_describe_shards, cache),
        *(partial(_describe_stream, cache, stream) for stream in cache.stream_names),
        partial(_first_rows, cache),
    ]
    damaged = False
    with progress(len(sections), "reading", unit="parts") as bar:
        for section in sections:
            try:
                lines = list(section())
            except DamagedCacheError as error:
                lines = [f"DAMAGED   {printable(str(error).partition(';')[0])}"]
                damaged = True
            damaged = damaged or any(line.endswith("DAMAGED") for line in lines)
            yield from lines
            bar.update(1)
    if damaged:
        raise DamagedCacheError(
            f"{cache.folder} is damaged: `sparc-extract verify {cache.folder}` lists where; "
            f"{cache.repair_advice}"
        )


def _refuse(cache: ActivationCache, damages: Iterator[Damage]) -> Iterator[str]:
    """No lines, or the first damage as an error: damaged metadata may look sound."""
    for damage in damages:
        raise DamagedCacheError(f"{cache.folder}: {damage}")
    return iter(())


def _describe_rows(cache: ActivationCache) -> Iterator[str]:
    info = cache.info
    images = pc.count_distinct(cache.rows(["sample_id"]).column("sample_id")).as_py()
    yield f"  rows      {info.rows:,} of {amount(images, 'image')}, " + (
        f"{amount(info.chunks, 'chunk')} of up to {info.rows_per_chunk:,}"
    )
    if cache.columns:
        columns = (f"{field.name} ({field.type})" for field in cache.columns)
        yield f"  columns   {shorten(', '.join(columns), 300)}"


def _describe_account(cache: ActivationCache) -> Iterator[str]:
    account = read_account(cache.folder)
    if account is not None:
        yield from (f"  {line}" for line in account.lines_of_files())


def _describe_classes(cache: ActivationCache) -> Iterator[str]:
    classes, masks = cache.classes(), cache.masks()
    if len(classes):
        deepest = pc.max(classes.column("depth")).as_py()
        yield f"  classes   {len(classes):,}, {amount(deepest, 'level')} deep"
    else:
        yield "  classes   none"
    if masks is not None:
        yield f"  masks     {len(masks):,}"


def _describe_files(cache: ActivationCache) -> Iterator[str]:
    versions = (f"{name} {version}" for name, version in cache.info.versions.items())
    yield f"  manifest  sha256 {shorten(cache.info.manifest_digest, 64)}"
    yield f"  made by   {shorten(', '.join(versions), 300)}"
    yield f"  size      {size(cache.folder.size())}"


def _describe_thumbnails(cache: ActivationCache) -> Iterator[str]:
    chunks = cache.thumbnails.chunks
    if chunks:
        taken = size(sum(cache.folder.sizes(THUMBNAILS).values()))
        state = "" if len(chunks) == cache.info.chunks else ", NOT COMPLETE"
        yield (
            f"  pictures  thumbnails of up to {cache.thumbnails.side} pixels, {taken}, in "
            f"{len(chunks):,} of {amount(cache.info.chunks, 'chunk')}{state}"
        )


def _describe_shards(cache: ActivationCache) -> Iterator[str]:
    yield from (f"  {line}" for line in describe_shards(cache))


def _describe_stream(cache: ActivationCache, stream: str) -> Iterator[str]:
    yield from _refuse(cache, check_metadata(cache, stream))
    figures = measure(cache, stream)
    info, origin = figures.info, figures.info.origin
    stored = info.dtype + ("" if info.compression == "none" else f", {info.compression}")
    stored += "" if info.keep_bits is None else f", {info.keep_bits} mantissa bits"
    state = "complete" if figures.chunks == cache.info.chunks else "NOT COMPLETE"
    yield ""
    yield f"stream {info.name}: {info.modality}, dim {info.dim}, {stored}"
    yield f"  encoder   {shorten(origin.spec, 200)}"
    for label, text in (
        ("pooling", origin.pooling),
        ("input", " x ".join(map(str, origin.input_size))),
        ("prepared", origin.preprocessing),
        ("weights", f"sha256 {origin.weights_sha256}" if origin.weights_sha256 else ""),
        ("computed", _computed(origin)),
        ("imported", _imported(origin)),
    ):
        if text:
            yield f"  {label:<9} {shorten(text, 300)}"
    damage = f", {figures.damaged:,} DAMAGED" if figures.damaged else ""
    yield f"  chunks    {figures.chunks:,} of {cache.info.chunks:,}, {state}{damage}"
    if (cut := cache.cut(stream)) > 0:
        yield f"  captions  {cut:,} cut at the encoder's context"
    if figures.valid:
        yield (
            f"  norms     {figures.norm_mean:.4g} ± {figures.norm_deviation:.3g}, from "
            f"{figures.norm_smallest:.4g} to {figures.norm_largest:.4g}; "
            f"of the mean feature {figures.norm_of_mean:.4g}"
        )
    yield f"  rows      {figures.valid:,} with a feature, {figures.reasons.total():,} without"
    for reason, count in figures.reasons.most_common(10):
        yield f"    {count:>9,}  {shorten(reason, 100)}"
    if len(figures.reasons) > 10:
        yield f"    {'':>9}  and {len(figures.reasons) - 10:,} more reasons in rejects.parquet"


def _computed(origin: StreamOrigin) -> str:
    """How an encoder computed; nothing of features that were not extracted."""
    if not origin.batch_size:
        return ""
    side = f", JPEG files decoded at {origin.decode_side} pixels or more"
    reduced = side if origin.decode_side else ""
    return f"{origin.precision}, batches of {origin.batch_size}{reduced}"


def _imported(origin: StreamOrigin) -> str:
    """The file that features were imported from; nothing of others."""
    source = origin.imported
    if source is None:
        return ""
    written = datetime.fromtimestamp(source.modified, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"{source.path}{f'::{source.key}' if source.key else ''} ({source.format}, "
        f"{amount(source.rows, 'row')} of {source.dtype} aligned by {source.aligned}, "
        f"{size(source.bytes)}, written {written})"
    )


def _first_rows(cache: ActivationCache) -> Iterator[str]:
    yield ""
    names = cache.classes().column("name").to_pylist()
    for row in cache.rows().slice(0, FIRST_ROWS).to_pylist():
        known = [names[i] if 0 <= i < len(names) else f"class {i}" for i in row["label_ids"]]
        what = shorten(row["image"] or row["sample_id"], WIDTH)
        caption = f'"{shorten(row["caption"], WIDTH)}"' if row["caption"] else "no caption"
        labels = f" [{shorten(', '.join(known), WIDTH)}]" if known else ""
        yield f"row {row['row']}: {what}: {caption}{labels}"
