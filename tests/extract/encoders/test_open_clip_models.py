"""open_clip encoders against open_clip called by hand."""

import json

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from sparc.common.errors import EncoderError
from sparc.extract.encoders import build_encoders, parse_spec

TINY, TIMM_TOWER = "sparc-test-tiny", "sparc-test-timm-tower"
TEXT = {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
CONFIGS = {
    TINY: {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16,
        },
        "text_cfg": TEXT,
    },
    TIMM_TOWER: {
        "embed_dim": 24,
        "vision_cfg": {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear",
                       "image_size": 160},
        "text_cfg": TEXT,
    },
}  # fmt: skip
CAPTIONS = ["a cat", "", "a dog on a very large red sofa in a sunny room with two windows", "cat"]


@pytest.fixture(scope="module", autouse=True)
def _architectures(tmp_path_factory):
    """Small architectures, known to open_clip while these tests run."""
    folder = tmp_path_factory.mktemp("configs")
    for name, config in CONFIGS.items():
        path = folder / f"{name}.json"
        path.write_text(json.dumps(config))
        open_clip.add_model_config(path)
    yield
    for name in CONFIGS:
        open_clip.factory._MODEL_CONFIGS.pop(name)
        open_clip.factory._MODEL_CONFIG_PATHS.remove(folder / f"{name}.json")


@pytest.fixture(scope="module")
def files(tmp_path_factory, _architectures, save):
    folder = tmp_path_factory.mktemp("weights")
    paths = {}
    for name, suffix in {TINY: ".safetensors", TIMM_TOWER: ".pt"}.items():
        torch.manual_seed(0)
        paths[name] = save(open_clip.create_model(name), folder / f"{name}{suffix}")
    return paths


def towers(model, weights):
    specs = {t: parse_spec(f"open_clip:{model}/{weights}#{t}") for t in ("image", "text")}
    encoders = build_encoders(specs, torch.device("cpu"))
    return encoders["image"], encoders["text"]


@pytest.mark.parametrize("name", [TINY, TIMM_TOWER])
def test_both_towers_are_what_open_clip_gives(name, files, pictures, assert_same):
    image, text = towers(name, files[name])
    model, transform = open_clip.create_model_from_pretrained(name, str(files[name]))
    model.eval()
    pixels = torch.stack([transform(picture) for picture in pictures])
    prepared = torch.stack([image.prepare(picture) for picture in pictures])
    assert torch.equal(prepared, pixels)
    with torch.no_grad():
        assert_same(image.encode(prepared), model.encode_image(pixels))
        tokens = open_clip.get_tokenizer(name)(CAPTIONS)
        assert_same(text.encode(CAPTIONS).features, model.encode_text(tokens))
    assert image.dim == text.dim == CONFIGS[name]["embed_dim"]
    assert image.origin.input_size == tuple(pixels.shape[2:])
    assert text.origin.input_size == (12,)


def test_both_streams_share_one_model(files):
    image, text = towers(TINY, files[TINY])
    assert image.model is text.model
    assert image.origin.weights_sha256 == text.origin.weights_sha256
    assert image.origin.preprocessing.startswith(
        "open_clip evaluation transform: resize shortest, bicubic, mean (0.481455, "
    )


@pytest.mark.parametrize(("words", "cut"), [(9, 0), (10, 0), (11, 1), (12, 1), (500, 1)])
def test_a_caption_is_cut_when_its_tokens_exceed_the_context(words, cut, files):
    _, text = towers(TINY, files[TINY])
    caption = "cat " * words  # a token a word, and one at each end
    assert text.encode([caption, "cat"]).cut == cut
    assert text.encode([caption] * 3).cut == 3 * cut


def test_cuts_are_those_that_the_tokenizer_makes(files):
    _, text = towers(TINY, files[TINY])
    lengths = [len(text.tokenizer.encode(caption)) + 2 for caption in CAPTIONS]
    assert text.encode(CAPTIONS).cut == sum(length > 12 for length in lengths) == 1


def test_a_tag_trained_with_quick_gelu_gets_it(files, pictures, monkeypatch, assert_same):
    tag = {"file": str(files[TINY]), "quick_gelu": True}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, TINY, {"openai": tag})
    image, _ = towers(TINY, "openai")
    quick, transform = open_clip.create_model_from_pretrained(
        TINY, str(files[TINY]), force_quick_gelu=True
    )
    plain, _ = open_clip.create_model_from_pretrained(TINY, str(files[TINY]))
    pixels = torch.stack([transform(picture) for picture in pictures])
    with torch.no_grad():
        features = image.encode(pixels)
        assert_same(features, quick.eval().encode_image(pixels))
        assert (features - plain.eval().encode_image(pixels)).abs().max() > 1e-4


def test_a_file_is_used_as_all_tags_of_its_architecture_are(
    files, pictures, monkeypatch, assert_same, capsys
):
    def as_tags_say(*tags):
        named = dict(zip("ab", tags, strict=False))
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, TINY, named)
        return towers(TINY, files[TINY])[0]

    siglip = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "resize_mode": "squash"}
    first = as_tags_say({**siglip, "quick_gelu": True}, {**siglip, "quick_gelu": True})
    assert "resize squash, bicubic, mean (0.5, 0.5, 0.5)" in first.origin.preprocessing
    quick, _ = open_clip.create_model_from_pretrained(TINY, str(files[TINY]), force_quick_gelu=True)
    pixels = torch.stack([first.prepare(picture) for picture in pictures])
    with torch.no_grad():
        assert_same(first.encode(pixels), quick.eval().encode_image(pixels))
    assert capsys.readouterr().err == ""

    plain = as_tags_say()
    second = as_tags_say({**siglip, "quick_gelu": True}, {"resize_mode": "squash"})
    assert "resize squash, bicubic, mean (0.481455, " in second.origin.preprocessing
    assert_same(second.encode(pixels), plain.encode(pixels))
    (line,) = capsys.readouterr().err.splitlines()
    assert "differ in mean, std, quick_gelu; open_clip's defaults are used" in line


def test_the_advice_for_a_tag_names_the_architecture_that_computes_the_same(build):
    with pytest.raises(EncoderError, match=r"as in open_clip:ViT-B-32-quickgelu/weights\.safe"):
        build("open_clip:ViT-B-32/openai#image")
    with pytest.raises(EncoderError, match=r"as in open_clip:ViT-B-32/weights\.safe"):
        build("open_clip:ViT-B-32/laion2b_s34b_b79k#image")


def test_a_local_folder_is_read(files, pictures, tmp_path, assert_same):
    model = {"model_cfg": CONFIGS[TINY], "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(model))
    (tmp_path / "open_clip_model.safetensors").write_bytes(files[TINY].read_bytes())
    spec = parse_spec(f"open_clip:local-dir:{tmp_path}#image")
    encoder = build_encoders({"stream": spec}, torch.device("cpu"))["stream"]
    plain, _ = towers(TINY, files[TINY])
    pixels = torch.stack([encoder.prepare(picture) for picture in pictures])
    assert_same(encoder.encode(pixels), plain.encode(pixels))
    assert "mean (0.5, 0.5, 0.5)" in encoder.origin.preprocessing


def test_weights_of_another_model_are_refused(build, files):
    with pytest.raises(EncoderError, match="does not hold the weights of open_clip's") as caught:
        build(f"open_clip:{TINY}/{files[TIMM_TOWER]}#image")
    assert str(caught.value).isprintable()


def test_weights_of_the_same_model_in_another_width_are_refused(build, files, tmp_path):
    # open_clip asserts that the widths of position embeddings agree.
    other = load_file(files[TINY])
    other["positional_embedding"] = torch.zeros(20, 48)
    save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(EncoderError, match="does not hold the weights of open_clip's"):
        build(f"open_clip:{TINY}/{tmp_path / 'other.safetensors'}#image")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ViT-B-61/openai#image", "no architecture 'ViT-B-61'; did you mean ViT-B-16"),
        ("ViT-B-16/nonsense#text", "neither a weights file nor a tag.*datacomp_xl_s13b_b90k"),
        ("ViT-B-16/missing.safetensors#text", "there is no weights file missing.safetensors"),
        ("local-dir:/no/such/folder#text", "/no/such/folder"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(text, message, build):
    with pytest.raises(EncoderError, match=message) as caught:
        build(f"open_clip:{text}")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("ViT-B-16/datacomp_xl_s13b_b90k#text", "open_clip:ViT-B-16/weights.safetensors#text"),
        ("ViT-B-32/openai#image", "open_clip:ViT-B-32-quickgelu/weights.safetensors#image"),
        ("hf-hub:laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K#image", "local-dir:FOLDER#image"),
    ],
)
def test_without_the_hub_the_error_says_how_to_pass_a_file(text, advice, build, capfd):
    with pytest.raises(EncoderError, match="hub cannot be reached") as caught:
        build(f"open_clip:{text}")
    assert text in str(caught.value)
    assert advice in str(caught.value)
    assert capfd.readouterr().err == ""  # open_clip would report it once more
