"""The presets name models that exist, by the widths of the published experiments."""

import open_clip
import pytest
import timm

from sparc.common.errors import ConfigError
from sparc.extract.encoders import PRESETS, preset


@pytest.mark.parametrize(
    ("name", "widths"), [("dinov2-clip-b", (768, 512)), ("dinov2-clip-l", (1024, 768))]
)
def test_a_preset_is_the_published_trio(name, widths):
    streams = preset(name)
    assert list(streams) == ["dino", "clip_img", "clip_txt"]
    dino, image, text = streams.values()
    assert (dino.modality, image.modality, text.modality) == ("image", "image", "text")
    assert (dino.size, dino.pool, dino.block) == (224, "default", None)
    architecture = dino.model.partition(".")[0]
    assert "reg4_dinov2" in architecture
    assert timm.models.get_pretrained_cfg(dino.model).hf_hub_id
    assert str(widths[0]) in {"vit_base": "768", "vit_large": "1024"}[architecture[:-20]]
    assert (image.model, image.weights) == (text.model, text.weights)
    assert open_clip.is_pretrained_cfg(image.model, image.weights)
    assert open_clip.get_model_config(image.model)["embed_dim"] == widths[1]


def test_an_unknown_preset_is_answered_with_those_there_are():
    with pytest.raises(ConfigError, match=r"did you mean dinov2-clip-b\?.*dinov2-clip-l"):
        preset("dino-clip-b")
    assert set(PRESETS) == {"dinov2-clip-b", "dinov2-clip-l"}
