"""Every file of every artefact, replaced by what somebody malicious would put in its place.

Whatever lies there, each command that reads the artefact ends within seconds, in bounded memory,
with status 0 or 2 and without a traceback; it touches nothing but the artefact itself, and writes
nothing to the terminal that moves a cursor.

Few of the cases are tried here, other ones for each SPARC_SEED; SPARC_FAULTS=100000 tries them all.
"""

import hashlib
import io
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sparc.common.documents import seal

CASES = max(10, int(os.environ.get("SPARC_FAULTS", "0")))
SEED = int(os.environ.get("SPARC_SEED", "0"))

ESCAPE = "\x1b]0;owned\x07\x1b[2J\x9b31m\r"

FAST = ("--device=cpu", "--no-untrained", "--no-permuted")

TORCH = ("--kernels=torch", "--device=cpu")

READERS = {
    "cache": (
        ("extract", "inspect", "{0}/cache"),
        ("extract", "verify", "{0}/cache"),
        ("train", "run", "{0}/cache", "{0}/new", "--steps=2", "--latents=16", "--k=4", *TORCH),
        ("analyze", "run", "{0}/run", "{0}/cache", "{0}/new-report", *FAST),
        ("analyze", "search", "{0}/report", "--row=1", "--in=image", "--cache={0}/cache"),
        ("analyze", "bias", "{0}/report", "--attribute=words:cat", "--cache={0}/cache"),
    ),
    "compressed": (
        ("extract", "inspect", "{0}/compressed"),
        ("extract", "verify", "{0}/compressed"),
        ("train", "run", "{0}/compressed", "{0}/new", "--steps=2", "--latents=16", "--k=4", *TORCH),
    ),
    "run": (
        ("train", "inspect", "{0}/run"),
        ("train", "resume", "{0}/run"),
        ("analyze", "run", "{0}/run", "{0}/cache", "{0}/new-report", *FAST),
        ("analyze", "stability", "{0}/run", "{0}/sweep/k=4"),
        ("analyze", "localize", "{0}/run", "{0}/picture.png", "--latent=1"),
    ),
    "begun": (
        ("train", "inspect", "{0}/begun"),
        ("train", "resume", "{0}/begun"),
        ("analyze", "run", "{0}/begun", "{0}/cache", "{0}/new-report", *FAST),
    ),
    "sweep": (("train", "inspect", "{0}/sweep"), ("train", "resume", "{0}/sweep")),
    "model": (
        ("train", "inspect", "{0}/model"),
        ("analyze", "run", "{0}/model", "{0}/cache", "{0}/new-report", *FAST),
    ),
    "report": (
        ("analyze", "compare", "{0}/report"),
        ("analyze", "search", "{0}/report", "--row=1", "--in=image", "--cache={0}/cache"),
        ("analyze", "bias", "{0}/report", "--attribute=words:cat", "--cache={0}/cache"),
        ("analyze", "run", "{0}/run", "{0}/cache", "{0}/report", *FAST),
    ),
}

Tamper = Callable[[Path], None]
Change = Callable[[Any], Any]


def link_out(file: Path) -> None:
    file.symlink_to(file.parents[len(file.parents) - 1] / "etc/passwd")


def link_to_device(file: Path) -> None:
    file.symlink_to("/dev/zero")


def device(file: Path) -> None:
    try:
        os.mknod(file, 0o600 | 0o020000, os.makedev(1, 5))  # what /dev/zero is
    except PermissionError:
        link_to_device(file)


def sparse(file: Path) -> None:
    with file.open("wb") as opened:
        opened.truncate(1 << 40)


REPLACEMENTS: dict[str, Tamper] = {
    "link": link_out,
    "link to a device": link_to_device,
    "device": device,
    "pipe": os.mkfifo,
    "folder": os.mkdir,
    "empty": Path.touch,
    "sparse": sparse,
    "nested": lambda file: file.write_text("[" * 100_000) and None,
}

CHANGES: dict[str, Change] = {
    "huge": lambda value: 2**62 if isinstance(value, int | float) else value,
    "negative": lambda value: -1 if isinstance(value, int | float) else value,
    "escape": lambda value: ESCAPE if isinstance(value, str) else value,
    "type": lambda value: [1] if isinstance(value, str) else {"a": "b"},
    "null": lambda _: None,
}


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all values in a document that hold no others."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in inner:
        if isinstance(each, dict | list) and each:
            yield from leaves(each, (*path, key))
        else:
            yield (*path, key)


def changed(content: bytes, place: tuple[Any, ...], change: Change) -> bytes:
    """A document with one value changed, sealed as a malicious person would."""
    document = json.loads(content)
    sealed = document.pop("sha256", None) if isinstance(document, dict) else None
    holder = document
    for key in place[:-1]:
        holder = holder[key]
    if place[-1] in holder if isinstance(holder, dict) else True:
        holder[place[-1]] = change(holder[place[-1]])
    return seal(document) if sealed else json.dumps(document).encode()


def escaped_table(content: bytes) -> bytes:
    """A Parquet table whose texts all move the cursor."""
    table = pq.read_table(io.BytesIO(content))
    columns = [
        pa.chunked_array([pa.array([ESCAPE] * len(column), column.type)])
        if pa.types.is_string(column.type)
        else column
        for column in table.columns
    ]
    return stored(pa.table(columns, schema=table.schema))


def huge_table(content: bytes) -> bytes:
    """A Parquet table whose numbers are all far beyond what they may be."""
    table = pq.read_table(io.BytesIO(content))

    def huge(column: pa.ChunkedArray) -> pa.ChunkedArray:
        kind = column.type
        if pa.types.is_list(kind) and pa.types.is_integer(kind.value_type):
            return pa.chunked_array([pa.array([[2**31 - 1]] * len(column), kind)])
        if pa.types.is_integer(kind):
            return pa.chunked_array([pa.array([2 ** (kind.bit_width - 1) - 1] * len(column), kind)])
        return column

    return stored(pa.table([huge(column) for column in table.columns], schema=table.schema))


def stored(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def believed(artefact: Path, file: Path) -> None:
    """Record the digest of a changed file, as a malicious person would."""
    digests = artefact / "digests.json"
    is_changed = file.is_file() and not file.is_symlink() and file.stat().st_size < 1 << 30
    if is_changed and digests.is_file() and file.parent == artefact and file != digests:
        document = json.loads(digests.read_bytes())
        document.pop("sha256")
        document["files"][file.name] = [hashlib.sha256(file.read_bytes()).hexdigest()]
        digests.write_bytes(seal(document))


Case = tuple[str, str, str, Tamper]
"""Kind of artefact, file in it, what is done to it in words, and the deed."""


def all_cases(artefacts: Path) -> Iterator[Case]:
    for kind in READERS:
        for file in sorted(p for p in (artefacts / kind).rglob("*") if p.is_file()):
            name = str(file.relative_to(artefacts / kind))
            for what, replace in REPLACEMENTS.items():
                yield kind, name, what, replacing(replace)
            if file.suffix == ".parquet":
                for edit in (escaped_table, huge_table):
                    yield kind, name, edit.__name__, editing(edit)
            if file.suffix == ".json":
                for place in leaves(json.loads(file.read_bytes())):
                    for what, change in CHANGES.items():
                        yield kind, name, f"{what} at {place}", changing(place, change)
        for folder in sorted(p for p in (artefacts / kind).rglob("*") if p.is_dir()):
            yield kind, str(folder.relative_to(artefacts / kind)), "moved", move_out
        yield kind, ".lock", "locked out", lambda file: file.symlink_to(file.parents[1] / "secret")


def replacing(replace: Tamper) -> Tamper:
    def act(file: Path) -> None:
        file.unlink()
        replace(file)

    return act


def editing(edit: Callable[[bytes], bytes]) -> Tamper:
    return lambda file: file.write_bytes(edit(file.read_bytes())) and None


def changing(place: tuple[Any, ...], change: Change) -> Tamper:
    return editing(lambda content: changed(content, place, change))


def move_out(folder: Path) -> None:
    """A folder that lies elsewhere, with a link in its place."""
    elsewhere = next(p for p in folder.parents if (p / "secret").exists()) / "outside/folder"
    shutil.move(folder, elsewhere)
    folder.symlink_to(elsewhere)


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def try_case(case: Case, artefacts: Path, folder: Path, run: Any, must_be_harmless: Any) -> None:
    kind, name, _, tamper = case
    shutil.copytree(artefacts, folder, symlinks=True)
    (folder / "secret").write_text("years of work")
    (folder / "outside").mkdir()
    (folder / "outside/precious.partial").write_text("years of work")
    tamper(folder / kind / name)
    believed(folder / kind, folder / kind / name)
    before = fingerprint(folder / "outside")
    for command in READERS[kind]:
        must_be_harmless(run(*(word.format(folder) for word in command)))
        assert fingerprint(folder / "outside") == before, command
        assert (folder / "secret").read_text() == "years of work", command
    shutil.rmtree(folder)


def test_what_has_been_tampered_with_does_no_harm(
    artefacts, run, must_be_harmless, tmp_path
) -> None:
    cases = list(all_cases(artefacts))
    chosen = random.Random(SEED).sample(cases, min(CASES, len(cases)))
    failures = []
    for number, case in enumerate(chosen):
        try:
            try_case(case, artefacts, tmp_path / str(number), run, must_be_harmless)
        except AssertionError as error:
            failures.append(f"{case[:3]}: {str(error)[-1500:]}")
            shutil.rmtree(tmp_path / str(number), ignore_errors=True)
    assert not failures, f"{len(failures)} of {len(chosen)}\n" + "\n\n".join(failures)
