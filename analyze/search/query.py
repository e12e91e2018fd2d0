"""From a text or an image to the code of the query.

It goes through the encoder that made its stream of the cache, built again from a spec given by
hand, or from the recorded one if the user trusts it; then this stream selects independently.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from sparc.analyze.recorded_encoders import (
    BuildEncoders,
    RecordedStream,
    rebuild,
    spec_as_typed,
)
from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import ConfigError, setting
from sparc.common.images.decoding import ImageError, upright_rgb
from sparc.common.images.files import open_image_file
from sparc.common.streams.info import Modality
from sparc.extract.encoders import build_encoders, parse_spec
from sparc.train.model.network import Sparc


class Query(NamedTuple):
    """Independent codes of some texts or images; `Searcher.find` takes that of a single one.

    Attributes:
        indices: The latents selected, ascending, (n, k) int64.
        values: Their values, zero where not active, (n, k) float32.
    """

    indices: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]


class QueryEncoder:
    """The encoder of one stream, and the model behind it.

    Args:
        cache: The cache whose stream it is.
        model: The model, on the device to use.
        stream: Which stream.
        spec: Replaces the recorded spec, whose file may have moved; empty keeps it.
        trust_encoders: Whether to build from a file, folder or repository that the cache names.
        build: Builds the encoder.

    Raises:
        ConfigError: The stream's features did not come from an encoder, or it reads something else.
        EncoderError: The encoder may not or cannot be built, or is not the one of the cache;
            see `sparc.analyze.recorded_encoders`.
    """

    def __init__(
        self,
        cache: ActivationCache,
        model: Sparc,
        stream: str,
        *,
        spec: str = "",
        trust_encoders: bool = False,
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
                f"encoder is known: give the one that made them with {spec_as_typed(stream)}"
            )
        self._encoder: Any = rebuild(
            {stream: parse_spec(text)},
            {stream: RecordedStream(info.dim, info.modality, info.origin)},
            by_hand=[stream] if spec else [],
            trusted=trust_encoders,
            artefact=str(cache.folder),
            device=self._device,
            build=build,
        )[stream]

    def texts(self, texts: Sequence[str]) -> Query:
        """Codes of some texts.

        Raises:
            ConfigError: The stream is of images.
        """
        self._require("text")
        with torch.inference_mode():
            return self._codes(self._encoder.encode(texts).features)

    def image(self, image: str | os.PathLike[str] | Image.Image) -> Query:
        """The code of an image.

        Args:
            image: Its file, or an image of Pillow.

        Raises:
            ConfigError: The stream is of texts, or the file is no image.
        """
        self._require("image")
        try:
            if isinstance(image, Image.Image):
                upright = upright_rgb(image)
            else:
                upright = open_image_file(Path(image))
        except ImageError as error:
            raise ConfigError(f"cannot read the image: {error}") from error
        with torch.inference_mode():
            pixels = self._encoder.prepare(upright)[None].to(self._device)
            return self._codes(self._encoder.encode(pixels))

    def _require(self, modality: Modality) -> None:
        if self.modality != modality:
            raise ConfigError(
                f"stream {self._stream} does not read {modality}s: say with "
                f"{setting('--from', 'source=')} which one does"
            )

    def _codes(self, features: torch.Tensor) -> Query:
        with torch.inference_mode():
            codes = self._model.encode({self._stream: features.float()}, "independent")
        indices, order = codes[self._stream].indices.sort(dim=1)
        values = codes[self._stream].values.gather(1, order)
        return Query(indices.cpu().numpy(), values.float().cpu().numpy())
