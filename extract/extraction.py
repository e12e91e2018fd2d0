"""A cache that is open for an extraction: what it lacks, and writing that in order.

An executor encodes (`sparc.extract.encoding.executor`, the seam for other machines), this module
writes: each chunk as soon as its turn comes, so that a job that was stopped anywhere continues with
the next chunk and ends with the same bytes.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from sparc.common.cache.features import bad_features
from sparc.common.cache.info import REJECT_PARTS
from sparc.common.cache.parts.names import part_file
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.shards.shard import Shard
from sparc.common.cache.thumbnails.writer import ThumbnailWriter
from sparc.common.cache.writer import ChunkWriter
from sparc.common.files.folder import Folder
from sparc.common.progress import progress, say
from sparc.common.streams.info import StreamInfo
from sparc.extract.config import ExtractConfig
from sparc.extract.encoders.libraries import packages_of
from sparc.extract.encoding.chunks import ChunkFeatures, Work, lacking
from sparc.extract.encoding.executor import Executor, ThreadExecutor
from sparc.extract.encoding.loader import ImageLoader
from sparc.extract.encoding.replica import Replica
from sparc.extract.restorer import Restorer
from sparc.extract.rows import Rows

_KEPT_CHUNKS = 16
"""In how many chunks rows are best cut that are encoded slowly: what is finished is kept."""

_LEAST_CHUNK = 64


class Writers(NamedTuple):
    """What writes to a cache.

    Attributes:
        chunks: Writes tables and streams.
        thumbnails: Writes thumbnails.
        unpictured: The chunks whose thumbnails are to be made, in order.
        share: The chunks that are written here, in order.
    """

    chunks: ChunkWriter
    thumbnails: ThumbnailWriter
    unpictured: list[int]
    share: range


def open_writers(
    folder: Folder,
    rows: Rows,
    config: ExtractConfig,
    *,
    shard: Shard | None = None,
    alone: bool = True,
) -> Writers:
    """Begin a cache or continue it, before any encoder is needed.

    Args:
        folder: The cache's folder.
        rows: The rows.
        config: Streams and settings.
        shard: Of which chunks are written here; None: all are.
        alone: Whether no other shard is at work.

    Raises:
        CacheError: The folder holds something else, or a cache of another dataset or setting.
    """
    writer = ChunkWriter.open(
        folder,
        rows.manifest,
        rows_per_chunk=rows.rows_per_chunk,
        repair=config.repair,
        packages=packages_of(config.specs.values()),
        shard=shard,
        alone=alone,
    )
    thumbnails = ThumbnailWriter(folder, writer.info, config.thumbnails)
    share = (shard or Shard(1, 1)).chunks(writer.info.chunks)
    unpictured = thumbnails.open(repair=config.repair) if config.makes_thumbnails else []
    return Writers(writer, thumbnails, [chunk for chunk in unpictured if chunk in share], share)


class Extraction:
    """What a cache lacks of some streams, and the encoders that make it.

    What the cache has lost of what it says about its rows is restored.

    Args:
        writers: The cache.
        rows: The rows.
        config: Streams and settings.
        replicas: The encoders on each device.
        loader: Loads images.

    Raises:
        CacheError: A stream of the cache was made in another way.
    """

    def __init__(
        self,
        writers: Writers,
        rows: Rows,
        config: ExtractConfig,
        replicas: Sequence[Replica],
        loader: ImageLoader,
    ) -> None:
        self._writer, self._thumbnails, unpictured, self._share = writers
        self._texts = tuple(replicas[0].encoders.texts)
        self._restorer = Restorer(self._writer, rows.table, replicas[0].encoders, loader)
        missing = {
            stream.name: self._writer.open_stream(stream)
            for stream in _stream_infos(replicas[0], config)
        }
        for name in missing:  # and those whose reasons are lost
            missing[name] += self._restorer.restore_reasons(name, thorough=config.repair)
        self.work = Work(
            rows.table,
            self._writer.info,
            lacking(missing, unpictured),
            frozenset(unpictured),
            config.thumbnails,
            config.batch_size,
            frozenset(self._share[:1]),
        )
        self._executor: Executor = ThreadExecutor(replicas, loader)

    def run(self) -> None:
        """Encode and write what is missing, in order, and complete what is said of its chunks."""
        if self.work.streams:
            self._encode()
        for name in self._texts:
            self._restorer.restore_cut(name)

    def finish(self) -> None:
        """Gather what is known of single chunks, once all are written."""
        self._writer.finish()

    def _encode(self) -> None:
        total = sum(len(self._writer.info.chunk_rows(chunk)) for chunk in self._share)
        with (
            progress(total, "extracting", initial=total - self.work.rows) as bar,
            closing(self._executor.encode(self.work, rows_done=bar.update)) as chunks,
        ):
            try:
                _write(self._writer, self._thumbnails, chunks)
            except KeyboardInterrupt:
                _say_if_nothing_is_kept(ActivationCache(self._writer.folder))
                raise


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


def _write(
    writer: ChunkWriter, thumbnails: ThumbnailWriter, chunks: Iterator[ChunkFeatures]
) -> None:
    """Write chunks in order."""
    cache = ActivationCache(writer.folder)
    for encoded in chunks:
        chunk = encoded.chunk
        carried = 0 if chunk.lead else chunk.carried
        if chunk.thumbnail_side:
            thumbnails.write(chunk.index, encoded.thumbnails, carried=carried)
        for name in chunk.streams:
            stream = cache.stream(name)
            values, why = encoded.features[name], encoded.reasons[name]
            if carried and stream.modality == "image":
                _carry(cache, name, chunk.rows, carried, values, why)
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
    part = part_file(REJECT_PARTS, stream, before)
    rejects = cache.rejects_so_far([part] if cache.folder.exists(part) else [])
    same = pc.and_(
        pc.equal(rejects.column("row"), rows.start - 1), pc.equal(rejects.column("stream"), stream)
    )
    (reason,) = rejects.filter(same).column("reason").to_pylist()
    reasons.update(dict.fromkeys(rows[:carried], reason))


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
