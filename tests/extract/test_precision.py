"""The arithmetic of encoders and the size at which pictures are decoded: chosen and recorded."""

import io
import platform

import numpy as np
import pytest
import torch
import zarr
from PIL import Image

from sparc.common import processor
from sparc.common.images.decoding import decode
from sparc.extract.encoders import build_encoders, parse_spec
from sparc.extract.encoders.precision import autocast, computing

PICTURES = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    draws = np.random.default_rng(0)
    for number in range(PICTURES):
        small = Image.fromarray(draws.integers(0, 255, (9, 12, 3), np.uint8))
        small.resize((800, 600), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg")
        (folder / f"{number}.txt").write_text("a red ball")
    return folder


@pytest.fixture(scope="module")
def extract(call, folder, tiny_streams, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache") / "cache"

    def extract(*options):
        return call("extract", "run", folder, cache, *tiny_streams, "--dtype=float32", *options)

    done = extract("--precision", "bfloat16", "--decode-side", 128)
    assert done.returncode == 0, done.stderr
    extract.cache = cache
    return extract


def test_bfloat16_and_a_reduced_size_are_those_of_the_bare_model_and_recorded(
    extract, folder, tiny_streams, call
):
    group = zarr.open_group(extract.cache / "activations.zarr", mode="r")
    specs = dict(option.removeprefix("--stream=").split("=", 1) for option in tiny_streams)
    for name in ("vit", "net"):
        encoder = build_encoders({name: parse_spec(specs[name])}, torch.device("cpu"))[name]
        pixels = []
        for number in range(PICTURES):
            with Image.open(folder / f"{number}.jpg") as image:
                image.draft("RGB", (200, 150))
                assert image.size == (200, 150)
                pixels.append(encoder.prepare(image.convert("RGB")))
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            features = encoder.model.forward_features(torch.stack(pixels))
            expected = encoder.model.forward_head(features, pre_logits=True).float()
        np.testing.assert_array_equal(group[name]["features"][:], expected.numpy())
        exact = encoder.encode(torch.stack(pixels))
        assert not torch.equal(exact, expected)
        assert (torch.nn.functional.cosine_similarity(exact, expected) > 0.99).all()
        origin = group[name].attrs["origin"]
        assert (origin["precision"], origin["decode_side"]) == ("bfloat16 autocast", 128)
    assert group["text"].attrs["origin"].get("decode_side", 0) == 0
    shown = call("extract", "inspect", extract.cache).stdout
    assert "bfloat16 autocast, batches of 64, JPEG files decoded at 128 pixels or more" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--precision", "bfloat16"), "decode_side: 128 there, 0 now"),
        (("--decode-side", 128), "precision: 'bfloat16 autocast' there, 'float32' now"),
    ],
)
def test_a_cache_is_not_continued_with_others(extract, options, message):
    done = extract(*options)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_only_the_thread_that_chooses_computes_so():
    cpu, inside, outside = torch.device("cpu"), [], []
    with computing("bfloat16"):
        with autocast(cpu):
            inside.append(torch.is_autocast_enabled("cpu"))
        with computing("float32"), autocast(cpu):
            inside.append(torch.is_autocast_enabled("cpu"))
    with autocast(cpu):
        outside.append(torch.is_autocast_enabled("cpu"))
    assert (inside, outside) == ([True, False], [False])


@pytest.mark.parametrize("is_fast", [True, False])
def test_who_asks_for_bfloat16_learns_where_it_is_slow(
    monkeypatch, call, folder, tiny_streams, tmp_path, is_fast
):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(processor, "bfloat16_is_fast", lambda: is_fast)
    options = ("--limit=1", tiny_streams[0], "--precision=bfloat16")
    done = call("extract", "run", folder, tmp_path / "cache", *options)
    assert ("bfloat16 is slower than float32 on this cpu" in done.stderr) == (not is_fast)
    assert done.returncode == 0


@pytest.mark.parametrize(("side", "size"), [(0, (640, 416)), (208, (320, 208)), (50, (80, 52))])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_files_are_decoded_no_smaller_than_asked(side, size, mode):
    file = io.BytesIO()
    Image.new(mode, (640, 416), 7).save(file, "JPEG")
    decoded = decode(file.getvalue(), shorter_side=side)
    assert (decoded.size, decoded.mode) == (size, "RGB")


def test_other_formats_and_small_pictures_keep_their_size():
    for format, size in (("PNG", (640, 416)), ("JPEG", (30, 20))):
        file = io.BytesIO()
        Image.new("RGB", size).save(file, format)
        assert decode(file.getvalue(), shorter_side=25).size == size
