"""The extraction job: begin or continue a cache, write what it lacks, finish it.

With `--shard` one of several commands makes its share of the chunks (`sparc.extract.shards`), with
`--scheduler` the workers of a cluster make them (`sparc.extract.cluster`).
"""

import os
from contextlib import ExitStack

from sparc.common.cache.removal import refuse_further_content, remove_cache
from sparc.common.cache.shards.locks import sole_writer
from sparc.common.devices import choose_devices
from sparc.common.errors import ConfigError, SparcError
from sparc.common.files.folder import Folder
from sparc.common.progress import say
from sparc.common.timing.file import check_timings_file
from sparc.common.timing.timekeeper import Timekeeper
from sparc.extract.config import ExtractConfig
from sparc.extract.datasets.base import Dataset
from sparc.extract.encoders import build_encoders
from sparc.extract.encoding.loader import ImageLoader
from sparc.extract.encoding.replica import BuildEncoders, Replica, announced_replicas
from sparc.extract.extraction import Extraction, MakeHere, open_writers, streams_of
from sparc.extract.restorer import Restorer
from sparc.extract.rows import fitting_streams, rows_of
from sparc.extract.shards import run_shard
from sparc.extract.summary import Summary, summarize
from sparc.extract.timings import COMMAND, advice


def run(
    dataset: Dataset,
    location: str | os.PathLike[str] | Folder,
    config: ExtractConfig,
    *,
    build: BuildEncoders = build_encoders,
    overwrite: bool = False,
) -> Summary:
    """Extract a dataset's features into a cache, or continue an interrupted extraction.

    Args:
        dataset: The rows and their images.
        location: The cache's folder or URL.
        config: Streams and settings; `dry_run` is the caller's business.
        build: Builds the encoders of all streams on a device.
        overwrite: Remove the cache that the folder holds first, whatever it is of; nothing is
            removed where an encoder cannot be built.

    Raises:
        DatasetError: The dataset has nothing that a stream could encode.
        CacheError: The folder holds something else, or a stream was made in another way; a
            feature does not fit float16; or no row of a stream has a feature.
        EncoderError: An encoder cannot be built, or its batch does not fit the device.
        LockedError: Another process writes to the cache.
        ConfigError: A shard is to remove the whole cache.
    """
    shard = config.own_shard
    if shard is not None and overwrite:
        raise ConfigError(
            "--overwrite removes what the other shards make: remove the cache first, then run its "
            "shards without that"
        )
    check_timings_file(config.timings)
    devices = [] if config.scheduler else choose_devices(config.devices or config.device)
    manifest = dataset.manifest()
    for line in manifest.account.lines() if manifest.account is not None else ():
        say(line)
    config, left_out = fitting_streams(manifest, config)
    rows = rows_of(manifest, config)
    for line in (*left_out, *rows.lines()):
        say(line)
    folder = location if isinstance(location, Folder) else Folder(location)
    if shard is not None:
        return run_shard(dataset, rows, folder, config, shard, devices, build)
    if config.scheduler:
        try:
            from sparc.extract.cluster.run import run_on_cluster
        except ModuleNotFoundError as error:
            if error.name != "distributed":
                raise
            raise SparcError(
                "--scheduler needs Dask's distributed: pip install distributed"
            ) from error
        return run_on_cluster(dataset, rows, folder, config, build, overwrite=overwrite)
    with ExitStack() as stack:
        stack.enter_context(sole_writer(folder))
        replicas: list[Replica] = []
        if overwrite:
            refuse_further_content(folder)
            replicas = announced_replicas(
                devices,
                config.specs,
                build,
                batch_size=config.batch_size,
                arithmetic=config.arithmetic,
            )
            remove_cache(folder)
        writers = open_writers(folder, rows, config)
        if not replicas:
            replicas = announced_replicas(
                devices,
                config.specs,
                build,
                batch_size=config.batch_size,
                arithmetic=config.arithmetic,
            )
        loader = stack.enter_context(
            ImageLoader(dataset, config.threads, decode_side=config.decode_side)
        )
        encoders = replicas[0].encoders
        restorer = Restorer(writers.chunks, rows.table, lambda: encoders, loader)
        extraction = Extraction(writers, rows, config, streams_of(replicas[0], config), restorer)
        make = MakeHere(writers, replicas, loader)
        with Timekeeper(COMMAND, make.shares, advice, config.timings) as timekeeper:
            extraction.run(make, timekeeper)
            extraction.finish()
    return summarize(folder, tuple(config.specs), extraction.work, timekeeper.ended)
