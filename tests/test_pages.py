"""What pages show can be typed: commands and options that exist, specs in quotes, links."""

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

ROOT = Path(__file__).parents[1]
GUIDE = [
    ROOT / "README.md",
    ROOT / "tests/benchmarks/README.md",
    ROOT / "docs/encoders.md",
    *sorted(ROOT.glob("docs/guide/*.md")),
]
PAGES = [
    *GUIDE,
    *(path for path in ROOT.glob("*/*.md") if not path.parts[-2].startswith(".")),
]

PROGRAM = re.compile(r"sparc-(extract|train|analyze|pipeline)")

SPEC = re.compile(r"(?:timm|open_clip|transformers):[^\s'`\"]*[?&#]")
"""A spec with a character that means something to a shell: `&` ends a command."""


def test_specs_are_quoted_where_a_shell_would_take_them_apart():
    found = 0
    for page in PAGES:
        for line in page.read_text().splitlines():
            for spec in SPEC.finditer(line):
                assert line[: spec.start()].count("'") % 2 == 1, f"{page.name}: {line}"
                found += 1
    assert found


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("extract", "run"),
        ("analyze", "search"),
        ("analyze", "name"),
        ("analyze", "localize"),
        ("pipelines", "demo"),
        ("pipelines", "coco"),
        ("pipelines", "open-images"),
    ],
)
def test_the_help_says_to_quote_specs(call, program, command):
    shown = " ".join(call(program, command, "--help").stdout.split())
    assert "in quotes" in shown
    assert not re.search(r"(?<!')name=spec", shown, re.IGNORECASE)


def commands(lines: str) -> Iterator[list[str]]:
    """The words of each command of SPARC among lines as they are typed."""
    for line in lines.replace("\\\n", " ").splitlines():
        for command in line.split("&&"):
            words = shlex.split(re.sub(r"(^|\s)#.*", "", command))
            if len(words) > 1 and PROGRAM.fullmatch(words[0]):
                yield words


def in_blocks(text: str) -> str:
    """The lines of a page's blocks that can be pasted."""
    return "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL))


def in_sentences(text: str) -> str:
    """The commands within a page's sentences, a line each."""
    return "\n".join(re.findall(r"`(sparc-[^`\n]+)`", text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_and_option_exists(page):
    text = page.read_text()
    for program, name, *words in commands(f"{in_blocks(text)}\n{in_sentences(text)}"):
        stage = {"pipeline": "pipelines"}.get(program[6:], program[6:])
        known = get_command(importlib.import_module(f"sparc.{stage}.cli").app).commands
        if name.startswith("-") or name == "…":
            continue
        assert name in known, f"{page.name} shows `{program} {name}`, which is no command"
        options = {
            option for one in known[name].params for option in (*one.opts, *one.secondary_opts)
        }
        for word in words:
            option = word.split("=")[0]
            if option.startswith("--"):
                assert option in {*options, "--help"}, f"{page.name}: {program} {name} {option}"


MISSING = re.compile(
    r"there is no (such folder|dataset folder|file or folder|\S+ in )|No such file"
)
"""What a command says in an empty folder where nothing else is wrong with it."""


def typed(page: Path) -> list[tuple[str, ...]]:
    """The commands of a page's blocks that run as they stand, and without a network."""
    words = dict.fromkeys(map(tuple, commands(in_blocks(page.read_text()))))
    return [
        command
        for command in words
        if not any(re.search(r"^[A-Z]+$|…|://|^demo$", word) for word in command[2:])
        and command[0] != "sparc-pipeline"  # it says so by a process of another command
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_command_of_a_page_lacks_nothing_but_its_files(page, call, tmp_path, monkeypatch):
    """Options that exclude each other, or lack a partner, are refused before files are opened."""
    monkeypatch.chdir(tmp_path)
    for program, *words in typed(page):
        said = call(program[6:], *words).stderr
        assert MISSING.search(" ".join(said.split())), f"{page.name}: {program} {words}\n{said}"


def test_the_pages_show_commands_of_every_program():
    shown = [words for page in GUIDE for words in commands(in_blocks(page.read_text()))]
    assert {words[0][6:] for words in shown} == {"extract", "train", "analyze", "pipeline"}
    assert len({tuple(words[:2]) for words in shown}) > 20


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links, as GitHub makes it."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", text)
    assert links or page not in GUIDE
    for target, anchor in links:
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), f"{page.name} links to {target}, which does not exist"
        if anchor:
            assert anchor in anchors(there), f"{page.name}: {target} has no heading #{anchor}"


def test_every_page_of_the_guide_is_linked_from_the_readme_and_says_where_to_go_next():
    readme = GUIDE[0].read_text()
    for page in [ROOT / "docs/encoders.md", *ROOT.glob("docs/guide/*.md")]:
        assert f"({page.relative_to(ROOT).as_posix()})" in readme, (
            f"README does not link to {page.name}"
        )
        assert "\n## Where to go next\n" in page.read_text(), page.name


def test_every_benchmark_is_on_the_page_of_figures():
    page = (ROOT / "tests/benchmarks/README.md").read_text()
    for path in sorted(ROOT.glob("tests/benchmarks/*.py")):
        assert path.name in page, f"tests/benchmarks/README.md does not name {path.name}"
