"""timm as an encoder library; imports timm only where a function needs it."""

from typing import TYPE_CHECKING, Any

from sparc.common.errors import EncoderError
from sparc.extract.encoders.timm.spec import TimmSpec

if TYPE_CHECKING:
    import torch

    from sparc.extract.encoders.encoder import ImageEncoder


class TimmLibrary:
    """See `sparc.extract.encoders.library.Library`."""

    spec = TimmSpec
    package = "timm"

    def width(self, spec: TimmSpec) -> int | None:
        """See `Library.width`."""
        import timm

        from sparc.extract.encoders.sizes import without_memory

        if spec.model.startswith(("hf-hub:", "hf_hub:", "local-dir:")):
            return None
        if not timm.is_model(spec.model):
            raise EncoderError(f"timm has no model {spec.model!r}; `timm.list_models()` lists them")
        with without_memory():
            model = timm.create_model(spec.model, pretrained=False, num_classes=0)
        if spec.pool == "default" and spec.block is None:
            return int(getattr(model, "head_hidden_size", None) or model.num_features)
        return int(model.num_features)

    def load(self, spec: TimmSpec) -> Any:
        """See `Library.load`."""
        from sparc.extract.encoders.timm.models import load_timm

        return load_timm(spec)

    def build(self, spec: TimmSpec, model: Any, device: "torch.device") -> "ImageEncoder":
        """See `Library.build`."""
        from sparc.extract.encoders.timm.models import TimmImageEncoder

        return TimmImageEncoder(spec, model, device)
