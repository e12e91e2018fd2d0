"""A search from a dataset folder on: real encoders, recorded by the extraction and built again."""

import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file

from sparc.analyze import Report, Searcher, name_latents
from sparc.common.errors import ConfigError
from sparc.train import ModelConfig, StreamShape, create_model

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "green", "blue", "apple", "boat", "cat", "dog"]
CAPTIONS = [f"{colour} {thing}" for colour in WORDS[4:7] for thing in WORDS[7:]]


@pytest.fixture(scope="module")
def save_text_model(save_bert):
    sizes = {"hidden_size": 32, "intermediate_size": 48, "model_max_length": 10}
    return functools.partial(save_bert, words=WORDS, **sizes)


@pytest.fixture(scope="module")
def root(tmp_path_factory, save_text_model, call) -> Path:
    """A dataset, its cache, a model and a report."""
    root = tmp_path_factory.mktemp("search")
    (root / "images").mkdir()
    generator = np.random.default_rng(0)
    for number, caption in enumerate(CAPTIONS):
        pixels = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST)
        image.save(root / f"images/{number:02}.png")
        (root / f"images/{number:02}.txt").write_text(caption)
    save_text_model(root / "bert")
    torch.manual_seed(0)
    vit = timm.create_model("test_vit", pretrained=False)
    save_file(vit.state_dict(), root / "vit.safetensors")
    result = call(
        "extract", "run", root / "images", root / "cache", "--device", "cpu",
        "--stream", f"vit=timm:test_vit@{root}/vit.safetensors",
        "--stream", f"words=transformers:{root}/bert", "--dtype", "float32",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    shapes = (StreamShape("vit", vit.num_features), StreamShape("words", 32))
    create_model(ModelConfig(streams=shapes, latents=64, k=8), seed=1).save(root / "model")
    result = call("analyze", "run", root / "model", root / "cache", root / "report")
    assert result.returncode == 0, result.stderr
    return root


def test_a_text_finds_itself_and_gives_a_sheet_of_real_images(root, call, tmp_path):
    result = call(
        "analyze", "search", root / "report", "--text", "green cat", "--in", "words", "--results",
        2, "--out", tmp_path / "matches.parquet", "--sheet", tmp_path / "sheet.png",
        "--trust-encoders",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    best = pq.read_table(tmp_path / "matches.parquet").to_pylist()[0]
    assert best["caption"] == "green cat"
    assert best["score"] == pytest.approx(1, abs=1e-5)
    assert "could not be read" not in result.stderr
    with Image.open(tmp_path / "sheet.png") as sheet, Image.open(root / "images/06.png") as own:
        # The first tile is the image itself; it is not enlarged.
        shown = {color for _, color in sheet.convert("RGB").getcolors(1 << 24)}
        assert {color for _, color in own.getcolors(1 << 24)} <= shown


def test_a_sheet_shows_thumbnails_where_the_dataset_is_gone(root, call, tmp_path):
    def sheet(name, cache):
        result = call(
            "analyze", "search", root / "report", "--row", 6, "--in", "vit", "--results", 3,
            "--cache", cache, "--sheet", tmp_path / name,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        with Image.open(tmp_path / name) as opened:
            return np.asarray(opened.convert("RGB")).astype(int), result.stderr

    from_dataset, _ = sheet("a.png", root / "cache")
    shutil.copytree(root / "cache", tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare/thumbnails")
    (root / "images").rename(root / "elsewhere")
    try:
        from_thumbnails, said = sheet("b.png", root / "cache")
        empty, complaint = sheet("c.png", tmp_path / "bare")
    finally:
        (root / "elsewhere").rename(root / "images")
    assert "could not be read" not in said
    assert "3 images could not be read and left an empty frame; the cache has no thu" in complaint
    assert not np.array_equal(from_dataset, from_thumbnails), "WebP loses a little"
    assert abs(from_dataset - from_thumbnails).mean() * 10 < abs(from_dataset - empty).mean()


def test_an_image_finds_itself_and_a_text_finds_images(root, call, tmp_path):
    arguments = ["--in", "vit", "--out", tmp_path / "matches.parquet", "--trust-encoders"]
    result = call(
        "analyze", "search", root / "report", "--image", root / "images/03.png", *arguments
    )
    assert result.returncode == 0, result.stderr
    best = pq.read_table(tmp_path / "matches.parquet").to_pylist()[0]
    assert (best["image"], best["score"]) == ("03.png", pytest.approx(1, abs=1e-4))
    result = call("analyze", "search", root / "report", "--text", "red apple", *arguments)
    assert result.returncode == 0, result.stderr


def test_an_encoder_that_moved_is_found_again_and_another_one_refused(
    root, call, tmp_path, save_text_model
):
    arguments = ["search", root / "report", "--text", "red dog", "--in", "words"]
    (root / "bert").rename(root / "moved")
    try:
        result = call("analyze", *arguments, "--trust-encoders")
        assert result.returncode == 2
        assert "say with --spec where" in result.stderr
        result = call("analyze", *arguments, "--spec", f"transformers:{root}/moved")
        assert result.returncode == 0, result.stderr
        assert "red dog" in result.stdout.splitlines()[1]
        save_text_model(tmp_path / "other")
        other = transformers.BertModel.from_pretrained(tmp_path / "other")
        other.embeddings.word_embeddings.weight.data += 1
        other.save_pretrained(tmp_path / "other")
        result = call("analyze", *arguments, "--spec", f"transformers:{tmp_path}/other")
        assert result.returncode == 2
        assert "is not the encoder that made stream words" in result.stderr
    finally:
        (root / "moved").rename(root / "bert")


@pytest.mark.parametrize("command", ["search", "name"])
def test_the_same_tensors_with_another_activation_are_another_encoder(
    command, root, call, tmp_path
):
    shutil.copytree(root / "bert", tmp_path / "relu")
    config = json.loads((tmp_path / "relu/config.json").read_text())
    (tmp_path / "relu/config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    (tmp_path / "words.txt").write_text("red\n")
    what = {"search": ["--text", "red", "--in", "vit"], "name": ["--words", tmp_path / "words.txt"]}
    arguments = ["analyze", command, root / "report", *what[command]]
    result = call(*arguments, "--spec", f"transformers:{tmp_path}/relu")
    assert result.returncode == 2
    assert "is not the encoder that made stream words" in result.stderr
    assert "definition_sha256" in result.stderr
    shutil.copytree(root / "bert", tmp_path / "moved")
    assert call(*arguments, "--spec", f"transformers:{tmp_path}/moved").returncode == 0


@pytest.mark.parametrize("command", ["search", "name"])
def test_what_the_cache_names_is_built_only_with_consent(command, root, call, tmp_path):
    (tmp_path / "words.txt").write_text("red\n")
    what = {"search": ["--text", "red", "--in", "vit"], "name": ["--words", tmp_path / "words.txt"]}
    arguments = ["analyze", command, root / "report", *what[command]]
    result = call(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert f"'words=transformers:{root}/bert'" in line
    assert "--trust-encoders" in line
    (tmp_path / "sparc.toml").write_text(f"[{command}]\ntrust_encoders = true\n")
    assert call(*arguments, "--config", tmp_path / "sparc.toml").returncode == 0


def test_a_word_list_goes_through_the_encoder(root, call_process, tmp_path):
    (tmp_path / "list.txt").write_text("\n".join(WORDS[4:]))
    result = call_process(
        "analyze", "name", root / "report", "--words", tmp_path / "list.txt", "--out",
        tmp_path / "names.parquet", "--trust-encoders",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    table = pq.read_table(tmp_path / "names.parquet")
    assert set(table["word"].to_pylist()) == set(WORDS[4:])
    assert "latents named" in result.stdout


def test_from_python_a_search_is_that_of_the_command(root, call, tmp_path):
    """Texts, files, images of Pillow and rows, each with the model and encoders loaded once."""
    searcher = Searcher(root / "report", "vit", trust_encoders=True)

    def typed(*options):
        out = tmp_path / "matches.parquet"
        done = call(
            "analyze",
            "search",
            root / "report",
            "--in=vit",
            "--trust-encoders",
            *options,
            "--out",
            out,
        )
        assert done.returncode == 0, done.stderr
        return pq.read_table(out).replace_schema_metadata()

    assert searcher.text("red apple", results=3).equals(typed("--text=red apple", "--results=3"))
    file = root / "images/03.png"
    by_file = typed("--image", file)
    assert searcher.image(file).equals(by_file)
    assert searcher.image(str(file)).equals(by_file)
    with Image.open(file) as image:
        assert searcher.image(image).equals(by_file)
    assert searcher.row(7, source="words").equals(typed("--row=7", "--from=words"))
    assert searcher.encoder("text") is searcher.encoder("text", "words")


def test_a_batch_of_one_is_searched_and_of_several_refused(root):
    searcher = Searcher(root / "report", "words", trust_encoders=True)
    encoder = searcher.encoder("text")
    assert searcher.find(encoder.texts(["red dog"])).equals(searcher.text("red dog"))
    with pytest.raises(ConfigError, match="the code of one text or image, not of 2"):
        searcher.find(encoder.texts(["red dog", "green cat"]))
    with pytest.raises(ConfigError, match="stream words does not read images"):
        searcher.image(root / "images/03.png", source="words")


def test_from_python_names_are_those_of_the_command(root, call, tmp_path):
    (tmp_path / "list.txt").write_text("\n".join(WORDS[4:]))
    options = [
        "--words",
        tmp_path / "list.txt",
        "--template=a {}",
        "--trust-encoders",
        "--out",
        tmp_path / "typed",
    ]
    assert call("analyze", "name", root / "report", *options).returncode == 0
    out = tmp_path / "called"
    named = name_latents(
        Report(root / "report"), words=WORDS[4:], template="a {}", trust_encoders=True, out=out
    )
    typed, called = (pq.read_table(tmp_path / name) for name in ("typed", "called"))
    assert typed.equals(called)
    assert called.replace_schema_metadata().equals(named)
    with pytest.raises(ConfigError, match="the list holds no word"):
        name_latents(root / "report", words=[])
    with pytest.raises(ConfigError, match="name_latents: unknown setting 'templat'; did you mean"):
        name_latents(root / "report", words=["cat"], templat="{}")
