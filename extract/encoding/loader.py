"""Images read, decoded and prepared in threads, ahead of the encoders that wait for them.

An image that cannot be used gives a reason instead of pixels, not an exception. What is no image's
fault (a disk that is gone, no memory left) is raised, so that no image is rejected for it.
"""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from sparc.common.cache.thumbnails.picture import thumbnail_of
from sparc.common.errors import DatasetError, EncoderError, UnavailableError
from sparc.common.images.decoding import ImageError, decode
from sparc.common.text import shorten
from sparc.common.timing.phases import Phase, Role
from sparc.common.timing.stopwatch import Stopwatch
from sparc.extract.datasets.base import Dataset, ReadsAhead
from sparc.extract.encoders.encoder import ImageEncoder
from sparc.extract.encoding.memory import is_out_of_memory

NO_IMAGE = "no picture"
"""A reason, which caches record: its wording never changes, nor do a repaired cache's bytes."""


class Loaded(NamedTuple):
    """An image, ready for every encoder that needs it.

    Attributes:
        pixels: By stream, (3, height, width) float32; empty where there is a reason.
        reason: Why the image cannot be used; None where it can.
        thumbnail: A WebP file, where one was asked for and the image could be decoded.
    """

    pixels: Mapping[str, Tensor]
    reason: str | None = None
    thumbnail: bytes | None = None


class ImageLoader:
    """A pool of threads that turns paths of images into pixels.

    Args:
        dataset: Where the images come from.
        workers: Number of threads.
        decode_side: Least pixels of the shorter side of what is decoded (`decode`); 0: full size.
    """

    def __init__(self, dataset: Dataset, workers: int, *, decode_side: int = 0) -> None:
        self._dataset = dataset
        self.times = Stopwatch(Role.LOADER, rest=Phase.IDLE)
        """Where the time of the threads goes."""
        self._decode_side = decode_side
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="images")
        _start_all(self._pool, workers, self.times)

    def __enter__(self) -> "ImageLoader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        if isinstance(self._dataset, ReadsAhead):
            self._dataset.forget()
        self._pool.shutdown()

    def submit(
        self,
        image_paths: Sequence[str | None],
        encoders: Mapping[str, ImageEncoder],
        *,
        thumbnail_side: int = 0,
    ) -> list[Future[Loaded]]:
        """Begin to load images, each only once for all encoders and its thumbnail.

        Args:
            image_paths: As the column `image` of the rows has them.
            encoders: The encoders to prepare the images for, by stream.
            thumbnail_side: Longest side of thumbnails in pixels; 0 makes none.
        """
        if isinstance(self._dataset, ReadsAhead):
            self._dataset.expect([path for path in image_paths if path is not None])
        return [
            self._pool.submit(self._load, path, encoders, thumbnail_side) for path in image_paths
        ]

    def _load(
        self, image_path: str | None, encoders: Mapping[str, ImageEncoder], thumbnail_side: int
    ) -> Loaded:
        if image_path is None:
            return Loaded({}, NO_IMAGE)
        try:
            with self.times.at(Phase.READ):
                content = self._dataset.read_image(image_path)
            with self.times.at(Phase.DECODE):
                image = decode(content, shorter_side=self._decode_side)
        except ImageError as error:
            return Loaded({}, str(error))
        except UnavailableError:
            raise  # no image is to blame: the rest would all be rejected
        except DatasetError as error:
            return Loaded({}, _reason(error))
        except MemoryError as error:
            raise _no_memory(image_path) from error
        with self.times.at(Phase.PREPARE):
            return _prepared(image_path, image, encoders, thumbnail_side)


def _prepared(
    image_path: str,
    image: Image.Image,
    encoders: Mapping[str, ImageEncoder],
    thumbnail_side: int,
) -> Loaded:
    """What encoders take of a decoded image, and its thumbnail."""
    try:
        thumbnail = thumbnail_of(image, thumbnail_side) if thumbnail_side else None
    except MemoryError as error:
        raise _no_memory(image_path) from error
    try:
        pixels = {name: encoder.prepare(image) for name, encoder in encoders.items()}
    except (ValueError, ArithmeticError, RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise _no_memory(image_path) from error
        return Loaded({}, f"cannot be prepared: {shorten(str(error), 100)}", thumbnail)
    return Loaded(pixels, thumbnail=thumbnail)


def _no_memory(image_path: str) -> EncoderError:
    return EncoderError(
        f"not enough memory to decode {shorten(image_path, 200)}: choose fewer --workers, or a "
        "smaller --batch-size"
    )


def _reason(error: DatasetError) -> str:
    """The reason without the file's name, so that equal reasons can be counted."""
    if isinstance(error.__cause__, FileNotFoundError):
        return "no such file"
    if isinstance(error.__cause__, OSError):
        return f"cannot read the file: {error.__cause__.strerror}"
    return str(error)


def _start_all(pool: ThreadPoolExecutor, workers: int, times: Stopwatch) -> None:
    """Start every thread of the pool and keep PyTorch from starting more in each; time begins.

    PyTorch would start as many threads as the machine has cores in each, all of which would compete
    with the encoder. `torch.set_num_threads` holds for the calling thread, and for threads that
    have not used PyTorch yet: so it is called in all of them first, then restored.
    """
    threads = torch.get_num_threads()
    all_started = threading.Barrier(workers)

    def limit() -> None:
        torch.set_num_threads(1)
        times.start()
        all_started.wait()

    for future in [pool.submit(limit) for _ in range(workers)]:
        future.result()
    torch.set_num_threads(threads)
