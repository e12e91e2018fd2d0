"""The commands, with a real dataset folder and real encoders of random weights."""

import json
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from PIL import Image

from sparc.common.cache.account.document import read_account
from sparc.common.cache.reader import ActivationCache
from sparc.common.files.folder import Folder
from sparc.extract.datasets import DatasetOptions, open_dataset


@pytest.fixture(scope="module")
def sparc_extract(call):
    return partial(call, "extract")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven images with a caption each and one file that is no image."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for number in range(11):
        noise = random.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        damaged = {"exif": b"Exif\0\0MM\0*\xff\xff\xff\xff"} if number == 7 else {}
        Image.fromarray(noise).save(folder / f"{number:02d}.jpg", **damaged)
        (folder / f"{number:02d}.txt").write_text(f"image number {number} \x1b[31m\n")
    (folder / "05.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "test_vit.safetensors"
    save_file(timm.create_model("test_vit").state_dict(), path)
    return path


@pytest.fixture(scope="module")
def cache(
    dataset: Path, weights: Path, call_process, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    location = tmp_path_factory.mktemp("cache") / "cache"
    toml = location.parent / "sparc.toml"
    toml.write_text(
        f'[extract]\nstreams = ["vit=timm:test_vit@{weights}"]\nrows_per_chunk = 4\n'
        "batch_size = 2\nworkers = 1\n\n[train]\nlatents = 64\n"
    )
    arguments = ["run", dataset, location, "--config", toml, "--device", "cpu"]
    timings = location.parent / "timings.jsonl"
    return location, call_process("extract", *arguments, "--timings", timings)


def test_run_extracts_a_folder_of_images(cache) -> None:
    location, result = cache
    assert "Warning" not in result.stderr  # Pillow's, of damaged metadata
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("11 rows encoded, ")
    # Why an image has no feature is said, and what the encoder read.
    assert "vit (dim 64, 1 without a feature: not a picture in a known format" in last
    assert "\nvit: reads 160 x 160, " in f"\n{result.stderr}"
    group = zarr.open_group(location / "activations.zarr", mode="r")
    assert group["vit/features"].shape == (11, 64)
    assert group["vit/valid"][:].tolist() == [i != 5 for i in range(11)]
    assert not (location / ".lock").exists()
    assert not list(location.rglob("*.partial"))


def test_timings_lie_beside_the_cache_and_add_up(cache) -> None:
    location, result = cache
    (line,) = map(json.loads, (location.parent / "timings.jsonl").read_text().splitlines())
    assert (line["command"], line["rows"], line["finished"]) == ("sparc-extract run", 11, True)
    encoder, loader, writer = line["threads"]
    assert (encoder["role"], encoder["worker"], encoder["rows"]) == ("encoder", "cpu", 11)
    assert (loader["role"], writer["role"]) == ("loader", "writer")
    assert {"encode", "starved"} <= set(encoder["seconds"])
    assert {"read", "decode", "prepare", "idle"} == set(loader["seconds"])
    assert {"write", "idle"} == set(writer["seconds"])
    for threads in line["threads"]:
        assert 0 < sum(threads["seconds"].values()) <= line["seconds"] * threads["threads"] + 0.5
    assert "time: " not in result.stderr  # it did not take long
    assert not list(location.rglob("*timings*"))


def test_inspect_says_what_is_there(cache, weights, call_process) -> None:
    result = call_process("extract", "inspect", cache[0])
    assert result.returncode == 0, result.stderr
    for text in (
        "11 of 11 images, 3 chunks of up to 4",
        "stream vit: image, dim 64, float16",
        f"timm:test_vit@{weights}",
        "3 of 3, complete",
        "10 with a feature, 1 without",
        "not a picture in a known format",
        "thumbnails of up to 96 pixels, ",
        " in 3 of 3 chunks\n",
        'row 0: 00.jpg: "image number 0 \\x1b[31m"',
    ):
        assert text in result.stdout
    assert "\x1b" not in result.stdout


def test_columns_of_the_metadata_go_from_the_command_to_plain_pyarrow(
    weights, sparc_extract, tmp_path
) -> None:
    folder, cache = tmp_path / "images", tmp_path / "cache"
    folder.mkdir()
    lines = ["file_name,text,site,year"]
    for number in range(6):
        noise = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
        lines.append(f"{number}.png,image {number},{'north' if number % 2 else ''},{2000 + number}")
    (folder / "metadata.csv").write_text("\n".join(lines))
    settings = [f"--stream=vit=timm:test_vit@{weights}", "--device=cpu", "--rows-per-chunk=4"]
    asked = [*settings, "--column=site", "--column", "year"]
    done = sparc_extract("run", folder, cache, *asked)
    assert done.returncode == 0, done.stderr
    table = pq.read_table(cache / "rows.parquet")
    assert table["year"].to_pylist() == [2000 + number for number in range(6)]
    assert table["site"].to_pylist() == [None, "north"] * 3
    shown = sparc_extract("inspect", cache).stdout
    assert "  columns   site (string), year (int64)\n" in shown
    planned = sparc_extract("run", folder, cache, *asked, "--dry-run").stdout
    assert "columns   site (string), year (int64)\n" in planned

    whole = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    refused = sparc_extract("run", folder, cache, *settings, "--column=site")
    assert refused.returncode == 2
    assert "(columns of the dataset: site string, year int64 there, site string now)" in (
        refused.stderr
    )
    content = (cache / "rows.parquet").read_bytes()
    (cache / "rows.parquet").write_bytes(content[:-9] + b"x" + content[-8:])
    (cache / "activations.zarr/vit/features/c/1/0").unlink()
    repaired = sparc_extract("run", folder, cache, *settings, "--column=all", "--repair")
    assert repaired.returncode == 0, repaired.stderr
    assert {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()} == whole

    assert refused.stderr.rstrip().endswith("or remove this cache with --overwrite")
    anew = sparc_extract("run", folder, cache, *settings, "--column=site", "--overwrite")
    assert anew.returncode == 0, anew.stderr
    assert pq.read_table(cache / "rows.parquet").column_names[5:] == ["site"]


def test_damage_is_found_and_repaired(
    cache, dataset, sparc_extract, call_process, tmp_path
) -> None:
    good = call_process("extract", "verify", cache[0])
    assert good.returncode == 0, good.stderr
    assert good.stdout.strip().endswith("11 rows in every stream, no damage")
    damaged = tmp_path / "damaged"
    shutil.copytree(cache[0], damaged)
    chunk = damaged / "activations.zarr/vit/features/c/1/0"
    content = bytearray(chunk.read_bytes())
    content[17] ^= 1
    chunk.write_bytes(content)
    (damaged / "activations.zarr/vit/valid/c/2").unlink()
    result = sparc_extract("verify", damaged)
    assert result.returncode == 2
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("vit, chunk 1, rows 4 to 7: features: its values do not fit")
    assert lines[1] == "vit, chunk 2, rows 8 to 10: valid: it has not been written"
    assert result.stderr.splitlines()[-1] == (
        f"error: {damaged}: 2 faults found; restore what is damaged, and nothing else, by running "
        f"the same `sparc-extract run {dataset} {damaged}` again with --repair"
    )
    inspected = sparc_extract("inspect", damaged)
    assert "1 of 3, NOT COMPLETE, 1 DAMAGED" in inspected.stdout
    assert inspected.returncode == 2
    assert inspected.stderr.splitlines()[-1].endswith("again with --repair")
    toml = cache[0].parent / "sparc.toml"
    arguments = ["run", dataset, damaged, "--config", toml, "--device", "cpu"]
    again = sparc_extract(*arguments, "--repair")
    assert again.returncode == 0, again.stderr
    assert "7 rows encoded" in again.stderr
    assert sparc_extract("verify", damaged).returncode == 0
    for path in cache[0].rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (damaged / path.relative_to(cache[0])).read_bytes()


def test_dry_run_writes_nothing_and_names_the_size(
    dataset, weights, sparc_extract, tmp_path
) -> None:
    result = sparc_extract(
        "run", dataset, tmp_path / "cache", "--dry-run",
        "--stream", f"vit=timm:test_vit@{weights}", "--stream", "words=transformers:nobody/knows",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    for text in (
        "rows      11 of 11 images",
        "captions  all 11 rows with a caption",
        "image number 0 \\x1b[31m",
        f"vit = timm:test_vit@{weights} (image, dim 64, 1.4 kB)",
        "words = transformers:nobody/knows (text, dim known once the model is loaded)",
        "bytes     not known yet",
        "judged by 11 images, of which 1 cannot",
    ):
        assert text in result.stdout
    assert re.search(r"reading and decoding alone about \d+ seconds?, judged", result.stdout)
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def typed(dataset, tiny_streams, tmp_path, monkeypatch):
    """In a working directory with dataset and encoders: the arguments, relative and absolute."""
    (tmp_path / "data").symlink_to(dataset)
    (tmp_path / "encoders").symlink_to(Path(tiny_streams[-1].partition("transformers:")[2]).parent)
    monkeypatch.chdir(tmp_path)

    def arguments(above: str) -> list[str]:
        streams = (
            f"vit=timm:test_vit@{above}encoders/vit.safetensors?size=64&pool=cls",
            f"text=transformers:{above}encoders/text?pool=cls",
        )
        settings = ["--rows-per-chunk=4", "--device=cpu", *(f"--stream={s}" for s in streams)]
        return ["run", f"{above}data", f"{tmp_path}/cache", *settings]

    return arguments(""), arguments(f"{tmp_path}/")


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def break_off(cache: Path) -> None:
    """Leave what an extraction leaves that is killed in its second chunk."""
    for chunk in (1, 2):
        for stream in ("vit", "text"):
            (cache / f"activations.zarr/{stream}/valid/c/{chunk}").unlink()


def test_relative_paths_are_recorded_so_that_they_hold_elsewhere(
    typed, sparc_extract, tmp_path
) -> None:
    relative, absolute = typed
    done = sparc_extract(*relative)
    assert done.returncode == 0, done.stderr
    cache = ActivationCache(tmp_path / "cache")
    assert cache.info.dataset == f"{tmp_path}/data"
    recorded = {name: stream.origin.spec for name, stream in cache.streams.items()}
    assert recorded == {
        "vit": f"timm:test_vit@{tmp_path}/encoders/vit.safetensors?size=64&pool=cls",
        "text": f"transformers:{tmp_path}/encoders/text?pool=cls",
    }
    before = contents(tmp_path / "cache")
    for again in (relative, absolute):
        break_off(tmp_path / "cache")
        done = sparc_extract(*again)
        assert done.returncode == 0, done.stderr
        assert "7 rows encoded" in done.stderr, again
        assert contents(tmp_path / "cache") == before


def test_a_cache_that_recorded_relative_paths_can_be_gone_on_with(
    typed, sparc_extract, tmp_path, monkeypatch
) -> None:
    with monkeypatch.context() as patch:
        for module in ("encoders.timm.spec", "encoders.transformers.spec", "datasets.manifest"):
            patch.setattr(f"sparc.extract.{module}.absolute_if_here", lambda location: location)
        assert sparc_extract(*typed[0]).returncode == 0
    cache = ActivationCache(tmp_path / "cache")
    assert cache.info.dataset == "data"
    assert cache.streams["text"].origin.spec == "transformers:encoders/text?pool=cls"
    before = contents(tmp_path / "cache")
    for again in typed:
        break_off(tmp_path / "cache")
        done = sparc_extract(*again)
        assert done.returncode == 0, done.stderr
        assert contents(tmp_path / "cache") == before
    assert sparc_extract("verify", tmp_path / "cache").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["NOWHERE", "cache", "--stream", "a=timm:test_vit"], "NOWHERE"),
        (["DATASET", "cache"], "--stream 'name=spec' (repeatable) or --preset"),
        (["DATASET", "cache", "--stream", "timm:test_vit"], "it must be name=spec"),
        (["DATASET", "cache", "--stream", "a=timm:test_vit", "--keep-bits", "7"], "dtype float32"),
        (["DATASET", "cache", "--preset", "dinov2-clip-x"], "did you mean dinov2-clip"),
        (["DATASET", "cache", "--stream", "a=timm:test_vit", "--holdout", "0.5"], "split"),
    ],
)
def test_mistakes_are_named_in_one_line(
    dataset, sparc_extract, tmp_path, arguments, message
) -> None:
    named = {"DATASET": dataset, "NOWHERE": tmp_path / "NOWHERE", "cache": tmp_path / "cache"}
    result = sparc_extract("run", *(named.get(argument, argument) for argument in arguments))
    assert result.returncode == 2
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not (tmp_path / "cache").exists()


def test_inspect_of_something_else_is_refused(sparc_extract, tmp_path) -> None:
    result = sparc_extract("inspect", tmp_path)
    assert result.returncode == 2
    assert result.stderr.strip() == (
        f"error: {tmp_path} is not an activation cache: no cache.json; "
        "`sparc-extract run DATASET CACHE` makes one"
    )


def test_the_cache_keeps_the_account_of_its_dataset(
    cache, dataset, weights, sparc_extract, tmp_path
) -> None:
    account = open_dataset(dataset, DatasetOptions()).manifest().account
    assert account is not None
    location = tmp_path / "cache"
    shutil.copytree(cache[0], location)
    assert read_account(Folder(location)) == account
    inspected = sparc_extract("inspect", location).stdout
    for line in account.lines_of_files():
        assert f"{line}\n" in cache[1].stderr
        assert f"  {line}\n" in inspected
    # It is sealed, and made again where it is damaged; a cache from before, without it, is whole.
    file = location / "dataset.json"
    intact = file.read_text()
    file.write_text(intact.replace('"rows": 11', '"rows": 12'))
    refused = sparc_extract("verify", location)
    assert refused.returncode == 2
    assert "dataset.json" in refused.stdout
    options = ("--device", "cpu", "--rows-per-chunk", "4", "--batch-size", "2", "--repair")
    stream = ("--stream", f"vit=timm:test_vit@{weights}")
    repaired = sparc_extract("run", dataset, location, *stream, *options)
    assert repaired.returncode == 0, repaired.stderr
    assert file.read_text() == intact
    file.unlink()
    assert sparc_extract("verify", location).returncode == 0
