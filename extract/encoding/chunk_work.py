"""A chunk that is being encoded: batches of its images, then its captions.

A batch has zeros in place of an image that cannot be used, so that the features of the others keep
their bits. Nothing here knows where chunks come from or go to.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sparc.common.errors import EncoderError
from sparc.common.timing.phases import Phase
from sparc.common.timing.stopwatch import Stopwatch
from sparc.extract.encoders.encoder import Encoders, ImageEncoder, PlaceEncoder
from sparc.extract.encoders.precision import Arithmetic, computing
from sparc.extract.encoding.chunk_queue import ChunkQueue
from sparc.extract.encoding.chunks import Chunk, ChunkFeatures, ChunkImage
from sparc.extract.encoding.loader import Loaded
from sparc.extract.encoding.memory import is_out_of_memory

NO_CAPTION = "no caption"


class Batch(NamedTuple):
    """Images of a chunk that are encoded together; none in a chunk without images to encode."""

    chunk: Chunk
    images: tuple[ChunkImage, ...]
    loads: list[Future[Loaded]]
    size: int
    last: bool


class ChunkWork:
    """A chunk that is being encoded.

    Args:
        chunk: The chunk.
        encoders: Those of its streams.
        device: Where they run.
        times: Where the time goes.
        arithmetic: What they compute in.
        rows_done: Called after every batch, with the number of rows encoded since the last.
    """

    def __init__(
        self,
        chunk: Chunk,
        encoders: Encoders,
        device: torch.device,
        times: Stopwatch,
        arithmetic: Arithmetic,
        rows_done: Callable[[int], object],
    ) -> None:
        self._encoders = encoders
        self._device = device
        self._times = times
        self._arithmetic = arithmetic
        self._rows_done = rows_done
        self._items_done = 0
        self._rows_reported = 0
        self._waiting: list[tuple[str, tuple[ChunkImage, ...], Tensor]] = []
        self._result = ChunkFeatures(
            chunk=chunk,
            features={
                name: np.zeros((len(chunk.rows), encoders[name].dim), dtype=np.float32)
                for name in chunk.streams
            },
            reasons={name: {} for name in chunk.streams},
            cut=dict.fromkeys(encoders.texts, 0),
            thumbnails={},
        )

    def encode_images(self, batch: Batch) -> None:
        """Encode a batch of images for every image stream."""
        with self._times.at(Phase.STARVED):
            loaded = [load.result() for load in batch.loads]
        with self._times.at(Phase.ENCODE):
            self._encode_images(batch.images, loaded)

    def _encode_images(self, images: tuple[ChunkImage, ...], loaded: Sequence[Loaded]) -> None:
        for image, load in zip(images, loaded, strict=True):
            if load.thumbnail is not None:
                self._result.thumbnails.update(dict.fromkeys(image.rows, load.thumbnail))
            if load.reason is not None:
                for name in self._encoders.images:
                    self._result.reasons[name].update(dict.fromkeys(image.rows, load.reason))
        good = [load.pixels for load in loaded if load.reason is None]
        started = []
        for name, encoder in self._encoders.images.items():
            if good:
                empty = torch.zeros_like(good[0][name])
                pixels = torch.stack([load.pixels.get(name, empty) for load in loaded])
                started.append((name, images, self._encode_pixels(name, encoder, pixels)))
            self._report(len(images))
        # On a GPU the encoder still runs: the batch before this one is fetched meanwhile.
        self._fetch()
        self._waiting = started

    def encode_captions(self, batch_size: int, queue: ChunkQueue) -> None:
        """Encode the chunk's captions for every text stream, or until the queue is stopped."""
        with self._times.at(Phase.ENCODE):
            self._encode_captions(batch_size, queue)

    def _encode_captions(self, batch_size: int, queue: ChunkQueue) -> None:
        chunk = self._result.chunk
        captions, repeats = chunk.captions, chunk.places_per_image
        with_caption = (range(row, row + repeats) for row, _ in captions)
        without = set(chunk.rows).difference(*with_caption)
        for name, encoder in self._encoders.texts.items():
            self._result.reasons[name].update(dict.fromkeys(sorted(without), NO_CAPTION))
            for first in range(0, len(captions), batch_size):
                if queue.stopped:
                    return
                batch = captions[first : first + batch_size]
                with self._encoding(name):
                    features, cut = encoder.encode([text for _, text in batch])
                first_rows = np.array([row - chunk.rows.start for row, _ in batch])
                rows = first_rows[:, None] + np.arange(repeats)
                self._result.features[name][rows] = features.float().cpu().numpy()[:, None]
                self._result.cut[name] += cut
                self._report(len(batch))

    def finish(self) -> ChunkFeatures:
        """The finished chunk."""
        with self._times.at(Phase.ENCODE):
            self._fetch()
        self._rows_done(len(self._result.chunk.rows) - self._rows_reported)
        return self._result

    def _encode_pixels(self, name: str, encoder: ImageEncoder, pixels: Tensor) -> Tensor:
        if self._device.type == "cuda":
            pixels = pixels.pin_memory().to(self._device, non_blocking=True)
        with self._encoding(name):
            if isinstance(encoder, PlaceEncoder):
                return encoder.encode_places(pixels)
            return encoder.encode(pixels)

    @contextmanager
    def _encoding(self, stream: str) -> Iterator[None]:
        """The context of a forward pass."""
        with (
            torch.inference_mode(),
            computing(self._arithmetic),
            _memory_advice(stream, self._device),
        ):
            yield

    def _fetch(self) -> None:
        """Copy the features of the last batch to the rows that show its images."""
        start = self._result.chunk.rows.start
        for name, images, features in self._waiting:
            reasons = self._result.reasons[name]
            for image, feature in zip(images, features.float().cpu().numpy(), strict=True):
                if image.rows.start not in reasons:
                    rows = slice(image.rows.start - start, image.rows.stop - start)
                    places = list(self._result.chunk.places[rows])
                    by_row = feature if feature.ndim == 1 else feature[places]
                    self._result.features[name][rows] = by_row
        self._waiting = []

    def _report(self, items: int) -> None:
        """Report progress in whole rows: the chunk's, in proportion to what has been encoded."""
        chunk = self._result.chunk
        self._items_done += items
        images = (len(chunk.lead) + len(chunk.images)) * len(self._encoders.images)
        captions = len(chunk.captions) * len(self._encoders.texts)
        rows = len(chunk.rows) * self._items_done // max(images + captions, 1)
        self._rows_done(rows - self._rows_reported)
        self._rows_reported = rows


@contextmanager
def _memory_advice(stream: str, device: torch.device) -> Iterator[None]:
    """Turn a failed allocation into an error that says what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise EncoderError(
            f"stream {stream}: a batch does not fit the memory of {device}; "
            "choose a smaller --batch-size"
        ) from error
