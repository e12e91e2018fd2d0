"""A cache that is open for an extraction: what it lacks, and making that.

`make_here` encodes in this process and writes each chunk as soon as its turn comes, so that a job
that was stopped anywhere continues with the next chunk and ends with the same bytes. On a cluster
workers do (`sparc.extract.cluster`).
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import NamedTuple, Protocol

from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.shards.shard import Shard
from sparc.common.cache.thumbnails.writer import ThumbnailWriter
from sparc.common.cache.writer import ChunkWriter
from sparc.common.files.folder import Folder
from sparc.common.progress import progress, say
from sparc.common.streams.info import StreamInfo
from sparc.common.timing.phases import Phase, Role
from sparc.common.timing.shares import Shares
from sparc.common.timing.stopwatch import Stopwatch
from sparc.common.timing.timekeeper import Timekeeper
from sparc.extract.config import ExtractConfig
from sparc.extract.encoders.libraries import packages_of
from sparc.extract.encoders.precision import in_words
from sparc.extract.encoding.chunks import Work, lacking
from sparc.extract.encoding.executor import Executor, ThreadExecutor
from sparc.extract.encoding.loader import ImageLoader
from sparc.extract.encoding.replica import Replica
from sparc.extract.restorer import Restorer
from sparc.extract.rows import Rows
from sparc.extract.timings import shares_of
from sparc.extract.writing import EncodedWriter

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


class Make(Protocol):
    """Encodes chunks and writes them."""

    def __call__(self, work: Work, rows_done: Callable[[int], object]) -> None:
        """Encode and write what work consists of.

        Args:
            work: The chunks.
            rows_done: Called with the number of rows that were done since the last call, in the
                caller's thread.
        """
        ...

    def shares(self) -> Iterable[Shares]:
        """Where the time has gone so far, of those who encode and then of those who help them."""
        ...


class Extraction:
    """What a cache lacks of some streams, and what makes it.

    What the cache has lost of what it says about its rows is restored.

    Args:
        writers: The cache.
        rows: The rows.
        config: Settings.
        streams: What each stream is.
        restorer: Restores what was lost.
        together: Whether each chunk is made after the one before, by the same process. The first
            one of a share never is.

    Raises:
        CacheError: A stream of the cache was made in another way.
    """

    def __init__(
        self,
        writers: Writers,
        rows: Rows,
        config: ExtractConfig,
        streams: Sequence[StreamInfo],
        restorer: Restorer,
        *,
        together: bool = True,
    ) -> None:
        self._writers = writers
        self._texts = [stream.name for stream in streams if stream.modality == "text"]
        self._restorer = restorer
        missing = {stream.name: writers.chunks.open_stream(stream) for stream in streams}
        for name in missing:  # and those whose reasons are lost
            missing[name] += restorer.restore_reasons(name, thorough=config.repair)
        self.work = Work(
            rows.table,
            writers.chunks.info,
            lacking(missing, writers.unpictured),
            frozenset(writers.unpictured),
            config.thumbnails,
            config.batch_size,
            frozenset(writers.share[:1] if together else writers.share),
        )

    def run(self, make: Make, timekeeper: Timekeeper) -> None:
        """Make what is missing, and complete what is said of its chunks.

        Args:
            make: Encodes and writes.
            timekeeper: Shows what bounds it.
        """
        if self.work.streams:
            self._make(make, timekeeper)
        for name in self._texts:
            self._restorer.restore_cut(name)

    def finish(self) -> None:
        """Gather what is known of single chunks, once all are written."""
        self._writers.chunks.finish()

    def _make(self, make: Make, timekeeper: Timekeeper) -> None:
        def rows_done(rows: int) -> None:
            bar.update(rows)
            timekeeper.show(bar)

        chunks, share = self._writers.chunks, self._writers.share
        total = sum(len(chunks.info.chunk_rows(chunk)) for chunk in share)
        with progress(total, "extracting", initial=total - self.work.rows) as bar:
            try:
                make(self.work, rows_done)
            except KeyboardInterrupt:
                _say_if_nothing_is_kept(ActivationCache(chunks.folder))
                raise


class MakeHere:
    """Encodes on the devices of this process and writes each chunk when its turn comes.

    Args:
        writers: The cache.
        replicas: The encoders on each device.
        loader: Loads images.
    """

    def __init__(self, writers: Writers, replicas: Sequence[Replica], loader: ImageLoader) -> None:
        self._writers, self._replicas, self._loader = writers, replicas, loader
        self._times = Stopwatch(Role.WRITER, rest=Phase.IDLE)

    def __call__(self, work: Work, rows_done: Callable[[int], object]) -> None:
        """See `Make`."""
        chunks, thumbnails = self._writers.chunks, self._writers.thumbnails
        executor: Executor = ThreadExecutor(self._replicas, self._loader)
        writer = EncodedWriter(ActivationCache(chunks.folder), chunks.stream_writers, thumbnails)
        with (
            self._times.running(),
            closing(executor.encode(work, rows_done=rows_done)) as encoded,
        ):
            for chunk in encoded:
                with self._times.at(Phase.WRITE):
                    writer.write(chunk)

    def shares(self) -> Iterable[Shares]:
        """See `Make`."""
        return *shares_of(self._replicas, self._loader), self._times.shares()


def streams_of(replica: Replica, config: ExtractConfig) -> list[StreamInfo]:
    """What the streams are that a replica's encoders make."""
    precision = in_words(replica.arithmetic, replica.device)
    infos = []
    for name, spec in config.specs.items():
        encoder = replica.encoders[name]
        origin = dataclasses.replace(
            encoder.origin,
            precision=precision,
            batch_size=config.batch_size,
            decode_side=config.decode_side if spec.modality == "image" else 0,
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
