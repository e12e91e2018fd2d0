"""From stream specs to encoders, each model loaded once."""

from collections.abc import Callable, Hashable
from typing import Any

import torch

from sparc.common.streams.spec import StreamSpec
from sparc.extract.encoders.base import Encoder


class Builder:
    """Builds encoders that share their models.

    Args:
        device: Where the models run.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._models: dict[Hashable, Any] = {}

    def build(self, spec: StreamSpec) -> Encoder:
        """Build the encoder of one stream.

        Raises:
            EncoderError: It cannot be built.
        """
        # Each library is imported only where a spec asks for it: they take seconds.
        match spec.library:
            case "timm":
                from sparc.extract.encoders.timm_models import TimmImageEncoder, load_timm

                return TimmImageEncoder(spec, self._load(spec, load_timm), self._device)
            case "open_clip":
                from sparc.extract.encoders import open_clip_models

                clip = self._load(spec, open_clip_models.load_open_clip)
                if spec.tower == "image":
                    return open_clip_models.OpenClipImageEncoder(spec, clip, self._device)
                return open_clip_models.OpenClipTextEncoder(spec, clip, self._device)
            case "transformers":
                from sparc.extract.encoders import transformers_models

                text = self._load(spec, transformers_models.load_transformers)
                return transformers_models.TransformersTextEncoder(spec, text, self._device)

    def _load(self, spec: StreamSpec, load: Callable[[StreamSpec], Any]) -> Any:
        key = (spec.library, spec.model, spec.weights, spec.size)
        if key not in self._models:
            self._models[key] = load(spec)
        return self._models[key]
