"""The extraction job: plan which chunks lack something, encode and write them in order, finish.

An executor encodes (`sparc.extract.encoding.executor`, the seam for other machines), this module
writes: each chunk as soon as its turn comes, so that a job that was stopped anywhere continues with
the next chunk and ends with the same bytes.
"""

import dataclasses
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import torch

from sparc.common.cache.features import bad_features
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.removal import refuse_further_content, remove_cache
from sparc.common.cache.resume import recognize
from sparc.common.cache.thumbnails.writer import ThumbnailWriter
from sparc.common.cache.writer import ChunkWriter
from sparc.common.devices import choose_devices
from sparc.common.errors import CacheError
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive
from sparc.common.progress import progress, say
from sparc.common.streams.info import StreamInfo
from sparc.common.text import amount, shorten, size
from sparc.extract.config import ExtractConfig
from sparc.extract.datasets.base import Dataset
from sparc.extract.encoders import build_encoders
from sparc.extract.encoders.encoder import Encoder, Encoders
from sparc.extract.encoders.libraries import packages_of
from sparc.extract.encoding.chunks import (
    ChunkFeatures,
    ChunkTable,
    Work,
    lacking,
    require_inputs,
)
from sparc.extract.encoding.executor import Executor, ThreadExecutor
from sparc.extract.encoding.loader import ImageLoader
from sparc.extract.encoding.replica import BuildEncoders, Replica, build_replicas
from sparc.extract.places import by_place, places_of
from sparc.extract.restorer import Restorer

_NAMED_REASONS = 3
"""Reasons why rows have no feature that a summary names; the cache's `rejects.parquet` has all."""

_KEPT_CHUNKS = 16
"""In how many chunks rows are best cut that are encoded slowly: what is finished is kept."""

_LEAST_CHUNK = 64


class Summary(NamedTuple):
    """What a job did.

    Attributes:
        cache: The cache, complete in the job's streams.
        encoded_rows: Rows that this run wrote for at least one stream.
        pictured_rows: Rows whose thumbnails this run wrote.
        seconds: How long encoding took, without building the encoders.
        reasons: By stream, why rows of the cache have no feature: how many rows by reason.
        cut: By text stream, how many captions were longer than the encoder's context.
    """

    cache: ActivationCache
    encoded_rows: int
    pictured_rows: int
    seconds: float
    reasons: Mapping[str, Counter[str]]
    cut: Mapping[str, int]

    @property
    def rejected(self) -> dict[str, int]:
        """By stream, how many rows of the cache have no feature."""
        return {name: reasons.total() for name, reasons in self.reasons.items()}

    def __str__(self) -> str:
        info = self.cache.info
        if self.encoded_rows:
            rate = self.encoded_rows / max(self.seconds, 1e-9)
            done = f"{amount(self.encoded_rows, 'row')} encoded, {rate:,.1f} rows/s"
        elif self.pictured_rows:
            done = f"thumbnails made for {amount(self.pictured_rows, 'row')}"
        else:
            done = "nothing was left to do"
        parts = [f"{done}. {self.cache.folder} holds {amount(info.rows, 'row')}"]
        for name, rejected in self.rejected.items():
            why = _most_often(self.reasons[name])
            note = f", {rejected:,} without a feature: {why}" if rejected else ""
            cut = self.cut.get(name, 0)
            note += f", {amount(cut, 'caption')} cut at the encoder's context" if cut else ""
            parts.append(f"{name} (dim {self.cache.stream(name).dim}{note})")
        return ", ".join(parts) + f"; {size(self.cache.folder.size())}."


def _most_often(reasons: Counter[str]) -> str:
    """The first reasons why rows have no feature."""
    first = [
        f"{shorten(reason, 100)} ({amount(rows, 'row')})"
        for reason, rows in reasons.most_common(_NAMED_REASONS)
    ]
    return f"{'; '.join(first)}{'; …' if len(reasons) > _NAMED_REASONS else ''}"


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
    """
    devices = choose_devices(config.devices or config.device)
    manifest = dataset.manifest()
    for line in manifest.account.lines() if manifest.account is not None else ():
        say(line)
    require_inputs(manifest.rows, config.specs)
    places = places_of(config.specs.values(), config.places_per_image)
    if places is not None:
        manifest = by_place(manifest, places)
        say(f"places    {places}: {amount(len(manifest.rows), 'row')}")
    folder = location if isinstance(location, Folder) else Folder(location)
    with exclusive(folder, recognize):
        replicas: list[Replica] = []
        if overwrite:
            refuse_further_content(folder)
            replicas = _replicas(devices, config, build)
            remove_cache(folder)
        writer = ChunkWriter.open(
            folder,
            manifest,
            rows_per_chunk=places.rows_per_chunk(config.rows_per_chunk)
            if places
            else config.rows_per_chunk,
            repair=config.repair,
            packages=packages_of(config.specs.values()),
        )
        thumbnails = ThumbnailWriter(folder, writer.info, config.thumbnails)
        unpictured = _without_thumbnails(thumbnails, config)
        replicas = replicas or _replicas(devices, config, build)
        table = ChunkTable(manifest.rows, places_per_image=places.per_image if places else 0)
        with ImageLoader(dataset, config.threads) as loader:
            restorer = Restorer(writer, table, replicas[0].encoders, loader)
            streams = _stream_infos(replicas[0], config)
            missing = _missing(writer, restorer, streams, config)
            work = Work(
                table,
                writer.info,
                lacking(missing, unpictured),
                frozenset(unpictured),
                config.thumbnails,
            )
            started = time.monotonic()
            _encode(work, ThreadExecutor(replicas, loader), writer, thumbnails)
        _finish(writer, restorer, replicas[0].encoders)
        seconds = time.monotonic() - started
    return _summarize(ActivationCache(folder), config, work, seconds)


def _replicas(
    devices: Sequence[torch.device], config: ExtractConfig, build: BuildEncoders
) -> list[Replica]:
    """The encoders on each device, announced with what they read."""
    say(f"loading {amount(len(config.specs), 'encoder')} on {', '.join(map(str, devices))}")
    replicas = build_replicas(devices, config.specs, build, batch_size=config.batch_size)
    for name in config.specs:
        say(f"{name}: {_reads(replicas[0].encoders[name])}")
    return replicas


def _reads(encoder: Encoder) -> str:
    """What an encoder reads and what becomes its feature."""
    origin = encoder.origin
    reads = f"reads {' x '.join(map(str, origin.input_size))}" if origin.input_size else ""
    return shorten(", ".join(filter(None, [reads, origin.pooling, f"dim {encoder.dim}"])), 200)


def _stream_infos(replica: Replica, config: ExtractConfig) -> list[StreamInfo]:
    precision = "bfloat16 autocast" if replica.device.type == "cuda" else "float32"
    infos = []
    for name, spec in config.specs.items():
        encoder = replica.encoders[name]
        origin = dataclasses.replace(
            encoder.origin, precision=precision, batch_size=config.batch_size
        )
        infos.append(
            StreamInfo(
                name=name,
                modality=spec.modality,
                dim=encoder.dim,
                dtype=config.dtype,
                compression=config.compression,
                keep_bits=config.keep_bits,
                origin=origin,
            )
        )
    return infos


def _without_thumbnails(writer: ThumbnailWriter, config: ExtractConfig) -> list[int]:
    """The chunks whose thumbnails are to be made: none for text alone."""
    if config.thumbnails and any(spec.modality == "image" for spec in config.specs.values()):
        return writer.open(repair=config.repair)
    return []


def _missing(
    writer: ChunkWriter,
    restorer: Restorer,
    streams: Sequence[StreamInfo],
    config: ExtractConfig,
) -> dict[str, list[int]]:
    """By stream, the chunks to be encoded: missing ones, and those whose reasons are lost."""
    missing = {stream.name: writer.open_stream(stream) for stream in streams}
    for name in missing:
        missing[name] += restorer.restore_reasons(name, thorough=config.repair)
    return missing


def _encode(
    work: Work, executor: Executor, writer: ChunkWriter, thumbnails: ThumbnailWriter
) -> None:
    """Encode and write chunks, in order."""
    if not work.streams:
        return
    total = work.info.rows
    with (
        progress(total, "extracting", initial=total - work.rows) as bar,
        closing(executor.encode(work, rows_done=bar.update)) as chunks,
    ):
        try:
            _write(writer, thumbnails, chunks)
        except KeyboardInterrupt:
            _say_if_nothing_is_kept(ActivationCache(writer.folder))
            raise


def _say_if_nothing_is_kept(cache: ActivationCache) -> None:
    """Say that an interrupted job has not finished the first chunk of a cache, and what helps."""
    if any(len(cache.missing_chunks(name)) < cache.info.chunks for name in cache.stream_names):
        return
    smaller = 1 << max(_LEAST_CHUNK, cache.info.rows // _KEPT_CHUNKS).bit_length() - 1
    advice = (
        f": `--rows-per-chunk {smaller} --overwrite` keeps more of what is interrupted"
        if smaller < cache.info.rows_per_chunk
        else ""
    )
    say(f"no chunk of {cache.info.rows_per_chunk:,} rows was finished, so nothing is kept{advice}")


def _finish(writer: ChunkWriter, restorer: Restorer, encoders: Encoders) -> None:
    """Complete what the cache says of its chunks."""
    for name in encoders.texts:
        restorer.restore_cut(name)
    writer.finish()


def _write(
    writer: ChunkWriter, thumbnails: ThumbnailWriter, chunks: Iterator[ChunkFeatures]
) -> None:
    """Write chunks in order."""
    cache = ActivationCache(writer.folder)
    for encoded in chunks:
        chunk = encoded.chunk
        if chunk.thumbnail_side:
            thumbnails.write(chunk.index, encoded.thumbnails, carried=chunk.carried)
        for name in chunk.streams:
            stream = cache.stream(name)
            values, why = encoded.features[name], encoded.reasons[name]
            if chunk.carried and stream.modality == "image":
                _carry(cache, name, chunk.rows, chunk.carried, values, why)
            for row, reason in bad_features(values, chunk.rows.start, dtype=stream.dtype).items():
                why.setdefault(row, reason)
            writer.write(name, chunk.index, values, why, cut=encoded.cut.get(name))


def _carry(
    cache: ActivationCache,
    stream: str,
    rows: range,
    carried: int,
    values: npt.NDArray[np.float32],
    reasons: dict[int, str],
) -> None:
    """Take over the feature, or the reason, of the image that began in the chunk before."""
    before = rows.start // cache.info.rows_per_chunk - 1
    if cache.valid(stream, before)[-1]:
        values[:carried] = cache.features(stream, before)[-1]
        return
    rejects = cache.rejects_so_far()
    same = pc.and_(
        pc.equal(rejects.column("row"), rows.start - 1), pc.equal(rejects.column("stream"), stream)
    )
    (reason,) = rejects.filter(same).column("reason").to_pylist()
    reasons.update(dict.fromkeys(rows[:carried], reason))


def _summarize(
    cache: ActivationCache, config: ExtractConfig, work: Work, seconds: float
) -> Summary:
    reasons = _reasons(cache, tuple(config.specs))
    texts = [name for name, spec in config.specs.items() if spec.modality == "text"]
    cut = {name: cache.cut(name) for name in texts}
    return Summary(cache, work.rows_to_encode, work.rows_pictured, seconds, reasons, cut)


def _reasons(cache: ActivationCache, streams: tuple[str, ...]) -> dict[str, Counter[str]]:
    """Why rows of each stream have no feature; a stream without any feature is refused."""
    rejects = cache.rejects()
    result = {}
    for name in streams:
        of_stream = rejects.filter(pc.equal(rejects.column("stream"), name))
        result[name] = reasons = Counter(of_stream.column("reason").to_pylist())
        if len(of_stream) == cache.info.rows:
            ((reason, _),) = reasons.most_common(1)
            raise CacheError(
                f"stream {name}: no row has a feature (most often: {shorten(reason, 100)}); "
                "correct the dataset and extract into another folder"
            )
    return result
