"""Who may import whom, and that no command pays for what it does not use."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections import Counter
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
# Packages and modules of a stage, lowest first: each imports its own level and those below it. A
# module belongs to the longest name that begins its own.
LEVELS: dict[str, tuple[tuple[str, ...], ...]] = {
    "common": (
        (
            *("errors", "text", "lazy", "heap", "progress"),
            *("workers", "devices", "processor", "rle", "versions", "timing"),
        ),
        ("parsing", "registry", "files.paths"),
        ("config", "documents"),
        ("defaults",),
        ("files", "images"),
        ("streams",),
        ("cache",),
        ("cli",),
    ),
    "extract": (
        ("datasets", "encoders"),
        ("config", "encoding"),
        ("places", "rows"),
        ("plan", "restorer", "importing", "summary", "timings", "writing"),
        ("extraction",),
        ("shards", "cluster"),
        ("job", "cache_summary"),
        ("direct",),
        ("cli", "call"),
    ),
    "train": (
        (
            *("model.selectors.registry", "kernels.registry"),
            *("step.recipes.registry", "step.terms.registry", "align.config"),
            "dictionaries.formats.registry",
        ),
        (
            *("config", "proposal", "distributed", "align.record"),
            *("match.config", "match.record", "join.config", "join.record"),
            *("save.config", "save.record", "export.config"),
            *("importing.config", "importing.record"),
            *("derive.record", "derive.history"),
        ),
        ("model",),
        (
            *("reference", "kernels", "data", "match", "align.refit"),
            *("align.selecting", "align.thresholds", "align.on_cache", "align.aligner"),
        ),
        ("step", "dictionaries"),
        ("run", "validation", "parallel"),
        ("timings",),
        ("loading", "loop", "announcements"),
        ("derive.source",),
        ("start",),
        ("together",),
        ("job", "derive", "align.command", "match.command", "join", "save", "export", "importing"),
        ("direct",),
        ("cli", "call"),
    ),
    "analyze": (
        ("options", "arguments", "cluster", "timings", "report.renderers.registry"),
        ("config", "maths", "recorded_encoders", "report.notes", "report.digests"),
        ("codes", "report.info"),
        ("rows", "report.figure_names"),
        ("metrics", "report.page"),
        ("context", "localize"),
        ("measure", "plan"),
        ("measures", "report.control_lines", "report.renderers.text"),
        ("report",),
        (
            *("run", "removal", "bias", "concepts", "search", "stability"),
            *("localize.maps", "localize.scores"),
        ),
        ("localize.command",),
        ("name",),
        ("show",),
        ("browse",),
        ("direct", "cli"),
        ("notebook.frames",),
        ("notebook",),
        ("call",),
    ),
    "pipelines": (
        ("config", "commands"),
        ("umbrella", "stages"),
        ("published", "demo", "doctor"),
        ("cli",),
    ),
}
MOST_MODULES = 15
"""In a folder: what a reader takes in at a glance."""
MOST_LINES = 400
REASON = "One file, since"
"""Begins the sentence of a longer file's docstring that says why it is not divided."""
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


def name_of(path: Path) -> str:
    return ".".join(("sparc", *path.relative_to(ROOT).with_suffix("").parts))


def import_graph() -> dict[str, set[str]]:
    """By module, the modules of ours that it imports anywhere; packages' faces are left out."""
    files = {name_of(path): path for path in modules() if path.name != "__init__.py"}
    graph: dict[str, set[str]] = {}
    for module, path in files.items():
        names = {name for name, _ in imports(path)}
        # What is imported is a module, or something in one.
        graph[module] = {
            target
            for name in names
            for target in (name, name.rpartition(".")[0])
            if target in files and target != module
        }
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import each other."""

    def reachable(start: str) -> set[str]:
        reached: set[str] = set()
        waiting = [start]
        while waiting:
            for target in graph[waiting.pop()] - reached:
                reached.add(target)
                waiting.append(target)
        return reached

    everything = {module: reachable(module) for module in graph}
    groups = {
        frozenset(other for other in reached if module in everything[other])
        for module, reached in everything.items()
        if module in reached
    }
    return sorted(map(sorted, groups))


def level_of(module: str) -> int:
    _, stage, name = module.split(".", 2)
    levels = {prefix: n for n, level in enumerate(LEVELS[stage]) for prefix in level}
    parts = name.split(".")
    beginnings = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next(levels[beginning] for beginning in beginnings if beginning in levels)


def test_no_modules_import_each_other() -> None:
    assert circles(import_graph()) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": {"f"}, "f": {"e"}}) == [
        ["a", "b", "c"],
        ["e", "f"],
    ]


def test_modules_import_only_their_own_level_and_those_below() -> None:
    upward = [
        f"{module} imports {target}"
        for module, targets in import_graph().items()
        for target in sorted(targets)
        if module.split(".")[1] == target.split(".")[1] and level_of(target) > level_of(module)
    ]
    assert upward == []


def test_a_folder_can_be_taken_in_at_a_glance() -> None:
    counts = Counter(path.parent for path in modules() if path.name != "__init__.py")
    wide = {str(folder.relative_to(ROOT)): n for folder, n in counts.items() if n > MOST_MODULES}
    assert wide == {}


def test_long_files_say_why_they_are_not_divided() -> None:
    long = {}
    for path in modules():
        content = path.read_text(encoding="utf-8")
        if len(content.splitlines()) > MOST_LINES:
            long[str(path.relative_to(ROOT))] = ast.get_docstring(ast.parse(content)) or ""
    assert [file for file, docstring in long.items() if REASON not in docstring] == []


def test_a_wheel_has_every_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = {".".join(path.relative_to(ROOT).parent.parts) for path in modules()}
    assert sorted(settings["tool"]["setuptools"]["packages"]) == sorted(
        ["sparc", *(f"sparc.{folder}" for folder in folders)]
    )
    assert sorted((ROOT / "sparc").glob("*.py")) == [ROOT / "sparc/__init__.py"]


def test_stages_import_only_what_they_may() -> None:
    def forbidden(place: tuple[str, ...], name: str) -> bool:
        package, _, rest = name.partition(".")
        return package == "sparc" and rest.split(".")[0] not in ALLOWED[place[0]]

    assert offenders(forbidden) == []


def test_no_stage_is_imported_by_its_folder_name() -> None:
    assert offenders(lambda _, name: name.split(".")[0] in STAGES) == []


def test_analysis_uses_encoders_and_images_of_extraction_and_nothing_else_of_it() -> None:
    # Images to show lie in datasets: in folders, or within tar files that a reader knows.
    allowed = ("sparc.extract.encoders", "sparc.extract.datasets")

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
    tables = set()
    for program in ("extract", "train", "analyze", "pipelines"):
        commands = importlib.import_module(f"sparc.{program}.cli").app.registered_commands
        for command in commands:
            name = command.name or command.callback.__name__.replace("_", "-")
            shown = " ".join(call(program, name, "--help").stdout.split())
            tables.update(re.findall(r"Settings from this file's \[(\w+)\] table", shown))
    assert tables == set(TABLES)


@pytest.mark.parametrize(
    ("program", "commands"),
    [
        ("extract", ["run", "import", "inspect", "verify"]),
        (
            "train",
            ["run", "resume", "align", "match", "join", "save", "export", "import", "inspect"],
        ),
        (
            "analyze",
            [
                "run",
                "compare",
                "bias",
                "concepts",
                "show",
                "browse",
                "search",
                "name",
                "stability",
                "localize",
            ],
        ),
        ("pipelines", ["demo", "coco", "open-images"]),
    ],
)
def test_help_imports_nothing_heavy(program: str, commands: list[str]) -> None:
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
    command = [sys.executable, "-m", f"sparc.{program}.cli", "--help"]
    helped = subprocess.run(command, capture_output=True, text=True)
    assert helped.returncode == 0, helped.stderr
    listed = helped.stdout.partition("Commands:")[2]
    assert all(name in listed for name in commands)
    assert "..." not in listed  # what a command does, not the beginning of it
