"""Making one shard of a cache, beside the commands that make the others, on any machines.

Commands meet in the cache's folder alone. Each holds the cache's lock for the moment in which it
begins, and the lock of its shard until it ends; what it writes belongs to its own chunks. The last
of them gathers what all have made.
"""

from collections.abc import Sequence
from contextlib import ExitStack

import torch

from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.resume import recognize
from sparc.common.cache.shards.agreement import Agreement, agree, deciding_versions, record
from sparc.common.cache.shards.finish import finish
from sparc.common.cache.shards.locks import PATIENCE, hold, refuse_others
from sparc.common.cache.shards.shard import Shard
from sparc.common.cache.shards.status import describe_shards
from sparc.common.errors import IncompleteCacheError, LockedError
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive
from sparc.common.timing.timekeeper import Timekeeper
from sparc.extract.config import ExtractConfig
from sparc.extract.datasets.base import Dataset
from sparc.extract.encoders.libraries import packages_of
from sparc.extract.encoding.loader import ImageLoader
from sparc.extract.encoding.replica import BuildEncoders, announced_replicas
from sparc.extract.extraction import Extraction, MakeHere, open_writers, streams_of
from sparc.extract.restorer import Restorer
from sparc.extract.rows import Rows
from sparc.extract.summary import Summary, summarize
from sparc.extract.timings import COMMAND, advice


def run_shard(
    dataset: Dataset,
    rows: Rows,
    folder: Folder,
    config: ExtractConfig,
    shard: Shard,
    devices: Sequence[torch.device],
    build: BuildEncoders,
) -> Summary:
    """Make a shard, or what is left of it, and gather all of them if it was the last.

    Args:
        dataset: Where the images come from.
        rows: The rows, as they are cut into chunks.
        folder: The cache's folder.
        config: Streams and settings, the same in every shard.
        shard: Which share of the chunks.
        devices: Where to encode.
        build: Builds the encoders of all streams on a device.

    Raises:
        LockedError: The shard, or one of another division, is at work.
        CacheError: The shard would make other features than the others; see also
            `sparc.extract.job.run`.
    """
    # Encoders first: the others wait while the cache's lock is held.
    replicas = announced_replicas(
        devices, config.specs, build, batch_size=config.batch_size, arithmetic=config.arithmetic
    )
    with ExitStack() as mine:
        loader = mine.enter_context(
            ImageLoader(dataset, config.threads, decode_side=config.decode_side)
        )
        with exclusive(folder, recognize, patience=PATIENCE):
            alone = refuse_others(folder, shard)
            agreement = agree(folder, _agreement(config, shard))
            writers = open_writers(folder, rows, config, shard=shard, alone=alone)
            encoders = replicas[0].encoders
            restorer = Restorer(writers.chunks, rows.table, lambda: encoders, loader)
            streams = streams_of(replicas[0], config)
            extraction = Extraction(writers, rows, config, streams, restorer)
            record(folder, agreement)
            mine.enter_context(hold(folder, shard))
        make = MakeHere(writers, replicas, loader)
        command = f"{COMMAND} --shard {shard}"
        with Timekeeper(command, make.shares, advice, config.timings) as timekeeper:
            extraction.run(make, timekeeper)
    names = tuple(config.specs)
    unfinished = _finish_if_last(folder, names)
    return summarize(
        folder, names, extraction.work, timekeeper.ended, shard=shard, unfinished=unfinished
    )


def _agreement(config: ExtractConfig, shard: Shard) -> Agreement:
    encodes_images = any(spec.modality == "image" for spec in config.specs.values())
    return Agreement(
        shards=shard.count,
        thumbnails=config.thumbnails if encodes_images else None,
        versions=deciding_versions(packages_of(config.specs.values())),
    )


def _finish_if_last(folder: Folder, streams: Sequence[str]) -> tuple[str, ...]:
    """Gather the shards if none is at work or missing; otherwise, what is left to do."""
    cache = ActivationCache(folder)
    if not any(cache.missing_chunks(stream) for stream in streams):
        try:
            finish(folder, streams=streams)
        except (IncompleteCacheError, LockedError):
            cache = ActivationCache(folder)
        else:
            return ()
    return tuple(describe_shards(cache))
