"""open_clip as an encoder library; imports open_clip only where a function needs it."""

from typing import TYPE_CHECKING, Any

from sparc.common.errors import EncoderError
from sparc.common.streams.places import LOCAL_FOLDER
from sparc.extract.encoders.open_clip.spec import HUB, OpenClipSpec

if TYPE_CHECKING:
    import torch

    from sparc.extract.encoders.encoder import Encoder


class OpenClipLibrary:
    """See `sparc.extract.encoders.library.Library`."""

    spec = OpenClipSpec
    package = "open_clip_torch"

    def width(self, spec: OpenClipSpec) -> int | None:
        """See `Library.width`."""
        import open_clip

        if spec.model.startswith((HUB, LOCAL_FOLDER)):
            return None
        config = open_clip.get_model_config(spec.model)
        if config is None:
            raise EncoderError(
                f"open_clip has no architecture {spec.model!r}; `open_clip.list_models()` lists "
                "them"
            )
        return int(config["embed_dim"])

    def load(self, spec: OpenClipSpec) -> Any:
        """See `Library.load`."""
        from sparc.extract.encoders.open_clip.models import load_open_clip

        return load_open_clip(spec)

    def build(self, spec: OpenClipSpec, model: Any, device: "torch.device") -> "Encoder":
        """See `Library.build`."""
        from sparc.extract.encoders.open_clip.models import (
            OpenClipImageEncoder,
            OpenClipTextEncoder,
        )

        if spec.tower == "image":
            return OpenClipImageEncoder(spec, model, device)
        return OpenClipTextEncoder(spec, model, device)
