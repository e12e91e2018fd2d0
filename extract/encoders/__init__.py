"""Frozen encoders of any library, behind one interface; importing this imports no library."""

from sparc.extract.encoders.libraries import (
    build_encoders,
    parse_spec,
    register,
    register_encoder,
)
from sparc.extract.encoders.presets import PRESETS, preset
from sparc.extract.encoders.python.own_models import ImageModel, TextModel
from sparc.extract.encoders.spec import StreamSpec

__all__ = [
    "PRESETS",
    "ImageModel",
    "StreamSpec",
    "TextModel",
    "build_encoders",
    "parse_spec",
    "preset",
    "register",
    "register_encoder",
]
