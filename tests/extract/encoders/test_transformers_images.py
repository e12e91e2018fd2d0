"""Vision models of transformers: features, preparation and pooling as transformers has them."""

import pytest
import torch
import transformers
from PIL import Image

from sparc.analyze.localize.methods import choose, localize
from sparc.analyze.localize.towers import open_tower
from sparc.common.errors import ConfigError, EncoderError
from sparc.extract.encoders import build_encoders, parse_spec
from sparc.extract.encoders.libraries import feature_width
from sparc.extract.encoders.tower import LocalizeError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "dog", "on", "red", "sofa"]
_SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
_VISION = {**_SMALL, "intermediate_size": 32, "image_size": 32, "patch_size": 8}
_DINO = {**_SMALL, "image_size": 32, "patch_size": 8}
_TEXT = {**_SMALL, "intermediate_size": 16, "vocab_size": len(WORDS), "eos_token_id": 3}
_STAGES = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
_SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2]}
_SWIN |= {"window_size": 4}
_TWO = {"vision_config": _VISION, "text_config": {**_TEXT, "max_position_embeddings": 12}}
_SIDE = {"height": 32, "width": 32}

t = transformers
KINDS = {
    "vit": (t.ViTModel, t.ViTConfig(**_VISION), "ViTImageProcessor"),
    "dinov2": (t.Dinov2Model, t.Dinov2Config(**_DINO), "BitImageProcessor"),
    "convnext": (t.ConvNextModel, t.ConvNextConfig(**_STAGES), "ConvNextImageProcessor"),
    "resnet": (t.ResNetModel, t.ResNetConfig(**_STAGES, embedding_size=8), "ViTImageProcessor"),
    "swin": (
        t.SwinModel,
        t.SwinConfig(**_SWIN),
        "ViTImageProcessor",
    ),
    "beit": (t.BeitModel, t.BeitConfig(**_VISION), "BitImageProcessor"),
    "clip": (t.CLIPModel, t.CLIPConfig(**_TWO, projection_dim=12), "CLIPImageProcessor"),
    "siglip": (t.SiglipModel, t.SiglipConfig(**_TWO), "SiglipImageProcessor"),
    "siglip-alone": (
        t.SiglipVisionModel, t.SiglipVisionConfig(**_VISION), "SiglipImageProcessor",
    ),
    "clip-alone": (
        t.CLIPVisionModelWithProjection, t.CLIPVisionConfig(**_VISION, projection_dim=12),
        "CLIPImageProcessor",
    ),
}  # fmt: skip
UNPOOLED = [
    (t.ViTMAEConfig(**_VISION), r"no pooled output .*: add \?pool=cls or \?pool=mean"),
    (t.IJepaConfig(**_VISION), r"no pooled output .*: add \?pool=mean$"),
]
"""Models of which nothing says how they pool, and what is then asked for."""

if hasattr(t, "DINOv3ViTConfig"):  # since 4.56
    KINDS["dinov3"] = (
        t.AutoModel, t.DINOv3ViTConfig(**_VISION, num_register_tokens=4), "ViTImageProcessor",
    )  # fmt: skip
if hasattr(t, "Aimv2Config"):  # since 4.54
    KINDS |= {
        "aimv2": (t.AutoModel, t.Aimv2VisionConfig(**_VISION), "CLIPImageProcessor"),
        "aimv2-lit": (t.AutoModel, t.Aimv2Config(**_TWO, projection_dim=12), "CLIPImageProcessor"),
    }
    headless = t.Aimv2VisionConfig(**_VISION, use_head=False)
    UNPOOLED.append((headless, r"no pooled output .*: add \?pool=mean$"))


def save(folder, kind, **settings):
    build, config, processor = KINDS[kind]
    torch.manual_seed(0)
    model = build.from_config(config) if build is t.AutoModel else build(config)
    for name, value in model.named_parameters():
        # Random models give all images nearly the same feature.
        if value.ndim > 1 and "embed" not in name:
            torch.nn.init.normal_(value, std=0.2)
    model.save_pretrained(folder)
    size = {"shortest_edge": 32 if kind == "convnext" else 40}
    fixed = kind.startswith(("siglip", "vit", "dinov3", "resnet", "swin"))
    plain = {"size": _SIDE if fixed else size, "crop_size": _SIDE, **settings}
    getattr(t, processor)(**plain).save_pretrained(folder)
    return model.eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    saved = {}

    def folder(kind):
        if kind not in saved:
            saved[kind] = tmp_path_factory.mktemp(kind)
            save(saved[kind], kind)
        return saved[kind]

    return folder


def plain(folder, pictures):
    """What a user of transformers alone would write, a picture at a time."""
    config = t.AutoConfig.from_pretrained(folder)
    named = getattr(t, config.architectures[0])
    model = named.from_pretrained(folder).eval()
    processor = t.AutoImageProcessor.from_pretrained(folder)
    features = []
    for picture in pictures:
        with torch.no_grad():
            inputs = processor(images=picture, return_tensors="pt")
            if hasattr(model, "get_image_features"):
                output = model.get_image_features(**inputs)
            else:
                output = model(**inputs)
        own = getattr(output, "image_embeds", None)
        own = getattr(output, "pooler_output", output) if own is None else own
        features.append(own.flatten(1))
    return processor, torch.cat(features)


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_plain_transformers(kind, folders, pictures, build, assert_same):
    folder = folders(kind)
    processor, expected = plain(folder, pictures)
    encoder = build(f"transformers:{folder}#image")
    inputs = torch.stack([encoder.prepare(picture) for picture in pictures])
    for picture, pixels in zip(pictures, inputs, strict=True):
        own = processor(images=picture, return_tensors="pt")["pixel_values"][0]
        assert torch.equal(pixels, own)
    assert encoder.origin.input_size == tuple(inputs.shape[-2:])
    assert_same(encoder.encode(inputs), expected)
    assert_same(encoder.encode(inputs[1:2]), expected[1:2])  # whatever else is in the batch
    assert encoder.dim == expected.shape[1]
    again = build(f"transformers:{folder}#image")
    assert again.origin == encoder.origin
    assert feature_width(parse_spec(f"transformers:{folder}#image")) in (None, encoder.dim)


@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_of_the_feature(kind, folders, build):
    encoder = build(f"transformers:{folders(kind)}#image")
    if kind in ("convnext", "resnet"):
        with pytest.raises(LocalizeError, match="a single place for the whole image"):
            open_tower(encoder)
        return
    if kind == "swin":  # its last grid is coarser than its patches
        with pytest.raises(LocalizeError, match="which tokens of a swin model"):
            open_tower(encoder)
        return
    tower = open_tower(encoder)  # compares the features of both
    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    reads_class_token = kind in ("vit", "dinov2", "dinov3", "clip", "clip-alone")
    assert choose(tower, pixels) == ("attention" if reads_class_token else "gradcam")
    recorded = []
    with tower.attention_of(tower.blocks[0]).recording(lambda w: recorded.append(w) or w):
        again = tower.pool(tower.places(pixels))
    assert torch.allclose(again, encoder.encode(pixels), atol=1e-5)
    assert [weights.shape[:2] for weights in recorded] == [(1, 2)]  # of this block alone
    for method in ("attention", "gradcam", "direct"):
        (image_map,) = localize(tower, pixels, [lambda f: f[:, 0]], method=method)
        assert image_map.shape == (4, 4)
        assert torch.isfinite(image_map).all()


@pytest.mark.skipif("dinov3" not in KINDS, reason="this release of transformers has no DINOv3")
def test_class_token_and_mean_of_patches(folders, pictures, build, assert_same):
    folder = folders("dinov3")
    encoder = build(f"transformers:{folder}?pool=mean#image")
    pixels = torch.stack([encoder.prepare(picture) for picture in pictures])
    with torch.no_grad():
        model = t.AutoModel.from_pretrained(folder).eval()
        tokens = model(pixel_values=pixels).last_hidden_state
    assert_same(encoder.encode(pixels), tokens[:, 5:].mean(1))
    assert_same(build(f"transformers:{folder}?pool=cls#image").encode(pixels), tokens[:, 0])
    with pytest.raises(EncoderError, match="no class token: use pool=mean or pool=default"):
        build(f"transformers:{folders('siglip')}?pool=cls#image")


def test_both_towers_of_a_folder_share_a_model(folders, pictures, save_tokenizer, assert_same):
    folder = folders("clip")
    save_tokenizer(folder, WORDS)
    specs = {tower: parse_spec(f"transformers:{folder}#{tower}") for tower in ("image", "text")}
    assert [str(spec) for spec in specs.values()] == [
        f"transformers:{folder}#image",
        f"transformers:{folder}",
    ]
    encoders = build_encoders(specs, torch.device("cpu"))
    assert encoders.images["image"]._vision._model is encoders.texts["text"].model
    assert encoders.images["image"].dim == encoders.texts["text"].dim == 12
    (folder / "tokenizer.json").unlink()


def test_the_other_tower_is_named(folders, save_bert, tmp_path, build):
    with pytest.raises(EncoderError, match="reads images, not captions: add #image to the spec"):
        build(f"transformers:{folders('vit')}")
    with pytest.raises(EncoderError, match="the model reads no images"):
        build(f"transformers:{save_bert(tmp_path, WORDS)}#image")
    with pytest.raises(ConfigError, match="pool must be cls, mean or default"):
        parse_spec("transformers:somewhere?pool=last#image")


def test_a_pooler_that_was_not_trained_is_not_used(tmp_path, build, pictures, assert_same):
    save(tmp_path, "vit")
    model = t.ViTForImageClassification(t.ViTConfig(**_VISION)).eval()
    model.save_pretrained(tmp_path)
    encoder = build(f"transformers:{tmp_path}#image")
    pixels = torch.stack([encoder.prepare(picture) for picture in pictures])
    with torch.no_grad():
        expected = model.vit(pixel_values=pixels).last_hidden_state[:, 0]
    assert_same(encoder.encode(pixels), expected)
    assert encoder.origin.pooling == "class token of the last hidden state"
    assert build(f"transformers:{tmp_path}#image").origin == encoder.origin
    with pytest.raises(EncoderError, match="the weights lack 2 tensors of the model"):
        build(f"transformers:{tmp_path}?pool=default#image")


@pytest.mark.parametrize(
    ("config", "message"),
    UNPOOLED,
)
def test_what_does_not_say_how_it_pools_is_asked_for(config, message, tmp_path, build) -> None:
    save(tmp_path, "vit")
    t.AutoModel.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match=message):
        build(f"transformers:{tmp_path}#image")
    if config.model_type == "vit_mae":
        with pytest.raises(EncoderError, match="which tokens are its patches"):
            build(f"transformers:{tmp_path}?pool=cls#image")
    else:
        assert build(f"transformers:{tmp_path}?pool=mean#image").dim == 16


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"do_center_crop": False}, r"different shapes, \(3, .* set do_center_crop"),
        ({"crop_size": {"height": 10**6, "width": 10**6}}, "would be 1,000,000 pixels large"),
    ],
)
def test_images_are_of_one_size(settings, message, tmp_path, write_json, refused) -> None:
    save(tmp_path, "dinov2")
    write_json(tmp_path / "preprocessor_config.json", settings, update=True)
    refused(f"transformers:{tmp_path}#image", message)


def test_more_layers_than_any_model_in_a_stage_are_not_built(tmp_path, write_json, refused) -> None:
    save(tmp_path, "convnext")
    write_json(tmp_path / "config.json", {"depths": [1, 1, 10**9, 1]}, update=True)
    refused(f"transformers:{tmp_path}#image", r"asks for 1,000,000,000 layers \(depths\)")
    write_json(
        tmp_path / "config.json", {"depths": [1] * 4, "hidden_sizes": [10**6] * 4}, update=True
    )
    refused(f"transformers:{tmp_path}#image", "values, which is larger than its weights")


def test_a_folder_that_does_not_say_how_images_are_prepared(tmp_path, refused) -> None:
    save(tmp_path, "dinov2")
    (tmp_path / "preprocessor_config.json").unlink()
    refused(f"transformers:{tmp_path}#image", "lacks preprocessor_config.json")


def test_another_preparation_is_another_encoder(tmp_path, write_json, build) -> None:
    save(tmp_path, "clip")
    first = build(f"transformers:{tmp_path}#image").origin
    write_json(tmp_path / "preprocessor_config.json", {"image_mean": [0.5, 0.5, 0.4]}, update=True)
    second = build(f"transformers:{tmp_path}#image").origin
    assert first.preprocessing != second.preprocessing
    assert "mean (0.5, 0.5, 0.4)" in second.preprocessing
    assert "center crop height 32 width 32" in second.preprocessing


def test_a_gray_image_is_not_needed(folders, build) -> None:
    encoder = build(f"transformers:{folders('vit')}#image")
    assert encoder.prepare(Image.new("RGB", (1, 300))).shape == (3, 32, 32)
