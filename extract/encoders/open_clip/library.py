"""open_clip as an encoder library; imports open_clip only where a function needs it."""

import dataclasses
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

        return load_open_clip(_in_snapshot(spec))

    def build(self, spec: OpenClipSpec, model: Any, device: "torch.device") -> "Encoder":
        """See `Library.build`."""
        from sparc.extract.encoders.open_clip.models import (
            OpenClipImageEncoder,
            OpenClipTextEncoder,
        )

        spec = _in_snapshot(spec)
        if spec.tower == "image":
            return OpenClipImageEncoder(spec, model, device)
        return OpenClipTextEncoder(spec, model, device)


def _in_snapshot(spec: OpenClipSpec) -> OpenClipSpec:
    """The same with the snapshot in a hub's cache, where its folder is that of a repository."""
    from sparc.extract.encoders.folders import in_snapshot
    from sparc.extract.encoders.hub import loading

    if not spec.model.startswith(LOCAL_FOLDER):
        return spec
    with loading(spec, from_hub=False):
        folder = in_snapshot(spec.model.removeprefix(LOCAL_FOLDER))
    return dataclasses.replace(spec, model=f"{LOCAL_FOLDER}{folder}")
