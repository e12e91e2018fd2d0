"""`sparc-extract run --scheduler`: the job's side, which alone keeps the cache."""

import dataclasses
import functools
import os
import uuid
from contextlib import ExitStack

import torch

from sparc.common.cache.removal import refuse_further_content, remove_cache
from sparc.common.cache.shards.agreement import deciding_versions
from sparc.common.cache.shards.cluster import announce, withdraw
from sparc.common.cache.shards.locks import sole_writer
from sparc.common.files.folder import Folder
from sparc.common.timing.timekeeper import Timekeeper
from sparc.extract.cluster.cluster import Cluster
from sparc.extract.cluster.connection import connect
from sparc.extract.cluster.dispatch import Dispatch
from sparc.extract.cluster.messages import Job
from sparc.extract.cluster.pool import Pool
from sparc.extract.config import LOCAL, ExtractConfig
from sparc.extract.datasets.base import Dataset
from sparc.extract.encoders.encoder import Encoders
from sparc.extract.encoders.libraries import packages_of
from sparc.extract.encoding.loader import ImageLoader
from sparc.extract.encoding.replica import BuildEncoders
from sparc.extract.extraction import Extraction, open_writers
from sparc.extract.restorer import Restorer
from sparc.extract.rows import Rows
from sparc.extract.summary import Summary, summarize
from sparc.extract.timings import COMMAND, advice


def run_on_cluster(
    dataset: Dataset,
    rows: Rows,
    folder: Folder,
    config: ExtractConfig,
    build: BuildEncoders,
    *,
    overwrite: bool,
) -> Summary:
    """Extract a dataset's features into a cache, by the workers of a Dask cluster.

    Args:
        dataset: Where the images come from; it can be pickled.
        rows: The rows, as they are cut into chunks.
        folder: The cache's folder, which the workers see by the same path.
        config: Streams and settings.
        build: Builds the encoders of all streams on a device.
        overwrite: Remove the cache that the folder holds first, once workers are ready.

    Raises:
        SparcError: No scheduler or worker answers; a worker would make other features; or see
            `sparc.extract.job.run`.
    """
    with ExitStack() as stack:
        stack.enter_context(sole_writer(folder))
        cluster = Cluster(stack.enter_context(connect(config)), config.scheduler)
        if overwrite:
            refuse_further_content(folder)
        else:
            writers = open_writers(folder, rows, config)
        job = _job(dataset, folder, config, build)
        stack.callback(withdraw, folder)
        announce(folder, job.token)
        pool = Pool(
            cluster,
            job,
            versions=deciding_versions(packages_of(config.specs.values())),
            manifest_digest=rows.manifest.info(rows.rows_per_chunk).manifest_digest,
            patience=config.workers_timeout,
        )
        stack.callback(pool.release)
        streams = pool.begin().streams
        if overwrite:
            remove_cache(folder)
            writers = open_writers(folder, rows, config)
            announce(folder, job.token)
        loader = stack.enter_context(
            ImageLoader(dataset, config.threads, decode_side=config.decode_side)
        )

        @functools.cache
        def encoders() -> Encoders:
            return build(config.specs, torch.device("cpu"))

        restorer = Restorer(writers.chunks, rows.table, encoders, loader)
        extraction = Extraction(writers, rows, config, streams, restorer, together=False)
        dispatch = Dispatch(cluster, pool, writers.chunks, token=job.token, retries=config.retries)
        with Timekeeper(COMMAND, dispatch.shares, advice, config.timings) as timekeeper:
            extraction.run(dispatch, timekeeper)
            if dispatch.workers_lost:
                folder.remove_partial_files()
            withdraw(folder)
            if not dispatch.left_out:
                extraction.finish()
    return summarize(
        folder,
        tuple(config.specs),
        extraction.work,
        timekeeper.ended,
        left_out=tuple(dispatch.left_out),
    )


def _job(dataset: Dataset, folder: Folder, config: ExtractConfig, build: BuildEncoders) -> Job:
    """What the workers get, in words that hold in their working directories."""
    specs = tuple(f"{name}={spec.absolute()}" for name, spec in config.specs.items())
    device = config.device
    if config.scheduler == LOCAL and config.devices:
        device = config.devices.partition(":")[0].partition(",")[0]
        device = "cuda" if device == "all" else device
    return Job(
        token=uuid.uuid4().hex,
        dataset=dataset,
        cache=folder.location if folder.local is None else os.path.abspath(folder.local),
        config=dataclasses.replace(
            config, streams=specs, preset="", scheduler="", n_workers=0, device=device, devices=""
        ),
        build=build,
    )
