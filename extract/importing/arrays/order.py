"""The order of numbered files: `part_2` comes before `part_10`."""

import re
from collections.abc import Iterable
from pathlib import Path


def in_order(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Paths sorted by their names, the numbers in these by their values; hidden ones left out."""
    shown = (path for path in paths if not path.name.startswith((".", "_")))
    return tuple(sorted(shown, key=_key))


def number(path: Path) -> int | None:
    """The last number in the name of a file; None where there is none."""
    numbers = re.findall(r"\d+", path.stem)
    return int(numbers[-1]) if numbers else None


def _key(path: Path) -> list[tuple[int, int | str]]:
    pieces = re.split(r"(\d+)", str(path))
    return [(0, int(p)) if p.isdecimal() else (1, p) for p in pieces]
