"""CONTRIBUTING.md: its recipes are followed as they stand there, and what it names exists."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from sparc.common.cache.reader import ActivationCache
from sparc.train.loading import load

ROOT = Path(__file__).parents[1]
STAGES = ("common", "extract", "train", "analyze", "pipelines")
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
IN = "# in "


class Block(NamedTuple):
    """A block of Python in the page: its first line says where it belongs."""

    file: str
    """The file that it is, or that it adds to."""
    where: str
    """The name of the registry in it, or the line that is replaced; empty: it is the file."""
    code: str

    def names(self) -> Iterator[str]:
        """The public names that it defines."""
        for node in ast.parse(self.code).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name[0] != "_":
                yield node.name


def blocks() -> list[Block]:
    result = []
    for code in re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL):
        first, _, rest = code.partition("\n")
        file, _, where = first.removeprefix(IN).removeprefix("# ").partition(": ")
        assert first.startswith("# "), first
        result.append(Block(file, where, rest))
    return result


FILES = [block for block in blocks() if block.code.startswith('"""')]
LINES = [block for block in blocks() if not block.code.startswith('"""')]


def with_line(content: str, block: Block) -> str:
    """A file's content with the code of a block where the page says, and what that imports."""
    if "=" in block.where:
        (indent,) = re.findall(rf"^( *){re.escape(block.where)}\n", content, flags=re.MULTILINE)
        code = "".join(f"{indent}{line}\n" for line in block.code.splitlines())
        content = content.replace(f"{indent}{block.where}\n", code)
    elif block.where:
        content = with_entry(content, block.where, block.code)
    else:
        content = content.replace("\nif __name__ ==", f"{block.code}\nif __name__ ==")
    imports = [
        f"from sparc.{file.file.removesuffix('.py').replace('/', '.')} import {name}\n"
        for file in FILES
        for name in file.names()
        if re.search(rf"(?<![:\w\"]){name}\b", block.code)
    ]
    return re.sub(r"^(?=from sparc\b)", "".join(imports), content, count=1, flags=re.MULTILINE)


def with_entry(content: str, registry: str, entry: str) -> str:
    """A file's content with a further entry at the end of a registry."""
    (value,) = (
        node.value
        for node in ast.parse(content).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and any(t.id == registry for t in getattr(node, "targets", None) or [node.target])
    )
    lines = content.splitlines(keepends=True)
    line, column = value.end_lineno - 1, value.end_col_offset - 1
    before, after = "".join(lines[:line]) + lines[line][:column], lines[line][column:]
    comma = "" if before.rstrip().endswith(",") else ","
    return f"{before}{comma}{entry.strip().removesuffix(',')},{after}{''.join(lines[line + 1 :])}"


@pytest.fixture(scope="module")
def changed(tmp_path_factory) -> Path:
    """A copy of the repository in which every recipe is followed; `sparc` lies in `path`."""
    copy = tmp_path_factory.mktemp("changed")
    for stage in (*STAGES, "sparc"):
        shutil.copytree(ROOT / stage, copy / stage, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for block in FILES:
        file = copy / block.file
        assert not file.exists(), f"{block.file} is in the repository: take another example"
        if not file.parent.exists():
            file.parent.mkdir()
            (file.parent / "__init__.py").write_text('"""An example."""\n')
        file.write_text(block.code)
    for block in LINES:
        file = copy / block.file
        file.write_text(with_line(file.read_text(encoding="utf-8"), block), encoding="utf-8")
    (copy / "path").mkdir()
    (copy / "path/sparc").symlink_to(copy / "sparc")
    for stage in STAGES:
        (copy / "sparc" / stage).symlink_to(copy / stage)
    return copy


COMMANDS = """
import json, sys
from typer.testing import CliRunner
from sparc.extract.cli import app as extract
from sparc.train.cli import app as train
from sparc.analyze.cli import app as analyze

programs = {"extract": extract, "train": train, "analyze": analyze}
shown = []
for program, *arguments in json.load(sys.stdin):
    done = CliRunner().invoke(programs[program], arguments)
    if done.exit_code:
        sys.exit(f"{program} {arguments}: {done.output} {done.exception!r}")
    shown.append(done.output)
print(json.dumps(shown))
"""


def test_the_recipes_make_what_they_say(changed, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    colors = [(40 * (n % 7), 30 * (n % 5), 20 * (n % 11)) for n in range(40)]
    for number, color in enumerate(colors):
        Image.new("RGB", (9, 7), color).save(data / f"{number}.png")
    lines = [f"{number}.png\tcolour {number % 7}" for number in range(len(colors))]
    (data / "listed.tsv").write_text("\n".join(lines) + "\n")
    labels = {f"{number}.png": [f"red {number % 7}"] for number in range(len(colors))}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    (tmp_path / "given").mkdir()
    given = {"directions": [[1.0, 0.0], [0.0, 1.0]], "k": 1}
    (tmp_path / "given/dictionary.json").write_text(json.dumps(given))
    (tmp_path / "sparc.toml").write_text("[count]\nabove = 0.0\n")
    streams = ["--stream=coarse=colors:1", "--stream=fine=colors:2"]
    sizes = ["--latents=8", "--k=2", "--auxk=0", "--steps=4", "--batch-size=8", "--device=cpu"]
    added = ["--selection=half", "--term=pull=0.1", "--recipe=decaying", "--kernels=double"]
    small = ["--no-untrained", "--no-permuted", "--scheduler=sync", "--device=cpu"]
    commands = [
        ["extract", "run", "data", "cache", "--labels=labels.json", *streams, "--device=cpu"],
        ["train", "run", "cache", "run", *sizes, *added],
        ["analyze", "run", "run", "cache", "report", "--summary=page.html", *small],
        ["analyze", "count", "report", "--config=sparc.toml"],
        ["train", "import", "given", "model", "--stream=a"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS],
        input=json.dumps(commands),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(changed / "path"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *_, counted, _ = json.loads(done.stdout.splitlines()[-1])

    cache = ActivationCache(tmp_path / "cache")
    assert cache.info.dataset_format == "listed"
    assert {name: info.dim for name, info in cache.streams.items()} == {"coarse": 3, "fine": 12}
    rows, classes = cache.rows(), cache.classes()
    assert rows["caption"].to_pylist()[:2] == ["colour 0", "colour 1"]
    assert sorted(classes["key"].to_pylist()) == sorted({f"red {n}" for n in range(7)})
    for row, color in enumerate(colors[: len(cache.features("coarse", 0))]):
        expected = [channel / 255 for channel in color]
        assert cache.features("coarse", 0)[row].tolist() == pytest.approx(expected, abs=1e-3)
    run = json.loads((tmp_path / "run/config.json").read_text())
    assert (run["model"]["selection"], run["kernels"]) == ("half", "double")
    assert run["train"]["recipe"] == "decaying"
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    assert all(line["pull"] >= 0 for line in lines)
    summary = json.loads((tmp_path / "report/summary.json").read_text())
    assert summary["peak_value/independent/trained"] > 0
    page = (tmp_path / "page.html").read_text()
    assert f"<td>{summary['peak_value/independent/trained']:.3f}" in page
    assert re.search(r"coarse: \d latents?", counted), counted
    assert load(tmp_path / "model").config.latents == 2


def test_the_recipes_are_in_the_style_of_the_rest(changed):
    for arguments in (["check", "--extend-ignore=ARG"], ["format", "--check"]):
        files = [block.file for block in FILES]
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, "--no-cache", *files],
            cwd=changed,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


def test_what_the_page_names_exists():
    text = re.sub(r"^```python.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    codes = [*re.findall(r"`([^`\n]+)`", text), *re.findall(r"^make.*", text, re.MULTILINE)]
    code = " ".join(codes)
    names = re.findall(r"(?<=\s)(?:\.?\w+/|[A-Z]+\.|\w+\.toml)[\w./-]*", f" {code}")
    names += [link for link in re.findall(r"\]\(([^)#]+)", PAGE) if "://" not in link]
    assert len(names) > 40
    made_here = {block.file for block in FILES}
    by_make = ("dist/", "site/", ".mypy-tree/")
    there = [n in made_here or n.startswith(by_make) or (ROOT / n).exists() for n in names]
    assert [name for name, is_there in zip(names, there, strict=True) if not is_there] == []

    described = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z]+):", described, flags=re.MULTILINE)
    asked = [t for c in codes if c.startswith("make ") for t in c.partition("#")[0].split()[1:]]
    assert len(asked) > 6
    assert sorted({target for target in asked if target not in targets}) == []
