"""Bringing streams to the rows of a cache that is there: `sparc-extract import --join`."""

from collections.abc import Sequence

import numpy as np

from sparc.common.cache import tables
from sparc.common.cache.manifest import Manifest
from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import DatasetError
from sparc.common.text import amount, shorten
from sparc.extract.importing.alignment import (
    BARE,
    Alignment,
    ArrayRows,
    array_rows_by_name,
    comparable,
)
from sparc.extract.importing.finding import FoundStream


def align_with(cache: ActivationCache, streams: Sequence[FoundStream]) -> Alignment:
    """Where the rows of a cache are in the arrays of streams that join it.

    An array whose rows have names is looked up by `sample_id`: the rows of an image get its one
    feature, or the nth of its name for the nth. One without names must have the cache's rows.

    Args:
        cache: The cache.
        streams: The streams.

    Raises:
        DatasetError: No name of a stream is one of the cache, or a stream without names has
            another number of rows.
    """
    ids = cache.rows(["sample_id"])["sample_id"].combine_chunks()
    array_rows: dict[str, ArrayRows | None] = {}
    lines = []
    for stream in streams:
        name = f"stream {stream.name}"
        if stream.ids is None:
            if stream.array.rows != len(ids):
                raise DatasetError(
                    f"{name} has {amount(stream.array.rows, 'row')}, {cache.folder} {len(ids):,}, "
                    "and no names of rows tell which belong together: say with --ids where they lie"
                )
            array_rows[name] = None
            lines.append(f"{name} has no names of rows: taken as those of the cache, in order")
            continue
        own, wanted = stream.ids, ids
        if (alike := comparable([ids, own])) is not None:
            wanted, own = alike
            lines.append(f"{name}: {BARE}")
        where = array_rows_by_name(own, wanted)
        array_rows[name] = where
        lacking = int((where < 0).sum())
        if lacking == len(ids):
            raise DatasetError(
                f"{name} names none of the rows of {cache.folder} (it has "
                f"{shorten(str(stream.ids[0]), 60)!r}, the cache {shorten(str(ids[0]), 60)!r}): "
                "say with --ids where names lie, or take rows as they are with --align rows"
            )
        if lacking:
            lines.append(f"{name} lacks {lacking:,} of {amount(len(ids), 'row')}: no feature")
        further = stream.array.rows - len(np.unique(where[where >= 0]))
        if further:
            lines.append(f"{amount(further, 'row')} of {name} belong to no row of the cache")
    return Alignment(len(ids), ids, True, array_rows, tuple(lines))


def manifest_of(cache: ActivationCache) -> Manifest:
    """The rows of a cache, as what made it handed them over."""
    info = cache.info
    return Manifest(
        dataset=info.dataset,
        dataset_format=info.dataset_format,
        split=info.split,
        rows=cache.rows([*tables.ROWS.names, *cache.columns.names]),
        classes=cache.classes(),
    )
