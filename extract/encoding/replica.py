"""One device: its copies of the encoders, and the chunks that it takes from the common queue.

A batch never crosses a chunk, and an image that cannot be used is an image of zeros in its place
of the batch: what else is in a batch moves the last bits of a feature, and so must not depend on
where an earlier run was stopped. Nothing here knows how a cache is written.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sparc.common.errors import EncoderError
from sparc.extract.encoders.encoder import Encoder, ImageEncoder, TextEncoder
from sparc.extract.encoding.chunks import Chunk, ChunkImage
from sparc.extract.encoding.loader import ImageLoader, Loaded
from sparc.extract.encoding.memory import is_out_of_memory

BYTES_AHEAD = 256 * 2**20
"""Prepared pixels that may wait for a device; one more batch is always under way."""

E = TypeVar("E")

NO_CAPTION = "no caption"


class ChunkFeatures(NamedTuple):
    """What the encoders made of a chunk, before it is written.

    Attributes:
        chunk: Which chunk, and for which streams.
        features: By stream, (rows of the chunk, dim) float32; zeros where there is a reason, and
            in the rows that the chunk takes over from the one before.
        reasons: By stream, why a row of the cache has no feature.
        cut: By text stream, how many captions were longer than the encoder's context.
    """

    chunk: Chunk
    features: dict[str, npt.NDArray[np.float32]]
    reasons: dict[str, dict[int, str]]
    cut: dict[str, int]


class ChunkQueue:
    """Chunks in order, handed out to several devices, never far ahead of what was written.

    Args:
        chunks: The chunks; pulled one by one.
        ahead: How many may be handed out and not written.
    """

    def __init__(self, chunks: Iterator[Chunk], ahead: int) -> None:
        self._chunks = chunks
        self._free = threading.Semaphore(ahead)
        self._turn = threading.Lock()
        self._stopped = False

    def take(self, *, wait: bool) -> Chunk | None:
        """The next chunk; None where there is none left, or none yet and `wait` is false."""
        if not self._free.acquire(blocking=wait):
            return None
        with self._turn:
            chunk = None if self._stopped else next(self._chunks, None)
        if chunk is None:
            self._free.release()
        return chunk

    def written(self) -> None:
        """A chunk that was handed out has been written."""
        self._free.release()

    def stop(self) -> None:
        """Hand out nothing more."""
        self._stopped = True
        self._free.release()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped


class _Batch(NamedTuple):
    """Images of a chunk that are encoded together; none in a chunk without images to encode."""

    chunk: Chunk
    first: int
    loads: list[Future[Loaded]]
    size: int
    last: bool


class Replica:
    """The encoders on one device.

    Args:
        device: The device.
        images: The encoders of image streams, built for that device.
        texts: The encoders of text streams, built for that device.
        batch_size: Images or captions a forward pass.
        threads: PyTorch threads for one operation, where the device is the CPU.
    """

    def __init__(
        self,
        device: torch.device,
        images: Mapping[str, ImageEncoder],
        texts: Mapping[str, TextEncoder],
        *,
        batch_size: int,
        threads: int,
    ) -> None:
        self.device = device
        self.images = images
        self.texts = texts
        self.encoders: Mapping[str, Encoder] = {**images, **texts}
        self._batch_size = batch_size
        self._threads = threads

    def run(
        self,
        queue: ChunkQueue,
        loader: ImageLoader,
        *,
        encoded: Callable[[int], None],
    ) -> Iterator[ChunkFeatures]:
        """Encode chunks until the queue is empty.

        Args:
            queue: Where the chunks come from.
            loader: What loads their images.
            encoded: Told how many more rows have been encoded, after every batch.

        Raises:
            EncoderError: A batch does not fit the device's memory.
        """
        if self.device.type == "cpu":
            torch.set_num_threads(self._threads)
        ahead: deque[_Batch] = deque()
        coming = self._batches(queue, loader, ahead)
        bytes_ahead = 0
        work: _ChunkWork | None = None
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
                work = _ChunkWork(batch.chunk, self, encoded)
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
        self, queue: ChunkQueue, loader: ImageLoader, ahead: deque[_Batch]
    ) -> Iterator[_Batch | None]:
        """Batches of images, being loaded; None where no chunk can be had for now."""
        while True:
            # Waiting for other devices is safe only with nothing of our own left to encode.
            chunk = queue.take(wait=not ahead)
            if chunk is None:
                yield None
                continue
            encoders = _needed(self.images, chunk)
            pixels = sum(_bytes(encoder) for encoder in encoders.values())
            chunk_images = chunk.images if encoders else ()
            bounds = [*range(0, max(len(chunk_images), 1), self._batch_size), len(chunk_images)]
            for first, end in pairwise(bounds):
                paths = [image.path for image in chunk_images[first:end]]
                yield _Batch(
                    chunk=chunk,
                    first=first,
                    loads=loader.submit(paths, encoders),
                    size=pixels * len(paths),
                    last=end == len(chunk_images),
                )


class _ChunkWork:
    """A chunk that is being encoded."""

    def __init__(self, chunk: Chunk, replica: Replica, encoded: Callable[[int], None]) -> None:
        self._device = replica.device
        self._images = _needed(replica.images, chunk)
        self._texts = _needed(replica.texts, chunk)
        self._encoded = encoded
        self._done = 0
        self._told = 0
        self._waiting: list[tuple[str, list[ChunkImage], Tensor]] = []
        self._result = ChunkFeatures(
            chunk=chunk,
            features={
                name: np.zeros((len(chunk.rows), replica.encoders[name].dim), dtype=np.float32)
                for name in chunk.streams
            },
            reasons={name: {} for name in chunk.streams},
            cut=dict.fromkeys(self._texts, 0),
        )

    def encode_images(self, batch: _Batch) -> None:
        """Encode a batch of images for every image stream."""
        loaded = [load.result() for load in batch.loads]
        images = list(batch.chunk.images[batch.first : batch.first + len(loaded)])
        for image, (_, reason) in zip(images, loaded, strict=True):
            if reason is not None:
                for name in self._images:
                    self._result.reasons[name].update(dict.fromkeys(image.rows, reason))
        good = [pixels for pixels, reason in loaded if reason is None]
        started = []
        for name, encoder in self._images.items():
            if good:
                empty = torch.zeros_like(good[0][name])
                pixels = torch.stack([load.pixels.get(name, empty) for load in loaded])
                started.append((name, images, self._encode_pixels(name, encoder, pixels)))
            self._tell(len(images))
        # On a GPU the encoder still runs: the batch before this one is fetched meanwhile.
        self._fetch()
        self._waiting = started

    def encode_captions(self, batch_size: int, queue: ChunkQueue) -> None:
        """Encode the chunk's captions for every text stream, or until the queue is stopped."""
        captions = self._result.chunk.captions
        without = set(self._result.chunk.rows).difference(row for row, _ in captions)
        for name, encoder in self._texts.items():
            self._result.reasons[name].update(dict.fromkeys(sorted(without), NO_CAPTION))
            for first in range(0, len(captions), batch_size):
                if queue.stopped:
                    return
                batch = captions[first : first + batch_size]
                with torch.inference_mode(), _memory_advice(name, self._device):
                    features, cut = encoder.encode([text for _, text in batch])
                places = [row - self._result.chunk.rows.start for row, _ in batch]
                self._result.features[name][places] = features.float().cpu().numpy()
                self._result.cut[name] += cut
                self._tell(len(batch))

    def finish(self) -> ChunkFeatures:
        """The finished chunk."""
        self._fetch()
        self._encoded(len(self._result.chunk.rows) - self._told)
        return self._result

    def _encode_pixels(self, name: str, encoder: ImageEncoder, pixels: Tensor) -> Tensor:
        if self._device.type == "cuda":
            pixels = pixels.pin_memory().to(self._device, non_blocking=True)
        with torch.inference_mode(), _memory_advice(name, self._device):
            return encoder.encode(pixels)

    def _fetch(self) -> None:
        """Copy the features of the last batch to the rows that show its images."""
        start = self._result.chunk.rows.start
        for name, images, features in self._waiting:
            reasons = self._result.reasons[name]
            for image, feature in zip(images, features.float().cpu().numpy(), strict=True):
                if image.rows.start not in reasons:
                    rows = slice(image.rows.start - start, image.rows.stop - start)
                    self._result.features[name][rows] = feature
        self._waiting = []

    def _tell(self, items: int) -> None:
        """Report progress in whole rows: the chunk's, in proportion to what has been encoded."""
        chunk = self._result.chunk
        self._done += items
        total = len(chunk.images) * len(self._images) + len(chunk.captions) * len(self._texts)
        rows = len(chunk.rows) * self._done // max(total, 1)
        self._encoded(rows - self._told)
        self._told = rows


@contextmanager
def _memory_advice(stream: str, device: torch.device) -> Iterator[None]:
    """An allocation that fails becomes an error that says what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise EncoderError(
            f"stream {stream}: a batch does not fit the memory of {device}; "
            "choose a smaller --batch-size"
        ) from error


def _needed(encoders: Mapping[str, E], chunk: Chunk) -> dict[str, E]:
    return {name: encoder for name, encoder in encoders.items() if name in chunk.streams}


def _bytes(encoder: ImageEncoder) -> int:
    """Bytes of one prepared image."""
    height, width = (*encoder.origin.input_size, 224, 224)[:2]
    return 3 * height * width * 4
