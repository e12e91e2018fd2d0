"""Frozen encoders of timm, open_clip and transformers, behind one interface.

Importing this package imports none of the three: `build_encoders` imports those that it needs.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sparc.common.streams.spec import StreamSpec
from sparc.extract.encoders.presets import PRESETS, preset

if TYPE_CHECKING:
    import torch

    from sparc.extract.encoders.encoder import Encoders

__all__ = ["PRESETS", "build_encoders", "preset"]


def build_encoders(specs: Mapping[str, StreamSpec], device: "torch.device") -> "Encoders":
    """Build the encoders of some streams.

    Streams that use the same model with the same weights share it.

    Args:
        specs: What to build, by stream name.
        device: Where the models run.

    Raises:
        EncoderError: An encoder cannot be built; the message names its spec.
    """
    from sparc.extract.encoders.build import build_all

    return build_all(specs, device)
