"""From stream specs to encoders, each model loaded once."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, cast

import torch

from sparc.common.streams.spec import StreamSpec
from sparc.extract.encoders.encoder import Encoder, Encoders, ImageEncoder, TextEncoder


def build_all(specs: Mapping[str, StreamSpec], device: torch.device) -> Encoders:
    """See `sparc.extract.encoders.build_encoders`."""
    models: dict[Hashable, Any] = {}

    def load(spec: StreamSpec, load_model: Callable[[StreamSpec], Any]) -> Any:
        key = (spec.library, spec.model, spec.weights, spec.size)
        if key not in models:
            models[key] = load_model(spec)
        return models[key]

    images: dict[str, ImageEncoder] = {}
    texts: dict[str, TextEncoder] = {}
    for name, spec in specs.items():
        encoder = _build(spec, device, load)
        if spec.modality == "image":
            images[name] = cast(ImageEncoder, encoder)
        else:
            texts[name] = cast(TextEncoder, encoder)
    return Encoders(images, texts)


def _build(
    spec: StreamSpec,
    device: torch.device,
    load: Callable[[StreamSpec, Callable[[StreamSpec], Any]], Any],
) -> Encoder:
    # Each library is imported only where a spec asks for it: they take seconds.
    match spec.library:
        case "timm":
            from sparc.extract.encoders.timm.models import TimmImageEncoder, load_timm

            return TimmImageEncoder(spec, load(spec, load_timm), device)
        case "open_clip":
            from sparc.extract.encoders.open_clip import models as open_clip_models

            clip = load(spec, open_clip_models.load_open_clip)
            if spec.tower == "image":
                return open_clip_models.OpenClipImageEncoder(spec, clip, device)
            return open_clip_models.OpenClipTextEncoder(spec, clip, device)
        case "transformers":
            from sparc.extract.encoders.transformers import models as transformers_models

            text = load(spec, transformers_models.load_transformers)
            return transformers_models.TransformersTextEncoder(spec, text, device)
