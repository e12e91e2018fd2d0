"""Every example runs as it stands, in a process of its own, and prints what it is there to show."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path) -> Run:
    """Run an example to its end; gives what it prints."""

    def run(name: str, *arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / name), *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "TMPDIR": str(tmp_path), "HF_HUB_OFFLINE": "1"},
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def numbers(pattern: str, text: str) -> tuple[float, ...]:
    """The numbers that a pattern has groups for, where it matches first."""
    match = re.search(pattern, text)
    assert match is not None, text
    return tuple(map(float, match.groups()))


def test_every_example_is_listed_shown_and_run() -> None:
    files = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    assert set(re.findall(r"\]\(([\w.]+)\) \|", (EXAMPLES / "README.md").read_text())) == files
    page = (ROOT / "docs/examples.md").read_text()
    here = Path(__file__).read_text()
    for name in files:
        assert f'"{name}"' in here
        assert f"examples/{name}" in page


@pytest.mark.slow
def test_own_arrays_become_concepts_with_names(run) -> None:
    shared, right = numbers(
        r"(\d+) latents are shared; (\d+) of the 40 things", run("own_arrays.py")
    )
    assert shared >= 40
    assert right >= 35


def test_a_text_finds_images_in_dino(run) -> None:
    printed = run("search_by_text.py")
    hits, chance = numbers(r"(\d+)% of DINO's [\s\S]*Of all images, ([\d.]+)%", printed)
    assert hits > 60 > 3 > chance
    assert printed.count("of 5 show it") == 5


def test_a_bias_is_in_all_models_or_in_some(run) -> None:
    black, yellow, _ = run("bias_in_all_models.py").split("images whose caption says ")[1:]
    assert "in all models: 78" in black
    assert "effnet  no latent goes with it" in yellow
    assert "in all models: none" in yellow


def test_a_metric_of_ones_own_has_every_control(run) -> None:
    printed = run("new_metric.py")
    for mode, control in (("independent", "untrained"), ("joint", "permuted_before")):
        assert control in printed.partition(mode)[2]
    used = numbers(r"joint[\s\S]*trained +([\d.]+) +([\d.]+) +([\d.]+)", printed)
    assert all(100 < number <= 512 for number in used)


def test_a_format_of_ones_own_is_read(run) -> None:
    printed = run("new_dataset.py")
    assert "40 rows; pixels 192" in printed
    assert "000.png: A grey picture of a pencil. Tags: pencil." in printed


@pytest.mark.slow
def test_a_folder_of_pictures_becomes_concepts(run) -> None:
    assert numbers(r"(\d+) concepts are shared by colours and greys", run("folder_of_pictures.py"))[
        0
    ]


@pytest.mark.slow
def test_a_new_model_joins(run) -> None:
    printed = run("new_model_joins.py")
    for name in ("dino", "minilm"):
        same, other = numbers(rf"{name} +([\d.]+) for the same picture, ([\d.]+)", printed)
        assert same > 4 > 2 > other


@pytest.mark.slow
def test_latents_go_to_embedding_atlas(run, tmp_path) -> None:
    assert "latents.parquet: 512 latents" in run("embedding_atlas.py", "latents.parquet")
    table = pq.read_table(tmp_path / "latents.parquet")
    assert {"latent", "image", "x", "y"} <= set(table.column_names)
    assert all(image["bytes"] for image in table["image"].to_pylist()[:20])


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(EXAMPLES / "first_look.ipynb", as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    kinds = [
        set(output.get("data", ())) for cell in notebook.cells for output in cell.get("outputs", ())
    ]
    assert sum("image/png" in kind for kind in kinds) >= 2
    assert any("text/html" in kind for kind in kinds)
