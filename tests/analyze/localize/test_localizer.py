"""A CLIP with both towers as two streams: what needs both."""

import dataclasses

import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform
from PIL import Image

from sparc.analyze.localize.config import LocalizeConfig
from sparc.analyze.localize.localizer import Localizer
from sparc.analyze.localize.towers import open_tower
from sparc.extract.encoders import parse_spec
from sparc.extract.encoders.encoder import Encoders
from sparc.extract.encoders.open_clip.models import (
    OpenClipImageEncoder,
    OpenClipModel,
    OpenClipTextEncoder,
)
from sparc.extract.encoders.tower import LocalizeError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def encoders(timm_encoder):
    torch.manual_seed(0)
    vision = {"width": 32, "layers": 2, "head_width": 16, "image_size": 64, "patch_size": 16}
    text = {"width": 32, "heads": 2, "layers": 1}
    config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
    clip = open_clip.CLIP(24, vision, text).eval().requires_grad_(False)
    clip.visual.preprocess_cfg = dataclasses.asdict(PreprocessCfg(size=64))
    loaded = OpenClipModel(clip, image_transform(64, is_train=False), "digest", config)

    def spec(tower):
        return parse_spec(f"open_clip:ViT-B-32/weights.pt#{tower}")

    images = {
        "image": OpenClipImageEncoder(spec("image"), loaded, CPU),
        "other": timm_encoder("test_resnet", "?size=160"),
    }
    return Encoders(images, {"text": OpenClipTextEncoder(spec("text"), loaded, CPU)})


@pytest.fixture(scope="module")
def localizer(encoders, make_model):
    dims = {name: encoders[name].dim for name in ("image", "other", "text")}
    return Localizer(make_model(**dims), encoders, LocalizeConfig(), CPU)


def test_raw_similarity_needs_both_towers_of_one_model(localizer):
    text = localizer.read("a red square")
    encoded = localizer.encode(Image.new("RGB", (100, 64), "red"))
    similarity = localizer.raw_objective("image", text)(encoded.features["image"])
    torch.testing.assert_close(
        similarity, torch.cosine_similarity(encoded.features["image"], text.feature)
    )
    assert localizer.raw_objective("other", text) is None


def test_a_text_is_located_in_every_image_stream(localizer):
    encoded = localizer.encode(Image.effect_noise((100, 64), 90).convert("RGB"))
    text = localizer.read("a red square")
    for stream, grid in (("image", (4, 4)), ("other", (5, 5))):
        objective = localizer.objective(stream, text, encoded)
        (values,) = localizer.maps(stream, encoded, [objective])
        assert values.shape == grid
        assert values.std() > 0
        placed = localizer.placement(stream, encoded.size)
        assert placed.on_image(values).shape == (64, 100)
    words = localizer.words("a red square", text, encoded)
    assert [word for word, _ in words] == ["a", "red", "square"]
    assert any(weight != 0 for _, weight in words)


def test_a_model_without_a_text_stream_cannot_locate_a_text(encoders, make_model):
    model = make_model(image=24)
    localizer = Localizer(model, Encoders({"image": encoders["image"]}, {}), LocalizeConfig(), CPU)
    with pytest.raises(LocalizeError, match="no text stream"):
        localizer.read("a red square")
    encoded = localizer.encode(Image.new("RGB", (64, 64)))
    assert localizer.words("a red square", 3, encoded) == []
    assert localizer.maps("image", encoded, [localizer.objective("image", 3, encoded)]).shape == (
        1,
        4,
        4,
    )


def test_an_unknown_pooling_is_refused(encoders, monkeypatch):
    encoder = encoders["other"]
    monkeypatch.setattr(encoder, "encode", lambda _: -torch.ones(1, encoder.dim))
    with pytest.raises(LocalizeError, match="unknown way"):
        open_tower(encoder)
