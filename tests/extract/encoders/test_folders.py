"""Models in folders as people have them: saved by a library, or in a hub's cache."""

import json
import os
import shutil

import pytest
import timm
import torch
import transformers
from packaging.version import Version

from sparc.common.errors import EncoderError
from sparc.extract.encoders import parse_spec


@pytest.fixture(scope="module")
def timm_folder(tmp_path_factory):
    """A folder as timm's `save_for_hf` writes it: a model with settings and a head of its own."""
    folder = tmp_path_factory.mktemp("timm") / "vit"
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=7, reg_tokens=2, img_size=96)
    model.pretrained_cfg.update(mean=(0.1, 0.2, 0.3), crop_pct=0.9)
    settings = {"reg_tokens": 2, "img_size": 96}
    timm.models._hub.save_for_hf(model, folder, {"model_args": settings}, safe_serialization=True)
    return folder


@pytest.fixture(scope="module")
def vit_folder(tmp_path_factory):
    """A small ViT of transformers."""
    folder = tmp_path_factory.mktemp("vit")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.ViTConfig(**small, intermediate_size=16, image_size=32, patch_size=8)
    transformers.ViTModel(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    transformers.ViTImageProcessor(size=size).save_pretrained(folder)
    return folder


@pytest.fixture
def in_hub_cache(tmp_path):
    """Put a folder into the hub's cache as its client does, and give the repository's folder."""

    def put(name, source, revision="a" * 40):
        repository = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        snapshot = repository / "snapshots" / revision
        for folder in (repository / "refs", repository / "blobs", snapshot):
            folder.mkdir(parents=True, exist_ok=True)
        (repository / "refs/main").write_text(revision)
        for file in source.iterdir():
            blob = repository / "blobs" / f"{revision[:4]}{file.name}"
            shutil.copy(file, blob)
            (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
        return repository

    return put


@pytest.mark.skipif(
    Version(timm.__version__) < Version("1.0.31"), reason="timm cannot read what it saves there"
)
def test_a_folder_of_timm_is_what_timm_makes_of_it(timm_folder, pictures, build, assert_same):
    encoder = build(f"timm:local-dir:{timm_folder}")
    theirs = timm.create_model(f"local-dir:{timm_folder}", pretrained=True, num_classes=0).eval()
    settings = timm.data.resolve_model_data_config(theirs)
    transform = timm.data.create_transform(**settings, is_training=False)
    pixels = torch.stack([encoder.prepare(picture) for picture in pictures])
    assert torch.equal(pixels, torch.stack([transform(picture) for picture in pictures]))
    assert encoder.origin.input_size == settings["input_size"][1:]
    assert "crop_pct 0.9" in encoder.origin.preprocessing
    with torch.no_grad():
        assert_same(encoder.encode(pixels), theirs(pixels))
    mean = build(f"timm:local-dir:{timm_folder}?pool=mean")
    assert mean.origin.weights_sha256 == encoder.origin.weights_sha256
    assert not torch.allclose(mean.encode(pixels), encoder.encode(pixels))


@pytest.mark.parametrize("library", ["timm", "open_clip", "transformers"])
def test_a_model_of_the_hub_that_is_in_its_cache(
    library, timm_folder, vit_folder, save_clip, in_hub_cache, build, tmp_path
):
    source, hub, tower = {
        "timm": (timm_folder, "hf-hub:", ""),
        "open_clip": (save_clip(tmp_path / "clip"), "hf-hub:", "#image"),
        "transformers": (vit_folder, "", "#image"),
    }[library]
    repository = in_hub_cache("lab/model", source)
    local = "" if library == "transformers" else "local-dir:"
    snapshot = repository / "snapshots" / ("a" * 40)
    plain = build(f"{library}:{local}{source}{tower}").origin
    for spec in (f"{hub}lab/model", f"{local}{snapshot}", f"{local}{repository}", f"{repository}"):
        origin = build(f"{library}:{spec}{tower}").origin
        assert origin.weights_sha256 == plain.weights_sha256, spec
        assert origin.definition_sha256 == plain.definition_sha256, spec
    if library == "open_clip":
        assert build("open_clip:hf-hub:lab/model#text").dim == 16
    # Two revisions: the one that the hub's client uses, else none.
    other = in_hub_cache("lab/model", source, "b" * 40)
    assert build(f"{library}:{local}{other}{tower}").origin.weights_sha256 == origin.weights_sha256
    (other / "refs/main").unlink()
    with pytest.raises(EncoderError, match=r"the hub's cache has 2 snapshots in .*: name one"):
        build(f"{library}:{local}{other}{tower}")


def test_a_folder_of_another_library_says_whose_it_is(
    timm_folder, vit_folder, save_clip, refused, tmp_path
) -> None:
    clip = save_clip(tmp_path / "clip")
    refused(f"timm:local-dir:{clip}", f"of open_clip: open_clip:local-dir:{clip}#image")
    refused(f"timm:local-dir:{vit_folder}", f"of transformers: transformers:{vit_folder}#image")
    refused(f"transformers:{clip}", f"of open_clip: open_clip:local-dir:{clip}#text")
    refused(f"transformers:{timm_folder}#image", f"of timm: timm:local-dir:{timm_folder}")
    refused(f"open_clip:local-dir:{timm_folder}#image", f"of timm: timm:local-dir:{timm_folder}")
    (clip / "open_clip_config.json").unlink()
    spec = f"open_clip:local-dir:{clip}#text"
    refused(spec, r"no open_clip_config.json: name the architecture with its weights, as in open_")


def test_a_folder_without_weights_says_which_file_is_missing(
    timm_folder, save_clip, refused, tmp_path
) -> None:
    clip = save_clip(tmp_path / "clip")
    (clip / "open_clip_model.safetensors").unlink()
    refused(f"open_clip:local-dir:{clip}#image", "no weights: put open_clip_model.safetensors")
    (tmp_path / "timm").mkdir()
    shutil.copy(timm_folder / "config.json", tmp_path / "timm")
    refused(f"timm:local-dir:{tmp_path}/timm", "has no weights: put model.safetensors there")
    for name in ("one.pt", "two.pt"):
        (tmp_path / "timm" / name).write_bytes(b"")
    refused(f"timm:local-dir:{tmp_path}/timm", r"several files of weights \(one.pt, two.pt\)")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "no_such_vit"}, "names no_such_vit, which timm .* does not have"),
        ({"model_args": {"depth": 10**9}}, "asks for depth 1,000,000,000"),
        ({"model_args": {"embed_dim": 10**9}}, "asks for embed_dim 1,000,000,000"),
        ({"model_args": {"embed_dim": 90_000}}, "values, which is larger than its weights"),
        ({"model_args": {"weight_init": "/etc/passwd"}}, "may be the name of a file"),
        ({"model_args": [1]}, "model_args is not an object"),
        ({"model_args": {"embed_dim": 32}}, "does not hold the weights of timm's test_vit"),
    ],
)
def test_settings_of_a_timm_folder_that_are_not_harmless(
    changes, message, timm_folder, build, tmp_path
) -> None:
    for file in timm_folder.iterdir():
        shutil.copy(file, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["pretrained_cfg"]["url"] = config["pretrained_cfg"]["file"] = "/nowhere"
    for name, value in changes.items():
        config[name] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match=message):
        build(f"timm:local-dir:{tmp_path}")


@pytest.mark.parametrize(
    ("text", "recorded"),
    [
        ("open_clip:/models/clip#text", "open_clip:local-dir:/models/clip#text"),
        ("open_clip:./clip#image", "open_clip:local-dir:./clip#image"),
        ("timm:/models/v@2?size=64", "timm:local-dir:/models/v@2?size=64"),
        ("timm:local-dir:models/vit", "timm:local-dir:models/vit"),
        ("timm:~/vit", f"timm:local-dir:{os.path.expanduser('~')}/vit"),
    ],
)
def test_folders_in_specs(text, recorded) -> None:
    assert str(parse_spec(text)) == recorded
    assert parse_spec(recorded) == parse_spec(text)
