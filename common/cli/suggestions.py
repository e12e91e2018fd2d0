"""What a shell may offer for a value: artefacts nearby, and the streams and classes of those typed.

Someone who presses TAB waits for it, and what lies in a folder may be anybody's: a few small files
are read and no network is asked. What cannot be read offers nothing.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sparc.common.config import Suggest
from sparc.common.errors import SparcError
from sparc.common.files.kinds import FILES, Kind
from sparc.common.files.paths import from_home, is_url
from sparc.common.files.safe_files import open_regular
from sparc.common.parsing import parse_object

_DEEPEST = 3
"""Folders below the one that is typed in which artefacts are looked for."""

_MOST_ENTRIES = 5_000
"""Of folders that are looked at: an artefact has few, a dataset may have millions."""

_LONGEST_DOCUMENT = 1 << 20
"""Bytes of a document that is read."""

_LARGEST_TABLE = 1 << 22
"""Bytes of a table of classes that is read."""

_ARTEFACTS = ("report", "run", "source", "cache", "reports", "other")
"""Parameters that name artefacts, the one first whose streams are fewest."""


def constants(*values: str) -> Suggest:
    """Always the same values."""
    return lambda _typed, _incomplete: values


devices = constants("auto", "cpu", "cuda")
"""Where PyTorch may compute."""


def artefacts(kind: Kind) -> Suggest:
    """Artefacts of a kind, at most a few folders below the one that is typed."""
    return lambda _typed, incomplete: _artefacts(kind, incomplete)


def streams(typed: Mapping[str, Any], _incomplete: str) -> Iterable[str]:
    """The streams of the artefact that is typed."""
    for name in _ARTEFACTS:
        for folder in _folders(typed.get(name)):
            if names := _streams(folder):
                return names
    return ()


def classes(typed: Mapping[str, Any], _incomplete: str) -> Iterable[str]:
    """The names of the classes in the cache that is typed, or on which the report was made."""
    for cache in (*_folders(typed.get("cache")), *_recorded_caches(typed)):
        path = cache / "classes.parquet"
        try:
            with open_regular(path, largest=_LARGEST_TABLE) as file:
                import pyarrow.parquet as pq

                column = pq.ParquetFile(file).read(["name"], use_threads=False).column("name")
        except FileNotFoundError:
            continue
        return [name for name in column.to_pylist() if isinstance(name, str)]
    return ()


def attributes(typed: Mapping[str, Any], incomplete: str) -> Iterable[str]:
    """The attributes of `sparc-analyze bias`, of which the classes are known."""
    beginning = "class:"
    if incomplete.startswith(beginning):
        return (f"{beginning}{name}" for name in classes(typed, incomplete))
    return (beginning, "words:", "column:", "table:")


def _artefacts(kind: Kind, incomplete: str) -> Iterator[str]:
    if is_url(incomplete):
        return
    above, slash, _ = incomplete.rpartition("/")
    begun = above + slash
    waiting = deque([("", 0)])
    entries = 0
    while waiting:
        below, depth = waiting.popleft()
        try:
            with os.scandir(from_home(begun + below) or ".") as scanned:
                for entry in scanned:
                    entries += 1
                    if entries > _MOST_ENTRIES:
                        return
                    name = below + entry.name
                    if entry.name.startswith(".") or not entry.is_dir():
                        continue
                    if not (begun + name).startswith(incomplete):
                        continue
                    is_of = _kind(Path(from_home(begun + name)))
                    if is_of == kind:
                        yield begun + name
                    elif is_of is None and depth < _DEEPEST:
                        waiting.append((f"{name}/", depth + 1))
        except OSError:
            continue


def _kind(folder: Path) -> Kind | None:
    """What a folder is; other programs call files `config.json`, too."""
    for kind in FILES:
        with suppress(OSError, ValueError, SparcError):
            if str(_document(folder, kind).get("format", "")).startswith("sparc-"):
                return kind
    return None


def _folders(typed: Any) -> Iterator[Path]:
    """The folders of this machine that a parameter names."""
    for text in typed if isinstance(typed, list | tuple) else (typed,):
        if text and not is_url(os.fspath(text)):
            yield Path(from_home(text))


def _recorded_caches(typed: Mapping[str, Any]) -> Iterator[Path]:
    for report in _folders(typed.get("report")):
        if (cache := _document(report, "report").get("cache")) and isinstance(cache, str):
            yield from _folders(cache)


def _streams(folder: Path) -> list[str]:
    for kind in FILES:
        document = _document(folder, kind)
        if kind == "run":
            model = document.get("model", document)
            document = model if isinstance(model, dict) else {}
        listed = document.get("streams")
        if isinstance(listed, list):
            names = (entry.get("name") if isinstance(entry, dict) else entry for entry in listed)
            return [name for name in names if isinstance(name, str)]
    return []


def _document(folder: Path, kind: Kind) -> dict[str, Any]:
    """The document of an artefact; empty where it has none of that kind."""
    try:
        with open_regular(folder / FILES[kind], largest=_LONGEST_DOCUMENT) as file:
            return parse_object(file.read(_LONGEST_DOCUMENT))
    except FileNotFoundError:
        return {}
