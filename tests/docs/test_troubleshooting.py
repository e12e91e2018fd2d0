"""The lines that "What can go wrong" quotes are those that the code says."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIXED = 8
"""Letters of a fixed part, at least, that count as said by the code."""

LEAST = 0.4
"""Share of a line that the code says, at least."""

QUOTED = [
    line
    for block in re.findall(
        r"```text\n(.*?)```", (ROOT / "docs/troubleshooting.md").read_text(), re.DOTALL
    )
    for line in block.splitlines()
]


def sources() -> Iterator[str]:
    """Files that hold four words in a row of any quoted line: to parse all would take seconds.

    Of short lines three or two words, since values are among them.
    """
    phrases = set()
    for words in (line.split(" ") for line in QUOTED):
        length = 4 if len(words) > 10 else 3 if len(words) > 8 else 2
        phrases |= {" ".join(words[n : n + length]) for n in range(len(words) - length + 1)}
    for stage in ("common", "extract", "train", "analyze"):
        for file in (ROOT / stage).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            if any(phrase in text for phrase in phrases):
                yield text


def messages() -> Iterator[list[str]]:
    """The texts of the code, each as its fixed parts, between which values stand."""
    for source in sources():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.JoinedStr):
                parts = [str(p.value) for p in node.values if isinstance(p, ast.Constant)]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                parts = [node.value]
            else:
                continue
            if any(len(part) >= FIXED for part in parts):
                yield parts


@pytest.fixture(scope="module")
def of_code() -> list[list[str]]:
    return list(messages())


def said(line: str, of_code: list[list[str]]) -> str:
    """The line, with dots for whatever no message of the code says; a word alone is no message."""
    known = [False] * len(line)
    for parts in of_code:
        places, end = [], 0
        for part in parts:
            begin = line.find(part, end)
            if begin < 0:
                break
            end = begin + len(part)
            places.append((begin, end, part.strip()))
        else:
            for begin, end, part in places:
                if len(part) >= FIXED and " " in part:
                    known[begin:end] = [True] * (end - begin)
    return "".join(c if k else "·" for c, k in zip(line, known, strict=True))


def share(marked: str) -> float:
    """How much of a line the code says."""
    return 1 - marked.count("·") / len(marked)


def test_the_page_quotes_lines():
    assert len(QUOTED) > 25


@pytest.mark.parametrize("line", QUOTED)
def test_a_quoted_line_is_one_of_the_code(line, of_code):
    """What is not said by the code are values: names, numbers, and what others report."""
    text = line.removesuffix("…").rstrip()
    marked = max((said(t, of_code) for t in (text, text.removeprefix("error: "))), key=share)
    assert share(marked) > LEAST, marked


def test_a_line_that_the_code_does_not_say_is_told_from_one_that_it_does(of_code):
    assert "·" * 10 in said("the moon is made of green cheese and of nothing else", of_code)
    changed = QUOTED[0].replace("there is no such folder", "that folder is nowhere")
    assert share(said(QUOTED[0], of_code)) > 0.8 > 0.7 > share(said(changed, of_code))
