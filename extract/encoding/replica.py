"""One device: its copies of the encoders, and the chunks that it takes from the common queue.

A batch never crosses a chunk: what else is in a batch moves the last bits of a feature, and so must
not depend on where an earlier run was stopped. Nothing here knows how a cache is written.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise, product

import torch

from sparc.common.errors import EncoderError
from sparc.common.progress import say
from sparc.common.text import amount, printable, shorten
from sparc.common.timing.phases import Phase, Role
from sparc.common.timing.stopwatch import Stopwatch
from sparc.extract.encoders import StreamSpec
from sparc.extract.encoders.encoder import Encoder, Encoders, ImageEncoder
from sparc.extract.encoders.precision import Arithmetic, is_fast, usual
from sparc.extract.encoding.chunk_queue import ChunkQueue
from sparc.extract.encoding.chunk_work import Batch, ChunkWork
from sparc.extract.encoding.chunks import Chunk, ChunkFeatures, ChunkImage
from sparc.extract.encoding.loader import ImageLoader

BYTES_AHEAD = 256 * 2**20
"""Prepared pixels that may wait for a device; one more batch is always under way."""

CHUNKS_AHEAD = 2
"""Chunks that may wait for a device as a whole, so that small ones are left for the others."""

BuildEncoders = Callable[[Mapping[str, StreamSpec], torch.device], Encoders]


class Replica:
    """The encoders on one device.

    Args:
        device: The device.
        encoders: The encoders, built for that device.
        batch_size: Images or captions per forward pass.
        threads: PyTorch threads for one operation, where the device is the CPU.
        arithmetic: What the encoders compute in; None: what is usual on the device.

    Attributes:
        device: The device.
        encoders: The encoders.
        arithmetic: What they compute in.
    """

    def __init__(
        self,
        device: torch.device,
        encoders: Encoders,
        *,
        batch_size: int,
        threads: int,
        arithmetic: Arithmetic | None = None,
    ) -> None:
        self.device = device
        self.encoders = encoders
        self.arithmetic = arithmetic or usual(device)
        self.times = Stopwatch(Role.ENCODER, str(device))
        """Where the time of the thread goes that encodes, and the rows that it has encoded."""
        self._batch_size = batch_size
        self._threads = threads

    def run(
        self, queue: ChunkQueue, loader: ImageLoader, *, rows_done: Callable[[int], object]
    ) -> Iterator[ChunkFeatures]:
        """Encode chunks until the queue is empty.

        Args:
            queue: Where the chunks come from.
            loader: Loads their images.
            rows_done: Called after every batch, with the number of rows encoded since the last.

        Raises:
            EncoderError: A batch does not fit the device's memory.
        """
        if self.device.type == "cpu":
            torch.set_num_threads(self._threads)
        with self.times.running():
            yield from self._run(queue, loader, rows_done)

    def _run(
        self, queue: ChunkQueue, loader: ImageLoader, rows_done: Callable[[int], object]
    ) -> Iterator[ChunkFeatures]:
        def count(rows: int) -> None:
            self.times.add_rows(rows)
            rows_done(rows)

        ahead: deque[Batch] = deque()
        coming = self._batches(queue, loader, ahead)
        bytes_ahead = 0
        work: ChunkWork | None = None
        while True:
            while bytes_ahead < BYTES_AHEAD or len(ahead) < 2:
                batch = next(coming)
                if batch is None:
                    break
                ahead.append(batch)
                bytes_ahead += batch.size
            if not ahead:
                return
            batch = ahead.popleft()
            if work is None:
                encoders = self.encoders.of(batch.chunk.streams)
                work = ChunkWork(
                    batch.chunk, encoders, self.device, self.times, self.arithmetic, count
                )
            work.encode_images(batch)
            bytes_ahead -= batch.size
            if batch.last:
                work.encode_captions(self._batch_size, queue)
            if queue.stopped:
                return
            if batch.last:
                yield work.finish()
                work = None

    def _batches(
        self, queue: ChunkQueue, loader: ImageLoader, ahead: deque[Batch]
    ) -> Iterator[Batch | None]:
        """Batches of images, being loaded; None where no chunk is available for now."""
        while True:
            whole = sum(batch.last for batch in ahead)
            # Waiting for other devices is safe only if this one has nothing left to encode.
            with self.times.at(Phase.BLOCKED):
                chunk = queue.take(wait=not ahead) if whole < CHUNKS_AHEAD else None
            if chunk is None:
                yield None
                continue
            encoders = self.encoders.of(chunk.streams).images
            pixels = sum(_bytes(encoder) for encoder in encoders.values())
            for images, is_last in _divided(chunk, self._batch_size, any_images=bool(encoders)):
                paths = [image.path for image in images]
                yield Batch(
                    chunk=chunk,
                    images=images,
                    loads=loader.submit(paths, encoders, thumbnail_side=chunk.thumbnail_side),
                    size=pixels * len(paths),
                    last=is_last,
                )


def build_replicas(
    devices: Sequence[torch.device],
    specs: Mapping[str, StreamSpec],
    build: BuildEncoders,
    *,
    batch_size: int,
    arithmetic: Arithmetic | None = None,
) -> list[Replica]:
    """The encoders of all streams on each device; devices that are the CPU share its threads.

    Raises:
        EncoderError: An encoder cannot be built, or is another one on each device.
    """
    on_cpu = sum(device.type == "cpu" for device in devices)
    threads = max(1, torch.get_num_threads() // max(on_cpu, 1))
    encoders = [build(specs, device) for device in devices]
    for (name, spec), others in product(specs.items(), encoders[1:]):
        if others[name].origin != encoders[0][name].origin:
            raise EncoderError(
                f"stream {name}: {printable(str(spec))} has other weights each time it is built: "
                "load or seed them"
            )
    return [
        Replica(device, built, batch_size=batch_size, threads=threads, arithmetic=arithmetic)
        for device, built in zip(devices, encoders, strict=True)
    ]


def announced_replicas(
    devices: Sequence[torch.device],
    specs: Mapping[str, StreamSpec],
    build: BuildEncoders,
    *,
    batch_size: int,
    arithmetic: Arithmetic | None = None,
) -> list[Replica]:
    """As `build_replicas`, and says what is loaded and what each encoder reads."""
    say(f"loading {amount(len(specs), 'encoder')} on {', '.join(map(str, devices))}")
    replicas = build_replicas(devices, specs, build, batch_size=batch_size, arithmetic=arithmetic)
    if not is_fast(replicas[0].arithmetic, replicas[0].device):
        say(f"bfloat16 is slower than float32 on this {replicas[0].device}: leave out --precision")
    for name in specs:
        say(f"{name}: {_reads(replicas[0].encoders[name])}")
    return replicas


def _reads(encoder: Encoder) -> str:
    """What an encoder reads and what becomes its feature."""
    origin = encoder.origin
    reads = f"reads {' x '.join(map(str, origin.input_size))}" if origin.input_size else ""
    return shorten(", ".join(filter(None, [reads, origin.pooling, f"dim {encoder.dim}"])), 200)


def _divided(
    chunk: Chunk, batch_size: int, *, any_images: bool
) -> Iterator[tuple[tuple[ChunkImage, ...], bool]]:
    """The images of a chunk that are encoded together, and whether they are the last.

    The lead is a batch of its own. A chunk without images to encode has one batch, which is empty.
    """
    wanted = any_images or chunk.thumbnail_side > 0
    if wanted and chunk.lead:
        yield chunk.lead, False
    images = chunk.images if wanted else ()
    bounds = [*range(0, max(len(images), 1), batch_size), len(images)]
    for first, end in pairwise(bounds):
        yield images[first:end], end == len(images)


def _bytes(encoder: ImageEncoder) -> int:
    """Bytes of one prepared image."""
    height, width = (*encoder.origin.input_size, 224, 224)[:2]
    return 3 * height * width * 4
