"""Named sets of streams: the encoders of the published experiments (arXiv 2507.06265)."""

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from sparc.common.errors import ConfigError
from sparc.extract.encoders.libraries import parse_spec
from sparc.extract.encoders.spec import StreamSpec


def _dinov2_clip(dino: str, clip: str) -> Mapping[str, StreamSpec]:
    streams = {
        "dino": f"timm:{dino}?size=224",
        "clip_img": f"open_clip:{clip}#image",
        "clip_txt": f"open_clip:{clip}#text",
    }
    return MappingProxyType({name: parse_spec(text) for name, text in streams.items()})


PRESETS: Mapping[str, Mapping[str, StreamSpec]] = MappingProxyType(
    {
        # COCO: widths 768, 512, 512.
        "dinov2-clip-b": _dinov2_clip(
            "vit_base_patch14_reg4_dinov2.lvd142m", "ViT-B-16/datacomp_xl_s13b_b90k"
        ),
        # Open Images: widths 1024, 768, 768.
        "dinov2-clip-l": _dinov2_clip(
            "vit_large_patch14_reg4_dinov2.lvd142m", "ViT-L-14/datacomp_xl_s13b_b90k"
        ),
    }
)
"""Specs by stream name, by preset.

The models are the published ones. DINOv2 gets the whole shorter side, as timm prescribes for it;
the published extraction cropped the central 224 of 256 pixels.
"""


def preset(name: str) -> Mapping[str, StreamSpec]:
    """The streams of a preset, by name, in order.

    Raises:
        ConfigError: There is no such preset; the message lists them.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        advice = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"no preset {name!r}: {advice}presets are {', '.join(PRESETS)}")
    return PRESETS[name]
