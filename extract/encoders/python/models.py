"""Models of a user's own as encoders: checked once with a made-up image or caption, then used.

What is checked: the module is one, its features are (rows, dim), images of any size become inputs
of one shape, and the same input has the same feature twice.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from sparc.common.errors import EncoderError
from sparc.common.streams.origin import StreamOrigin
from sparc.common.text import printable
from sparc.extract.encoders.definition import definition_digest
from sparc.extract.encoders.encoder import (
    EncodedTexts,
    differing_shapes,
    gives_same_twice,
    inputs_of_sizes,
)
from sparc.extract.encoders.precision import autocast
from sparc.extract.encoders.python.function import blaming, call, importing_beside, source_digests
from sparc.extract.encoders.python.own_models import ImageModel, OwnModel, TextModel
from sparc.extract.encoders.python.spec import FunctionSpec
from sparc.extract.encoders.python.tower import OwnTower
from sparc.extract.encoders.tower import LocalizeError
from sparc.extract.encoders.weights import weights_digest

_CAPTIONS = ("a photo of a cat", "two dogs")


class LoadedModel(NamedTuple):
    """What a user's function gave.

    Attributes:
        own: Its module is frozen, in evaluation mode, float32, on the CPU.
        weights: Digest of the weights.
        definition: Digest of the function's source and of what it was called with.
    """

    own: OwnModel
    weights: str
    definition: str


def load_own(
    spec: FunctionSpec,
    function: Callable[..., Any],
    *,
    arguments: Sequence[str] = (),
    file: str | None = None,
) -> LoadedModel:
    """Call a user's function.

    Args:
        spec: The stream's spec.
        function: The function.
        arguments: What it is called with, besides the spec's options.
        file: The file that names it.

    Raises:
        EncoderError: The function fails, or gives no model.
    """
    with blaming(spec, "cannot be built"), importing_beside(spec):
        try:
            own = call(function, arguments, dict(spec.options))
        except EncoderError as error:
            raise EncoderError(f"{printable(str(spec))}: {error}") from error
    if not isinstance(own, ImageModel | TextModel):
        raise EncoderError(
            f"{printable(str(spec))} gives a {type(own).__name__}: it must return "
            "ImageModel(module, prepare) or TextModel(module, tokenize) of sparc.extract.encoders"
        )
    if not isinstance(own.module, nn.Module):
        raise EncoderError(
            f"{printable(str(spec))}: its module is a {type(own.module).__name__}, not an "
            "nn.Module of PyTorch: the weights of one identify a model"
        )
    own.module.float().eval().requires_grad_(False)
    definition = definition_digest(
        library="python",
        function=getattr(function, "__qualname__", type(function).__qualname__),
        sources=source_digests(function, file),
        arguments=list(arguments),
        options=sorted(spec.options),
    )
    return LoadedModel(own, weights_digest(own.module), definition)


class OwnImageEncoder:
    """A user's model of images as an `ImageEncoder`.

    Args:
        spec: What to build.
        loaded: The model, from `load_own`.
        device: Where it runs.

    Attributes:
        dim: Width of a feature.
        origin: What the stream's attributes record.
        device: Where the model runs.

    Raises:
        EncoderError: The model does not read images, or does not give one feature an image.
    """

    def __init__(self, spec: FunctionSpec, loaded: LoadedModel, device: torch.device) -> None:
        if not isinstance(loaded.own, ImageModel):
            raise EncoderError(f"{printable(str(spec))} reads captions: add #text to the spec")
        self._spec, self._own = spec, loaded.own
        self.device = device
        loaded.own.module.to(device)
        inputs = inputs_of_sizes(self.prepare)
        if shapes := differing_shapes(inputs):
            raise EncoderError(
                f"{printable(str(spec))}: images of different sizes become inputs of different "
                f"shapes, {shapes}: crop or resize to one"
            )
        self.dim = _checked_dim(spec, lambda: self.encode(torch.stack(inputs)))
        shape = tuple(inputs[0].shape)
        self.origin = _origin(spec, loaded, shape[-2:] if len(shape) == 3 else ())

    def prepare(self, image: Image.Image) -> Tensor:
        """The model's input for an RGB image, as the user's function makes it."""
        with blaming(self._spec, "cannot prepare an image"):
            pixels = self._own.prepare(image)
        if not isinstance(pixels, Tensor):
            raise EncoderError(
                f"{printable(str(self._spec))}: prepare gives a {type(pixels).__name__}, not a "
                "tensor"
            )
        return pixels.float() if pixels.is_floating_point() else pixels

    def encode(self, pixels: Tensor) -> Tensor:
        """Features of prepared images: (images, dim) float32, on the device."""
        with (
            blaming(self._spec, "cannot encode images"),
            torch.inference_mode(),
            autocast(self.device),
        ):
            pixels = pixels.to(self.device, non_blocking=True)
            if self._own.places is not None:
                tower = self.tower()
                return _feature(self._spec, tower.pool(tower.places(pixels)), len(pixels))
            given = (self._own.encode or self._own.module)(pixels)
            return _feature(self._spec, given, len(pixels))

    def tower(self) -> OwnTower:
        """See `TowerEncoder.tower`."""
        if self._own.places is None or self._own.pool is None:
            raise LocalizeError(
                f"{printable(str(self._spec))} gives no features of places: have its function "
                "return ImageModel(module, prepare, places=…, pool=…)"
            )
        return OwnTower(self._own.places, self._own.pool)


class OwnTextEncoder:
    """A user's model of captions as a `TextEncoder`.

    Args:
        spec: What to build.
        loaded: The model, from `load_own`.
        device: Where it runs.

    Attributes:
        dim: Width of a feature.
        origin: What the stream's attributes record.
        device: Where the model runs.

    Raises:
        EncoderError: The model does not read captions, or does not give one feature a caption.
    """

    def __init__(self, spec: FunctionSpec, loaded: LoadedModel, device: torch.device) -> None:
        if not isinstance(loaded.own, TextModel):
            raise EncoderError(f"{printable(str(spec))} reads images: remove #text from the spec")
        self._spec, self._own = spec, loaded.own
        self.device = device
        loaded.own.module.to(device)
        self.dim = _checked_dim(spec, lambda: self.encode(_CAPTIONS).features)
        self.origin = _origin(spec, loaded)

    def encode(self, captions: Sequence[str]) -> EncodedTexts:
        """Features of captions, cut by the user's tokenizer."""
        with (
            blaming(self._spec, "cannot encode captions"),
            torch.inference_mode(),
            autocast(self.device),
        ):
            tokens = self._own.tokenize(list(captions))
            if isinstance(tokens, Mapping):
                inputs: Any = {name: value.to(self.device) for name, value in tokens.items()}
            else:
                inputs = tokens.to(self.device)
            if self._own.encode is not None:
                given = self._own.encode(inputs)
            elif isinstance(inputs, dict):
                given = self._own.module(**inputs)
            else:
                given = self._own.module(inputs)
            features = _feature(self._spec, given, len(captions))
        return EncodedTexts(features, self.count_cut(captions))

    def count_cut(self, captions: Sequence[str]) -> int:
        """How many captions the tokenizer cuts: those whose last word changes no token."""
        with blaming(self._spec, "cannot tokenize captions"):
            return sum(self._ignores_end(caption) for caption in captions)

    def _ignores_end(self, caption: str) -> bool:
        shorter, *last = caption.rsplit(maxsplit=1)
        if not last:
            return False
        whole, without = self._own.tokenize([caption]), self._own.tokenize([shorter])
        if isinstance(whole, Mapping) and isinstance(without, Mapping):
            return all(_equal(whole[name], without[name]) for name in whole)
        return _equal(whole, without)


def _equal(first: Any, second: Any) -> bool:
    return isinstance(first, Tensor) and isinstance(second, Tensor) and torch.equal(first, second)


def _checked_dim(spec: FunctionSpec, encode: Callable[[], Tensor]) -> int:
    """The width of features that are the same when they are computed again."""
    dim = int(encode().shape[1])
    if dim < 1:
        raise EncoderError(f"{printable(str(spec))} gives features without a value")
    if not gives_same_twice(encode):
        raise EncoderError(
            f"{printable(str(spec))} gives other features each time for the same input: it must "
            "draw nothing at random"
        )
    return dim


def _origin(spec: FunctionSpec, loaded: LoadedModel, size: tuple[int, ...] = ()) -> StreamOrigin:
    return StreamOrigin(
        spec=str(spec),
        pooling="as its own function gives it",
        input_size=size,
        weights_sha256=loaded.weights,
        definition_sha256=loaded.definition,
        preprocessing="its own function's",
    )


def _feature(spec: FunctionSpec, given: Any, rows: int) -> Tensor:
    """What a model gave, if it is a feature a row.

    Raises:
        EncoderError: It is not.
    """
    if not isinstance(given, Tensor):
        raise EncoderError(
            f"{printable(str(spec))} gives a {type(given).__name__}, not a tensor: take the "
            "feature from it with encode=…"
        )
    if given.ndim != 2 or len(given) != rows:
        raise EncoderError(
            f"{printable(str(spec))} gives features of shape {tuple(given.shape)} for {rows} "
            f"inputs, not ({rows}, dim): pool them with encode=…"
        )
    return given.float()
