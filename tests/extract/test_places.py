"""Rows that are places of images: `?tokens=patch&places=4x4`, from the spec to a report."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import sparc
from sparc.common.errors import ConfigError, EncoderError
from sparc.extract.encoders import build_encoders, parse_spec

SIDE = 48
"""Pixels of an image for the encoders below: the ViT has 3 x 3 patches of it, the others 2 x 2."""


@pytest.fixture(scope="module")
def specs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    result = {}
    for name, model in (("vit", "test_vit"), ("cnn", "test_resnet")):
        torch.manual_seed(0)
        file = folder / f"{name}.safetensors"
        save_file(timm.create_model(model).state_dict(), file)
        result[name] = f"timm:{model}@{file}?size={SIDE}"
    return result


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for number in range(6):
        pixels = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"picture {number}")
    (folder / "3.png").write_bytes(b"not a picture")
    return folder


@pytest.fixture(scope="module")
def words(tmp_path_factory, save_bert):
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "picture", *"012345"]
    return f"transformers:{save_bert(tmp_path_factory.mktemp('words'), known)}"


def patches(specs, data, number):
    """All patches of an image, by timm alone: (9, dim)."""
    encoder = build_encoders({"a": parse_spec(specs["vit"])}, torch.device("cpu")).images["a"]
    with Image.open(data / f"{number}.png") as image, torch.no_grad():
        return encoder.model.forward_features(encoder.prepare(image)[None])[0, 1:].numpy()


@pytest.fixture(scope="module")
def cache(specs, data, tmp_path_factory):
    streams = {
        "vit": f"{specs['vit']}&tokens=patch&places=3x3",
        "whole": specs["cnn"],
    }
    location = tmp_path_factory.mktemp("cache") / "cache"
    settings = {"dtype": "float32", "device": "cpu", "rows_per_chunk": 20, "batch_size": 2}
    return sparc.extract(data, location, streams=streams, **settings)


def test_a_row_is_a_place_of_an_image(cache, specs, data):
    assert (cache.info.rows, cache.info.rows_per_chunk) == (54, 18)  # no image is divided
    rows = cache.rows(["sample_id", "image", "caption"]).to_pylist()
    assert rows[10] == {"sample_id": "1#1", "image": "1.png", "caption": "picture 1"}
    vit = np.concatenate([cache.features("vit", chunk) for chunk in range(3)])
    whole = np.concatenate([cache.features("whole", chunk) for chunk in range(3)])
    for number in (0, 1, 2, 4, 5):
        expected = patches(specs, data, number)
        np.testing.assert_allclose(vit[9 * number : 9 * number + 9], expected, atol=1e-4)
    assert (whole[:9] == whole[0]).all()  # a stream of whole images has one feature for all
    assert not (whole[0] == whole[9]).all()
    rejected = cache.rejects().column("row").to_pylist()
    assert sorted(set(rejected)) == list(range(27, 36))
    assert "averaged over each of 3x3 places" in cache.streams["vit"].origin.pooling


def test_verify_and_the_same_command_agree(cache, specs, data, call):
    folder = str(cache.folder)
    assert call("extract", "verify", folder).returncode == 0
    command = (
        "run", data, folder, "--stream", f"vit={specs['vit']}&tokens=patch&places=3x3",
        "--stream", f"whole={specs['cnn']}", "--dtype", "float32", "--device", "cpu",
        "--rows-per-chunk", "20", "--batch-size", "2",
    )  # fmt: skip
    again = call("extract", *command)
    assert "nothing was left to do" in again.stdout + again.stderr
    planned = call("extract", *command, "--dry-run")
    assert "3x3 places of each image: 54 rows" in planned.stdout
    assert planned.stdout.count("picture 0") == 1  # each image's caption once


def test_some_places_of_each_image_on_one_grid_and_a_caption_each(specs, data, tmp_path, words):
    streams = {
        "vit": f"{specs['vit']}&tokens=patch&places=2x2",
        "cnn": f"{specs['cnn']}&tokens=patch&places=2x2",
        "words": words,
    }
    made = [
        sparc.extract(
            data, tmp_path / name, streams=streams, places_per_image=2, device="cpu",
            dtype="float32",
        )
        for name in "ab"
    ]  # fmt: skip
    places = [cache.rows(["place"]).column("place").to_pylist() for cache in made]
    assert places[0] == places[1]  # drawn by the names of the images
    assert all(a < b < 4 for a, b in zip(places[0][::2], places[0][1::2], strict=True))
    assert len({tuple(places[0][i : i + 2]) for i in range(0, 12, 2)}) > 1
    of_caption = made[0].features("words", 0)
    np.testing.assert_array_equal(of_caption[::2], of_caption[1::2])
    assert not (of_caption[0] == of_caption[2]).all()
    # A place of a coarser grid is the mean of its patches.
    grid = patches(specs, data, 0).reshape(3, 3, -1)
    corners = {0: grid[:2, :2], 1: grid[:2, 1:], 2: grid[1:, :2], 3: grid[1:, 1:]}
    vit = made[0].features("vit", 0)
    for row, place in enumerate(places[0][:2]):
        np.testing.assert_allclose(vit[row], corners[place].mean((0, 1)), atol=1e-4)


def test_a_whole_image_is_the_mean_of_its_patches(specs, data):
    spec = parse_spec(f"{specs['vit']}&tokens=patch&places=3x3")
    encoder = build_encoders({"a": spec}, torch.device("cpu")).images["a"]
    with Image.open(data / "0.png") as image:
        feature = encoder.encode(encoder.prepare(image)[None])
    np.testing.assert_allclose(feature[0], patches(specs, data, 0).mean(0), atol=1e-4)


def test_a_report_says_that_places_are_no_images_of_their_own(cache, tmp_path):
    model = sparc.train(
        cache, tmp_path / "run", latents=16, k=2, steps=3, batch_size=16, device="cpu"
    )
    assert model.config.names == ("vit", "whole")
    report = sparc.analyze(
        tmp_path / "run", cache, tmp_path / "report", device="cpu", permuted=False
    )
    notes = " ".join(note.text for note in report.info.notes)
    assert "48 rows of one image with the row before, such as places of it" in notes
    assert "--places-per-image 1" in notes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cnn": "&tokens=patch&places=1x2"}, "ask for different places, 2x2 and 1x2"),
        ({"vit": "&tokens=patch&places=4x4"}, "has 3 x 3 patches, fewer than the 4 x 4 places"),
        ({"vit": ""}, "places_per_image needs a stream of places"),
        ({"per": 5}, "places_per_image is 5, but places=2x2 are 4"),
    ],
)
def test_places_that_do_not_fit(changes, message, specs, data, tmp_path):
    vit = changes.get("vit", "&tokens=patch&places=2x2")
    streams = {"vit": specs["vit"] + vit}
    if "cnn" in changes:
        streams["cnn"] = specs["cnn"] + changes["cnn"]
    settings = {"places_per_image": changes.get("per", 1), "device": "cpu"}
    with pytest.raises((ConfigError, EncoderError), match=message):
        sparc.extract(data, tmp_path / "cache", streams=streams, **settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timm:vit?tokens=patch", r"needs the number of places, .*places=7x7"),
        ("timm:vit?tokens=patch&places=7", "needs the number of places"),
        ("timm:vit?places=7x7", "unknown option 'places'"),
        ("timm:vit?tokens=all&places=7x7", "unknown option"),
        ("open_clip:ViT-B-16/tag?tokens=patch&places=7x7#text", "captions have no patches"),
        ("transformers:org/model?tokens=patch&places=7x7", "have no patches: add #image"),
    ],
)
def test_specs_of_places_that_are_refused(text, message) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_spec(text)


@pytest.mark.parametrize(
    "text",
    [
        "timm:vit?tokens=patch&places=7x7",
        "timm:vit@/a.pt?size=224&block=10&tokens=patch&places=16x8",
        "open_clip:ViT-B-16/tag?tokens=patch&places=7x7#image",
        "transformers:org/model?pool=mean&tokens=patch&places=7x7#image",
        "python:/a.py:build?layer=3&tokens=patch&places=2x2",
    ],
)
def test_specs_of_places_are_read_back(text) -> None:
    assert str(parse_spec(text)) == text
    assert parse_spec(text) == parse_spec(str(parse_spec(text)))
