"""What a worker's process holds for a job: the dataset, its encoders, and what writes chunks."""

import hashlib
from collections import Counter

import torch

from sparc.common.cache.layout import ARRAYS
from sparc.common.cache.parts.stream_writer import StreamWriter
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.shards.cluster import is_announced
from sparc.common.cache.tables import manifest_digest
from sparc.common.cache.thumbnails.writer import ThumbnailWriter
from sparc.common.errors import CacheError, DatasetError
from sparc.common.text import shorten
from sparc.common.timing.phases import Phase
from sparc.extract.cluster.messages import Job, Made, MadeStream, Order, Readiness
from sparc.extract.encoding.chunk_queue import ChunkQueue
from sparc.extract.encoding.chunks import Chunk, ChunkFeatures, Work
from sparc.extract.encoding.loader import ImageLoader
from sparc.extract.encoding.replica import build_replicas
from sparc.extract.extraction import streams_of
from sparc.extract.rows import rows_of
from sparc.extract.timings import shares_of
from sparc.extract.writing import EncodedWriter

_NAMED_REASONS = 3
_REASON_LENGTH = 100


class Equipment:
    """The dataset and the encoders of a job, loaded once in a worker's process.

    Args:
        job: The job.
        device: Where to encode.
        threads: PyTorch threads for one operation, where that is the CPU.
        loaders: Threads that read and decode images.

    Raises:
        SparcError: The dataset cannot be read, or an encoder cannot be built.
    """

    def __init__(self, job: Job, device: torch.device, *, threads: int, loaders: int) -> None:
        self._job = job
        config = job.config
        self._rows = rows_of(job.dataset.manifest(), config)
        if device.type == "cpu":
            torch.set_num_threads(threads)
        (self._replica,) = build_replicas(
            [device],
            config.specs,
            job.build,
            batch_size=config.batch_size,
            arithmetic=config.arithmetic,
        )
        self._loader = ImageLoader(job.dataset, loaders, decode_side=config.decode_side)
        self._cache: ActivationCache | None = None
        self._writer: EncodedWriter | None = None

    def close(self) -> None:
        """Let go of threads, encoders and the GPU's memory."""
        self._loader.__exit__(None, None, None)
        del self._replica
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def readiness(self) -> Readiness:
        """What would be made with it, to be compared with that of other workers."""
        return Readiness(
            streams=tuple(streams_of(self._replica, self._job.config)),
            manifest_digest=manifest_digest(self._rows.manifest.rows),
            first_image=self._first_image(),
        )

    def make(self, order: Order) -> Made:
        """Encode a chunk and write it.

        Raises:
            CacheError: The job has ended meanwhile; or a value does not fit float16.
            EncoderError: A batch does not fit the device's memory.
        """
        cache, writer = self._open()
        before = list(shares_of([self._replica], self._loader))
        queue = ChunkQueue(iter([self._chunk(cache, order)]), ahead=2)
        (encoded,) = self._replica.run(queue, self._loader, rows_done=lambda _: None)
        if not is_announced(cache.folder, self._job.token):
            raise CacheError(f"{cache.folder} is no longer written by this job")
        with self._replica.times.running(), self._replica.times.at(Phase.WRITE):
            writer.write(encoded)
        after = shares_of([self._replica], self._loader)
        return Made(
            chunk=order.chunk,
            streams=tuple(_made(cache, name, encoded) for name in order.streams),
            shares=tuple(now.since(then) for now, then in zip(after, before, strict=True)),
        )

    def _open(self) -> tuple[ActivationCache, EncodedWriter]:
        """The cache and its writer. The job opens all streams before it orders the first chunk."""
        if self._cache is None or self._writer is None:
            self._cache = cache = ActivationCache(self._job.folder)
            rows, config = self._rows.manifest.rows, self._job.config
            self._writer = EncodedWriter(
                cache,
                {
                    name: StreamWriter(cache.folder, cache.info, rows, cache.stream(name))
                    for name in config.specs
                },
                ThumbnailWriter(cache.folder, cache.info, config.thumbnails),
            )
        return self._cache, self._writer

    def _chunk(self, cache: ActivationCache, order: Order) -> Chunk:
        """What a chunk needs. The one before may be missing, so none is relied on."""
        (chunk,) = Work(
            self._rows.table,
            cache.info,
            {order.chunk: order.streams},
            frozenset([order.chunk] if order.pictured else []),
            self._job.config.thumbnails,
            self._job.config.batch_size,
            detached=frozenset([order.chunk]),
        )
        return chunk

    def _first_image(self) -> str:
        """Digest of the first image, which shows whether files are those of the other workers."""
        images = self._rows.manifest.rows.column("image")
        first = next((path.as_py() for path in images if path.is_valid), None)
        if first is None:
            return ""
        try:
            return hashlib.sha256(self._job.dataset.read_image(first)).hexdigest()
        except DatasetError:
            return ""


def _made(cache: ActivationCache, name: str, encoded: ChunkFeatures) -> MadeStream:
    """What was written of a stream, as it lies in the cache."""
    features, valid = (cache.stored.checksum(name, a, encoded.chunk.index) for a in ARRAYS)
    reasons = Counter(encoded.reasons[name].values())
    return MadeStream(
        stream=name,
        checksums=(features, valid),
        rejected=reasons.total(),
        reasons=tuple(
            (shorten(reason, _REASON_LENGTH), rows)
            for reason, rows in reasons.most_common(_NAMED_REASONS)
        ),
    )
