"""The interface that every encoder has, whatever library it comes from."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor

from sparc.common.streams.origin import StreamOrigin
from sparc.common.text import listed


class EncodedTexts(NamedTuple):
    """Features of a batch of captions.

    Attributes:
        features: (captions, dim) float32.
        cut: How many of the captions were longer than the encoder's context.
    """

    features: Tensor
    cut: int


class ImageEncoder(Protocol):
    """A frozen model of images.

    Attributes:
        dim: Width of a feature.
        origin: What the stream's attributes record; `precision` and `batch_size` are the job's.
    """

    dim: int
    origin: StreamOrigin

    def prepare(self, image: Image.Image) -> Tensor:
        """The model's own preprocessing of an RGB image: (3, height, width) float32.

        Called from several threads at once.
        """
        ...

    def encode(self, pixels: Tensor) -> Tensor:
        """Features of a batch of prepared images: (images, dim) float32, on the device."""
        ...


@runtime_checkable
class PlaceEncoder(ImageEncoder, Protocol):
    """A frozen model of images that also has features for the places of an image."""

    def encode_places(self, pixels: Tensor) -> Tensor:
        """Features by place: (images, places, dim) float32, on the device."""
        ...


class TextEncoder(Protocol):
    """A frozen model of captions.

    Attributes:
        dim: Width of a feature.
        origin: What the stream's attributes record; `precision` and `batch_size` are the job's.
    """

    dim: int
    origin: StreamOrigin

    def encode(self, captions: Sequence[str]) -> EncodedTexts:
        """Features of a batch of captions."""
        ...

    def count_cut(self, captions: Sequence[str]) -> int:
        """How many of the captions are longer than the context, without encoding them."""
        ...


Encoder = ImageEncoder | TextEncoder


@dataclasses.dataclass(frozen=True)
class Encoders:
    """The encoders of some streams, by what they read."""

    images: Mapping[str, ImageEncoder]
    """By stream name, in the order in which the streams were named."""
    texts: Mapping[str, TextEncoder]
    """By stream name, in the order in which the streams were named."""

    def __getitem__(self, stream: str) -> Encoder:
        return self.images[stream] if stream in self.images else self.texts[stream]

    def of(self, streams: Collection[str]) -> "Encoders":
        """Those of some streams."""
        return Encoders(
            {name: encoder for name, encoder in self.images.items() if name in streams},
            {name: encoder for name, encoder in self.texts.items() if name in streams},
        )


_SAME = 0.02
"""Largest difference of two features of one input, as a share of their largest value: kernels of a
GPU need not give the same last bits of bfloat16 twice."""

_SIZES = ((48, 64), (64, 40))
"""Of made-up images, by which it is seen whether an input depends on the size of its image."""


def inputs_of_sizes(prepare: Callable[[Image.Image], Tensor]) -> list[Tensor]:
    """What an encoder makes of made-up images of different sizes: inputs, which need one shape."""
    return [prepare(Image.new("RGB", size, (90, 120, 60))) for size in _SIZES]


def differing_shapes(inputs: Sequence[Tensor]) -> str:
    """The shapes of inputs that are not all of one, for messages; empty where they are."""
    shapes = sorted({tuple(pixels.shape) for pixels in inputs})
    return listed([str(shape) for shape in shapes]) if len(shapes) > 1 else ""


def gives_same_twice(encode: Callable[[], Tensor]) -> bool:
    """Whether an encoder draws nothing at random, as one that hides patches or words does."""
    first, again = encode(), encode()
    largest = float(first.nan_to_num(0, 0, 0).abs().max())  # features of NaN are rejected by row
    return torch.allclose(first, again, rtol=0, atol=_SAME * largest, equal_nan=True)
