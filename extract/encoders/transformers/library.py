"""transformers as an encoder library; imports transformers only where a function needs it."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparc.common.errors import EncoderError
from sparc.extract.encoders.transformers.spec import TransformersSpec

if TYPE_CHECKING:
    import torch

    from sparc.extract.encoders.encoder import Encoder

_WIDTHS = ("hidden_size", "d_model", "dim", "n_embd")
"""What configurations call the width of a text model (BERT, T5, DistilBERT, GPT)."""


class TransformersLibrary:
    """See `sparc.extract.encoders.library.Library`."""

    spec = TransformersSpec
    package = "transformers"

    def width(self, spec: TransformersSpec) -> int | None:
        """See `Library.width`; known for a folder, without importing transformers."""
        file = Path(spec.model) / "config.json"
        if not file.is_file():
            return None
        try:
            config = json.loads(file.read_bytes())
        except ValueError as error:
            raise EncoderError(f"{file} is not JSON: {error}") from error
        # CLIP's towers have their own, and what comes of a projection is known once it is loaded.
        if not isinstance(config, dict) or {"text_config", "projection_dim"} & set(config):
            return None
        widths = [config[name] for name in _WIDTHS if name in config]
        if not widths and isinstance(stages := config.get("hidden_sizes"), list):  # ConvNeXt
            widths = stages[-1:]
        return int(widths[0]) if widths and isinstance(widths[0], int) else None

    def load(self, spec: TransformersSpec) -> Any:
        """See `Library.load`."""
        from sparc.extract.encoders.transformers.loading import load_transformers

        return load_transformers(_in_snapshot(spec))

    def build(self, spec: TransformersSpec, model: Any, device: "torch.device") -> "Encoder":
        """See `Library.build`."""
        spec = _in_snapshot(spec)
        if spec.tower == "image":
            from sparc.extract.encoders.transformers.images import TransformersImageEncoder

            return TransformersImageEncoder(spec, model, device)
        from sparc.extract.encoders.transformers.texts import TransformersTextEncoder

        return TransformersTextEncoder(spec, model, device)


def _in_snapshot(spec: TransformersSpec) -> TransformersSpec:
    """The same with the snapshot in a hub's cache, where its folder is that of a repository."""
    from sparc.extract.encoders.folders import in_snapshot
    from sparc.extract.encoders.hub import loading

    with loading(spec, from_hub=False):
        return dataclasses.replace(spec, model=in_snapshot(spec.model))
