"""`--dry-run`: what an extraction would do and how much it would write, before any model loads.

Widths of features are looked up in the libraries' own descriptions of their models, without
weights and without a network; widths that are not known this way are reported as unknown.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparc.common.cache import tables
from sparc.common.cache.manifest import Manifest
from sparc.common.errors import SparcError
from sparc.common.images.decoding import ImageError, decode
from sparc.common.text import amount, shorten, size
from sparc.extract.config import ExtractConfig
from sparc.extract.datasets.base import Dataset
from sparc.extract.encoders.libraries import feature_width
from sparc.extract.rows import fitting_streams, rows_of

FIRST_CAPTIONS = 5
SAMPLED_IMAGES = 32
WIDTH = 70


def describe(dataset: Dataset, manifest: Manifest, config: ExtractConfig) -> Iterator[str]:
    """The plan for a person to read, line by line; every line is safe to print.

    What the dataset holds comes first, before the encoders' libraries are imported.

    Args:
        dataset: The dataset; a few of its images are read, to time it.
        manifest: Its rows.
        config: What would be extracted.
    """
    cut = rows_of(manifest, config)
    whole, manifest = manifest, cut.manifest
    rows, images = manifest.rows, cut.table.distinct_images
    split = f", split {manifest.split}" if manifest.split else ""
    yield f"dataset   {shorten(manifest.dataset, 200)} ({manifest.dataset_format}{split})"
    if manifest.account is None:
        yield f"rows      {len(rows):,} of {amount(images, 'image')}"
    else:
        yield from manifest.account.lines()
    # Not earlier: the lines before say what would give captions to a dataset that has none.
    config, left_out = fitting_streams(whole, config)
    yield from left_out
    yield f"classes   {len(manifest.classes):,}"
    yield from cut.lines()
    columns = tables.dataset_columns(rows.schema)
    if columns:
        listed = ", ".join(f"{field.name} ({field.type})" for field in columns)
        yield f"columns   {shorten(listed, 300)}"
    if manifest.masks is not None:
        yield f"masks     {len(manifest.masks):,}"
    yield from _captions(whole.rows)
    if (shard := config.own_shard) is not None:
        chunks = -(-len(rows) // cut.rows_per_chunk)
        own = amount(len(shard.chunks(chunks)), "chunk")
        yield f"shard     {shard}: {own} of {chunks:,}; what follows is of all rows"
    total: int | None = 0
    for name, spec in config.specs.items():
        dim = feature_width(spec)
        if dim is None:
            total = None
            width = "dim known once the model is loaded"
        else:
            stored = len(rows) * (dim * np.dtype(config.dtype).itemsize + 1)
            total = None if total is None else total + stored
            width = f"dim {dim}, {size(stored)}"
        yield f"stream    {name} = {spec} ({spec.modality}, {width})"
    kept = "" if config.compression == "none" else f" before {config.compression}"
    yield f"bytes     {'not known yet' if total is None else size(total) + kept}, {config.dtype}"
    if any(spec.modality == "image" for spec in config.specs.values()):
        if config.thumbnails:
            yield f"pictures  thumbnails of up to {config.thumbnails} pixels"
        yield f"time      {_reading_time(dataset, rows, images, config)}"
    else:
        yield "time      not known before the models have run"


def _captions(rows: pa.Table) -> Iterator[str]:
    captions = rows.column("caption")
    present = captions.filter(pc.is_valid(captions)).slice(0, FIRST_CAPTIONS)
    for number, caption in enumerate(present.to_pylist()):
        yield f"{'' if number else 'such as':<9} {shorten(caption, WIDTH)}"


def _reading_time(dataset: Dataset, rows: pa.Table, images: int, config: ExtractConfig) -> str:
    paths = rows.column("image")
    paths = paths.filter(pc.is_valid(paths)).slice(0, SAMPLED_IMAGES * 8).to_pylist()
    sample = list(dict.fromkeys(paths))[:SAMPLED_IMAGES]
    if not sample:
        return "no images to read"
    started = time.perf_counter()
    with ThreadPoolExecutor(config.threads) as pool:
        good = sum(pool.map(lambda path: _readable(dataset, path, config.decode_side), sample))
    seconds = (time.perf_counter() - started) / len(sample) * images
    return (
        f"encoding: not known before the models have run; reading and decoding alone about "
        f"{_duration(seconds)}, judged by {amount(len(sample), 'image')}"
        + (f", of which {len(sample) - good} cannot be used" if good < len(sample) else "")
    )


def _readable(dataset: Dataset, image_path: str, decode_side: int) -> bool:
    try:
        decode(dataset.read_image(image_path), shorter_side=decode_side)
    except (ImageError, SparcError):
        return False
    return True


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 6000 else f"{seconds / 3600:.1f} hours"
