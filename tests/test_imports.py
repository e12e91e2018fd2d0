"""Who may import whom, and that no command pays for what it does not use."""

import ast
import importlib
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparc.common.config import TABLES

ROOT = Path(__file__).parents[1]
STAGES = ("common", "extract", "train", "analyze", "pipelines")
ALLOWED = {
    "common": {"common"},
    "extract": {"common", "extract"},
    "train": {"common", "train"},
    "analyze": {"common", "train", "extract", "analyze"},
    "pipelines": set(STAGES),
}
HEAVY = ("torch", "zarr", "pyarrow", "timm", "open_clip", "transformers", "dask", "pandas", "numpy")


def modules() -> list[Path]:
    return sorted(path for stage in STAGES for path in (ROOT / stage).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """The modules that a file imports anywhere, functions included, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            assert node.module is not None
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def offenders(forbidden) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules()
        for name, line in imports(path)
        if forbidden(path.relative_to(ROOT).parts, name)
    ]


def test_a_wheel_has_every_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = {".".join(path.relative_to(ROOT).parent.parts) for path in modules()}
    assert sorted(settings["tool"]["setuptools"]["packages"]) == sorted(
        f"sparc.{folder}" for folder in folders
    )


def test_stages_import_only_what_they_may() -> None:
    def forbidden(place: tuple[str, ...], name: str) -> bool:
        package, _, rest = name.partition(".")
        return package == "sparc" and rest.split(".")[0] not in ALLOWED[place[0]]

    assert offenders(forbidden) == []


def test_no_stage_is_imported_by_its_folder_name() -> None:
    assert offenders(lambda _, name: name.split(".")[0] in STAGES) == []


def test_analysis_uses_encoders_and_images_of_extraction_and_nothing_else_of_it() -> None:
    # Images to show lie in datasets: in folders, or within tar files that a reader knows.
    allowed = ("sparc.extract.encoders", "sparc.extract.decoding", "sparc.extract.datasets")

    def forbidden(place: tuple[str, ...], name: str) -> bool:
        return (
            place[0] == "analyze"
            and name.startswith("sparc.extract")
            and not name.startswith(allowed)
        )

    assert offenders(forbidden) == []


def test_only_the_common_package_knows_how_the_cache_lies_in_zarr() -> None:
    def forbidden(place: tuple[str, ...], name: str) -> bool:
        return place[0] in ("extract", "train") and name.split(".")[0] == "zarr"

    assert offenders(forbidden) == []


def test_only_the_kernels_know_triton() -> None:
    def forbidden(place: tuple[str, ...], name: str) -> bool:
        return name.split(".")[0] == "triton" and place[:2] != ("train", "kernels")

    assert offenders(forbidden) == []


def test_a_configuration_file_may_have_a_table_for_every_command(call) -> None:
    found = set()
    for program in ("extract", "train", "analyze", "pipelines"):
        commands = importlib.import_module(f"sparc.{program}.cli").app.registered_commands
        for command in commands:
            name = command.name or command.callback.__name__.replace("_", "-")
            shown = " ".join(call(program, name, "--help").stdout.split())
            found.update(re.findall(r"Settings from this file's \[(\w+)\] table", shown))
    assert found == set(TABLES)


@pytest.mark.parametrize(
    ("program", "commands"),
    [
        ("extract", ["run", "inspect", "verify"]),
        ("train", ["run", "resume", "inspect"]),
        ("analyze", ["run", "compare", "bias", "search", "name", "stability", "localize"]),
        ("pipelines", ["demo", "coco", "open-images"]),
    ],
)
def test_help_answers_at_once(program: str, commands: list[str]) -> None:
    """One process asks for the help of every command, and lists what that made it import."""
    code = f"""
import sys
from typer.testing import CliRunner
from sparc.{program}.cli import app
for command in {commands!r}:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0 and "Usage" in result.output, (command, result.output)
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"
    started = time.perf_counter()
    command = [sys.executable, "-m", f"sparc.{program}.cli", "--help"]
    helped = subprocess.run(command, capture_output=True, text=True)
    assert helped.returncode == 0, helped.stderr
    # Well under a second on a machine with nothing else to do; the suite shares its cores.
    assert time.perf_counter() - started < 2
    listed = helped.stdout.partition("Commands:")[2]
    assert all(name in listed for name in commands)
    assert "..." not in listed  # what a command does, not the beginning of it
