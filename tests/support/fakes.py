"""Fakes that keep to the protocols of datasets and encoders, small and exactly repeatable."""

import dataclasses
import functools
import hashlib
import io
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from sparc.common.cache import tables
from sparc.common.cache.manifest import Manifest
from sparc.common.errors import DatasetError
from sparc.common.streams.origin import StreamOrigin
from sparc.extract.encoders import StreamSpec
from sparc.extract.encoders.encoder import EncodedTexts, Encoders


def png(number: int, *, side: int = 8) -> bytes:
    """A small image of noise that depends on the number alone."""
    noise = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "png")
    return buffer.getvalue()


def contents(folder: Path) -> dict[str, str]:
    """The digest of every file below a folder, by name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


class FakeDataset:
    """Images `p0`, `p1`, … with these captions.

    Args:
        captions: For each image its captions.
        broken: Images whose bytes are no image.
        missing: Images that are not there.
    """

    def __init__(
        self,
        captions: Sequence[Sequence[str | None]],
        *,
        broken: Sequence[int] = (),
        missing: Sequence[int] = (),
    ) -> None:
        self.captions = captions
        self.broken, self.missing = set(broken), set(missing)
        self.reads: Counter[str] = Counter()
        self._counting = threading.Lock()

    def __reduce__(self):
        """A copy is another object, as of real datasets."""
        keywords = {"broken": tuple(self.broken), "missing": tuple(self.missing)}
        return functools.partial(type(self), self.captions, **keywords), ()

    def manifest(self) -> Manifest:
        flat = [(i, text) for i, texts in enumerate(self.captions) for text in texts]
        rows = pa.table(
            {
                "row": range(len(flat)),
                "sample_id": [f"s{i}" for i, _ in flat],
                "image": [f"p{i}" for i, _ in flat],
                "caption": [text for _, text in flat],
                "label_ids": [[i % 2] for i, _ in flat],
            },
            schema=tables.ROWS,
        )
        classes = pa.table(
            {
                "class_id": [0, 1],
                "key": ["even", "odd"],
                "name": ["even", "odd"],
                "parent_id": [None, None],
                "depth": [1, 1],
            },
            schema=tables.CLASSES,
        )
        return Manifest(dataset="fake", dataset_format="fake", split="", rows=rows, classes=classes)

    def read_image(self, image: str) -> bytes:
        number = int(image[1:])
        with self._counting:
            self.reads[image] += 1
        if number in self.missing:
            raise DatasetError(f"{image}: gone") from FileNotFoundError(2, "gone")
        return b"no image" if number in self.broken else png(number)


class FakeImageEncoder:
    """Features that depend on the whole batch, as real ones do in their last bits."""

    def __init__(
        self,
        dim: int,
        seed: int,
        *,
        scale: float = 1.0,
        delay: float = 0.0,
        meeting: threading.Barrier | None = None,
    ) -> None:
        self.dim = dim
        self.origin = StreamOrigin(spec=f"fake {seed}", input_size=(8, 8))
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.randn(3 * 8 * 8, dim, generator=generator) * scale
        self.delay = delay
        self.meeting = meeting
        self.batches: list[int] = []

    def prepare(self, image: Image.Image) -> Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255

    def encode(self, pixels: Tensor) -> Tensor:
        time.sleep(self.delay)
        if self.meeting is not None and not self.batches:
            self.meeting.wait(timeout=60)
        self.batches.append(len(pixels))
        features = pixels.flatten(1) @ self.weight
        place = torch.arange(len(pixels), dtype=torch.float32)[:, None]
        return features + len(pixels) / 64 + place / 128


class FakeTextEncoder:
    """Features from the letters; a caption of more than 20 letters is cut."""

    def __init__(self, dim: int, *, delay: float = 0.0) -> None:
        self.dim = dim
        self.origin = StreamOrigin(spec="fake text", input_size=(20,))
        self.delay = delay

    def encode(self, captions: Sequence[str]) -> EncodedTexts:
        time.sleep(self.delay)
        features = torch.zeros(len(captions), self.dim)
        for row, caption in enumerate(captions):
            for place, letter in enumerate(caption[:20]):
                features[row, (ord(letter) + place) % self.dim] += 1
        return EncodedTexts(features + len(captions) / 64, self.count_cut(captions))

    def count_cut(self, captions: Sequence[str]) -> int:
        return sum(len(caption) > 20 for caption in captions)


STREAMS = ("a=timm:a", "b=timm:b", "t=transformers:t")


@dataclasses.dataclass
class FakeEncoders:
    """Builds `a` and `b` (images) and `t` (captions); give it to `job.run` as `build`.

    The first batch of every `a` waits for those of as many others as `meeting` wants.
    """

    scale: float = 1.0
    delay: float = 0.0
    meeting: threading.Barrier | None = None
    built: list[dict[str, object]] = dataclasses.field(default_factory=list)

    def __call__(self, specs: Mapping[str, StreamSpec], device: torch.device) -> Encoders:
        makers = {
            "a": lambda: FakeImageEncoder(
                16, 1, scale=self.scale, delay=self.delay, meeting=self.meeting
            ),
            "b": lambda: FakeImageEncoder(24, 2, delay=self.delay),
            "t": lambda: FakeTextEncoder(12, delay=self.delay),
        }
        made = {name: makers[name]() for name in specs}
        self.built.append(dict(made))
        texts = {name: encoder for name, encoder in made.items() if name == "t"}
        return Encoders({n: e for n, e in made.items() if n not in texts}, texts)
