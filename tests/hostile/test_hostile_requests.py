"""Nothing is sent, replaced or typed into a shell that a person did not ask for."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

from sparc.common.cache.arrays import write_arrays
from sparc.common.documents import seal
from sparc.common.errors import CacheError, RunError
from sparc.train import load


def rewritten(file, **changes) -> None:
    """A document with other entries, under a digest that fits."""
    document = json.loads(file.read_bytes())
    document.pop("sha256", None)
    for path, value in changes.items():
        *above, last = path.split("__")
        holder = document
        for key in above:
            holder = holder[key]
        holder[last] = value
    file.write_bytes(seal(document))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data__cache": "http://127.0.0.1:9/cache"}, "say with --cache where the cache is"),
        ({"data__cache": "simplecache::http://127.0.0.1:9/x"}, "say with --cache"),
        ({"train__validation": "http://127.0.0.1:9/cache"}, "continue with `sparc-train run`"),
        ({"train__wandb": "theirs"}, "Weights & Biases project 'theirs'"),
    ],
)
def test_resuming_sends_no_request_that_the_run_asks_for(
    artefacts, run, tmp_path, changes, said
) -> None:
    shutil.copytree(artefacts / "begun", tmp_path / "begun")
    rewritten(tmp_path / "begun/config.json", **changes)
    done = run("train", "resume", tmp_path / "begun")
    assert done.status == 2
    assert said in done.said


def test_a_run_goes_on_with_the_cache_that_is_named_by_hand(artefacts, run, tmp_path) -> None:
    shutil.copytree(artefacts / "begun", tmp_path / "begun")
    rewritten(tmp_path / "begun/config.json", data__cache="http://127.0.0.1:9/cache")
    done = run("train", "resume", tmp_path / "begun", "--cache", artefacts / "cache")
    assert done.status == 0, done.said


def test_a_search_replaces_only_what_is_like_its_sheet(artefacts, run, tmp_path) -> None:
    shutil.copytree(artefacts / "report", tmp_path / "report")
    (tmp_path / "keep.txt").write_text("years of work")
    (tmp_path / "keep.png").write_text("years of work")
    search = ("analyze", "search", tmp_path / "report", "--row=1", "--in=image")
    for option, said in (
        (f"--sheet={tmp_path}/keep.txt", "must end in .png"),
        (f"--sheet={tmp_path}/keep.png", "not a PNG file: choose another name"),
        (f"--out={tmp_path}/keep.txt", "not a Parquet file: choose another name"),
    ):
        done = run(*search, option)
        assert done.status == 2
        assert said in done.said
    for name in ("keep.txt", "keep.png"):
        assert (tmp_path / name).read_text() == "years of work"
    for _ in range(2):  # its own are replaced
        assert run(*search, f"--out={tmp_path}/found.parquet").status == 0


@pytest.mark.parametrize("name", ["config.json", "report.json", "sweep.json", "cache.json"])
def test_a_folder_of_something_else_is_left_as_it_is(artefacts, run, tmp_path, name) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    for file in (name, "thesis.partial", ".lock", f"x.{'0123456789abcdef' * 2}.partial"):
        (folder / file).write_text("{}")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    cache = artefacts / "cache"
    for command in (
        ("train", "run", cache, folder, "--steps=2", "--latents=16", "--k=4"),
        ("train", "run", cache, folder, f"--sweep={artefacts}/grid.toml"),
        ("train", "resume", folder),
        ("analyze", "run", artefacts / "run", cache, folder),
    ):
        done = run(*command)
        assert done.status == 2, command
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before, command


@pytest.mark.parametrize(
    "name", ["rows.parquet", "classes.parquet", "initial.safetensors", "model.safetensors"]
)
def test_a_file_of_somebody_else_with_one_of_our_names_is_not_replaced(
    run, artefacts, tmp_path, name
):
    folder = tmp_path / "theirs"
    folder.mkdir()
    if name.endswith("parquet"):
        pq.write_table(pa.table({"row": [1, 2], "caption": ["years", "of work"]}), folder / name)
    else:
        safetensors.numpy.save_file({"image": np.ones(3)}, folder / name)
    before = (folder / name).read_bytes()
    features = {"image": np.ones((4, 3), np.float32)}
    with pytest.raises(CacheError):
        write_arrays(folder, features)
    if name == "model.safetensors":
        with pytest.raises(RunError):
            load(artefacts / "model").save(folder)
    done = run("train", "run", artefacts / "cache", folder, "--steps=2", "--latents=16", "--k=4")
    assert done.status == 2
    assert {path.name for path in folder.iterdir()} == {name}
    assert (folder / name).read_bytes() == before


def test_a_table_of_somebody_else_is_not_replaced_by_a_search(run, artefacts, tmp_path):
    table = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"row": [1, 2]}), table)
    before = table.read_bytes()
    done = run("analyze", "search", artefacts / "report", "--row=1", "--in=image", f"--out={table}")
    assert done.status == 2
    assert "not a table of SPARC" in done.said
    assert table.read_bytes() == before
