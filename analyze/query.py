"""From a text, a picture or a row to the code that is searched with.

A text or a picture goes through the very encoder that made its stream of the cache, rebuilt from
the spec that the cache recorded, and through the model alone: no other stream helps it select.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from sparc.common.cache import ActivationCache
from sparc.common.errors import ConfigError, EncoderError
from sparc.common.streams import Modality, StreamSpec
from sparc.extract.datasets.images import open_image_file
from sparc.extract.encoders import build_encoders
from sparc.extract.encoders.base import Encoder
from sparc.extract.pictures import PictureError
from sparc.train.model import Sparc


class Query(NamedTuple):
    """Independent codes of some texts or pictures.

    Attributes:
        indices: The latents selected, ascending, (n, k) int64.
        values: Their values, zero where not active, (n, k) float32.
    """

    indices: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]


BuildEncoders = Callable[[dict[str, StreamSpec], torch.device], dict[str, Encoder]]


class QueryEncoder:
    """The encoder of one stream, and the model behind it.

    Args:
        cache: The cache whose stream it is.
        model: The model, on the device to use.
        stream: Which stream.
        spec: Replaces the recorded spec, whose file may have moved; empty keeps it.
        build: Builds the encoder.

    Raises:
        ConfigError: The stream's features did not come from an encoder, or it reads something else.
        EncoderError: The encoder cannot be built, or is another one than that of the cache.
    """

    def __init__(
        self,
        cache: ActivationCache,
        model: Sparc,
        stream: str,
        *,
        spec: str = "",
        build: BuildEncoders = build_encoders,
    ) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        self._stream = stream
        info = cache.streams[stream]
        self.modality: Modality = info.modality
        text = spec or info.origin.spec
        if text == "array":
            raise ConfigError(
                f"{cache.folder}: the features of stream {stream} came from elsewhere, so that no "
                "encoder is known: give the one that made them with --spec"
            )
        try:
            encoder = build({stream: StreamSpec.parse(text)}, self._device)[stream]
        except EncoderError as error:
            advice = "" if spec else "; if its weights have moved, say with --spec where they are"
            raise EncoderError(f"{error}{advice}") from error
        self._encoder: Any = encoder
        made, recorded = encoder.origin, info.origin
        if StreamSpec.parse(text).modality != info.modality or encoder.dim != info.dim:
            raise EncoderError(
                f"{text} gives {StreamSpec.parse(text).modality} features of {encoder.dim} values; "
                f"stream {stream} of {cache.folder} has {info.modality} features of {info.dim}"
            )
        for what in ("weights_sha256", "pooling", "input_size", "preprocessing"):
            a, b = getattr(recorded, what), getattr(made, what)
            if a and b and tuple(a) != tuple(b):
                raise EncoderError(
                    f"{text} is not the encoder that made stream {stream} of {cache.folder} "
                    f"({what}: {a!r} then, {b!r} now): give the same one with --spec"
                )

    def texts(self, texts: Sequence[str]) -> Query:
        """Codes of some texts.

        Raises:
            ConfigError: The stream is of pictures.
        """
        self._require("text")
        with torch.inference_mode():
            return self._codes(self._encoder.encode(texts).features)

    def picture(self, file: Path) -> Query:
        """The code of a picture's file.

        Raises:
            ConfigError: The stream is of texts, or the file is no picture.
        """
        self._require("image")
        try:
            picture = open_image_file(file)
        except PictureError as error:
            raise ConfigError(f"cannot read the picture: {error}") from error
        with torch.inference_mode():
            pixels = self._encoder.prepare(picture)[None].to(self._device)
            return self._codes(self._encoder.encode(pixels))

    def _require(self, modality: Modality) -> None:
        if self.modality != modality:
            raise ConfigError(
                f"stream {self._stream} does not read {modality}s: say with --from which one does"
            )

    def _codes(self, features: torch.Tensor) -> Query:
        with torch.inference_mode():
            codes = self._model.encode({self._stream: features.float()}, "independent")
        indices, order = codes[self._stream].indices.sort(dim=1)
        values = codes[self._stream].values.gather(1, order)
        return Query(indices.cpu().numpy(), values.float().cpu().numpy())
