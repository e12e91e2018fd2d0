"""Single changed bytes in every kind of file: each is noticed, or changes nothing that is read.

Half of them have one bit flipped, half any other value. Here a seeded few are changed;
SPARC_FLIPS=2000 changes that many, and says what became of them; SPARC_SEED chooses other ones.
"""

import os
import random
import shutil
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import torch

from sparc.common.cache.reader import ActivationCache
from sparc.common.config import to_mapping
from sparc.common.errors import SparcError
from sparc.common.files.folder import Folder

FLIPS = int(os.environ.get("SPARC_FLIPS", "120"))
SEED = int(os.environ.get("SPARC_SEED", "0"))
RERUNS = max(3, FLIPS // 20)
"""Damaged reports that are made whole again."""


@pytest.fixture(scope="module")
def given(tmp_path_factory, artefacts) -> Path:
    """One of each kind of artefact, to be damaged."""
    return shutil.copytree(artefacts, tmp_path_factory.mktemp("flips") / "given")


# ------------------------------------------------------------------ what is read of each folder


def read_cache(folder: Path, call) -> Iterator[Callable[[], Any]]:
    """`verify` comes first: what it lists has been noticed, whatever else is read."""
    yield lambda: shown(call("extract", "verify", folder))
    yield lambda: shown(call("extract", "inspect", folder))
    cache = ActivationCache(folder)
    yield lambda: (cache.info, dict(cache.streams))
    for table in ("rows", "classes", "rejects", "masks"):
        yield lambda table=table: getattr(cache, table)()
    yield lambda: cache.thumbnails.encoded(range(cache.info.rows))
    for stream in cache.stream_names:
        for chunk in range(cache.info.chunks):
            yield lambda s=stream, c=chunk: cache.features(s, c).tobytes()
            yield lambda s=stream, c=chunk: cache.valid(s, c).tobytes()


def read_run(folder: Path, call) -> Iterator[Callable[[], Any]]:
    from sparc.train import loading
    from sparc.train.run import checkpoint, log, run_folder

    run = Folder(folder)
    yield lambda: shown(call("train", "inspect", folder))
    yield lambda: run_folder.RunRecord.read(run)
    for name in (run_folder.METRICS_FILE, run_folder.TIMINGS_FILE):
        yield lambda name=name: log.read_lines(run, name)
    model = loading.load_model
    yield lambda: model(folder).state_dict()
    yield lambda: loading.load_untrained(folder).state_dict()

    def checkpoints() -> Any:
        found = []
        for step in checkpoint.good_steps(run, run_folder.RunRecord.read(run).model):
            there = model(folder)
            state = checkpoint.load_checkpoint(run, step, there)
            parts = there.state_dict(), dict(state.learner.tensors), state.window
            found.append((step, state.position, state.logged, *parts))
        if len(found) < len(run_folder.saved_steps(run)):
            raise NoticedError("a damaged checkpoint is named and not used")
        return found

    yield checkpoints


def read_sweep(folder: Path, call) -> Iterator[Callable[[], Any]]:
    from sparc.train.run import sweep

    yield lambda: shown(call("train", "inspect", folder))
    yield lambda: sweep.read_index(Folder(folder))
    yield lambda: sweep.read_failures(Folder(folder))
    for run in sorted(path.parent for path in folder.glob("*/config.json")):
        yield from read_run(run, call)


def read_report(folder: Path, call) -> Iterator[Callable[[], Any]]:
    from sparc.analyze import Report
    from sparc.analyze.codes.code_sets import CodeSet

    yield lambda: shown(call("analyze", "compare", folder))
    yield lambda: to_mapping(Report(folder).info)
    yield lambda: Report(folder).summary
    for table in Report(folder).tables:
        yield lambda table=table: Report(folder).table(table)
    codes = Report(folder).codes
    yield lambda: codes.valid.tobytes()
    for path in sorted((folder / "codes.zarr").glob("*/*/zarr.json")):
        control, mode = path.parts[-3:-1]
        code_set = CodeSet(mode, control)
        for chunk in range(codes.layout.chunks):
            yield lambda code_set=code_set, chunk=chunk: codes.read(code_set, chunk)


def read_index(folder: Path, call) -> Iterator[Callable[[], Any]]:
    from sparc.analyze import Report, Searcher

    yield lambda: shown(call("analyze", "search", folder, "--row=1", "--in=image"))
    report = Report(folder)
    searcher = Searcher(report, "image")
    rows = np.flatnonzero(report.codes.valid).tolist()
    for row in rows:
        yield lambda row=row: searcher.find(searcher.row_code(row, "text"), results=len(rows))


class Part(NamedTuple):
    """A folder with files to flip.

    Attributes:
        folder: Below `given`.
        read: Yields what reads it.
        files: Which files are flipped, as glob patterns.
        without: A folder of it that is left out.
    """

    folder: str
    read: Callable[..., Iterator[Callable[[], Any]]]
    files: str = "**/*"
    without: str = ""


PARTS = {
    "cache": Part("cache", read_cache),
    "compressed": Part("compressed", read_cache),
    "run": Part("run", read_run),
    "sweep": Part("sweep", read_sweep),
    "report": Part("report", read_report, without="index"),
    "index": Part("report", read_index, files="index/**/*"),
}


# ------------------------------------------------------------------ what becomes of a flip


class Seen(NamedTuple):
    """What reading a folder gave: values in order, or the errors instead of them."""

    values: list[bytes]
    errors: list[str]
    tracebacks: list[str]


class NoticedError(SparcError):
    """Damage that something said in another way than by an error."""


def shown(done) -> tuple[int, str]:
    """What a command printed; it ends with status 2 where it noticed damage."""
    assert done.returncode in (0, 1, 2), done.stderr
    if done.returncode or "damaged" in done.stderr:
        raise NoticedError(done.stderr + done.stdout)
    return done.returncode, done.stdout


def observe(part: Part, folder: Path, call) -> Seen:
    """Read a folder with all that reads it."""
    seen = Seen([], [], [])
    steps = part.read(folder, call)
    while True:
        try:
            step = next(steps)
            seen.values.append(plain(step()))
        except StopIteration:
            return seen
        except SparcError as error:
            seen.errors.append(str(error))
            if not isinstance(error, NoticedError) and len(str(error).splitlines()) > 1:
                seen.tracebacks.append(f"more than one line: {error!r}")
        except Exception:
            seen.tracebacks.append(traceback.format_exc())


def plain(value: Any) -> bytes:
    """A value as bytes that are equal for equal values."""
    if isinstance(value, pa.Table):
        # Of the metadata of a schema only what a report says of itself is read.
        metadata = {k: v for k, v in (value.schema.metadata or {}).items() if k == b"sparc"}
        fields = [field.remove_metadata() for field in value.schema]
        value = value.cast(pa.schema(fields, metadata=metadata))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.schema) as writer:
            writer.write_table(value.combine_chunks())
        return sink.getvalue().to_pybytes()
    if isinstance(value, Mapping):
        return b"".join(plain(pair) for pair in sorted(value.items()))
    if isinstance(value, tuple | list):
        return b"(" + b",".join(map(plain, value)) + b")"
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    return value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()


def kind_of(seen: Seen, undisturbed: Seen) -> str:
    if seen.tracebacks:
        return "traceback"
    if seen.errors:
        return "noticed"
    return "harmless" if seen.values == undisturbed.values else "missed"


class Change(NamedTuple):
    """A byte of a file, and the value that it gets."""

    file: Path
    place: int
    value: int


@contextmanager
def made(change: Change) -> Iterator[None]:
    """A file with one byte changed."""
    content = change.file.read_bytes()
    damaged = bytearray(content)
    damaged[change.place] = change.value
    try:
        change.file.write_bytes(damaged)
        yield
    finally:
        change.file.write_bytes(content)


def choose(generator: random.Random, folder: Path, part: Part) -> Change:
    """A byte of a file of a part, half the time one near its beginning or its end."""
    files = [
        path
        for path in sorted(folder.glob(part.files))
        if path.is_file()
        and path.stat().st_size
        and (not part.without or part.without not in path.parts)
    ]
    file = generator.choice(files)
    content = file.read_bytes()
    place = generator.randrange(len(content))
    if generator.random() < 0.5:
        near = generator.randrange(min(len(content), 200))
        place = generator.choice([near, len(content) - 1 - near])
    changes = generator.choice([1 << generator.randrange(8), generator.randrange(1, 256)])
    return Change(file, place, content[place] ^ changes)


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.timeout(24 * 3600 if FLIPS > 1000 else 300)
def test_a_changed_byte_is_noticed_or_changes_nothing(name, given, call, capsys):
    part = PARTS[name]
    folder = given / part.folder
    undisturbed = observe(part, folder, call)
    assert not [*undisturbed.errors, *undisturbed.tracebacks]
    assert observe(part, folder, call) == undisturbed  # or else nothing could be told from it
    generator = random.Random(f"{name} {SEED}")
    kinds: Counter[str] = Counter()
    bad = []
    for _ in range(FLIPS // len(PARTS)):
        change = choose(generator, folder, part)
        with made(change):
            seen = observe(part, folder, call)
        kind = kind_of(seen, undisturbed)
        kinds[kind] += 1
        if kind in ("traceback", "missed"):
            what = seen.tracebacks[0].splitlines()[-1] if seen.tracebacks else ""
            bad.append(f"{kind}: {change} {what}")
        assert not list(folder.rglob("*.partial"))
    say_kinds(name, kinds, capsys)
    assert not bad, "\n".join(bad)
    assert kinds["noticed"] > kinds["harmless"]


@pytest.mark.timeout(24 * 3600 if FLIPS > 1000 else 300)
def test_the_same_analysis_makes_exactly_what_is_damaged_again(
    artefacts, call, tmp_path, capsys
) -> None:
    report = shutil.copytree(artefacts / "report", tmp_path / "report")
    original = states(report)
    again = ("run", artefacts / "run", artefacts / "cache", report)
    again += ("--device=cpu", "--no-untrained", "--no-permuted")
    generator = random.Random(f"again {SEED}")
    kinds: Counter[str] = Counter()
    for _ in range(RERUNS):
        change = choose(generator, report, PARTS["report"])
        content = change.file.read_bytes()
        with made(change):
            damaged = states(report)
            done = call("analyze", *again)
            found = states(report)
            is_read = change.file.read_bytes() == content
        assert done.returncode == 0, f"{change}: {done.stderr}"
        name = str(change.file.relative_to(report))
        touched = {n for n in found if found[n] != damaged.get(n)}
        unit = {name, "digests.json", "summary.json"}
        if name.endswith("zarr.json"):  # codes are nothing without what says what they are
            unit |= {n for n in found if n.startswith("codes.zarr/")}
        elif name.startswith("codes.zarr/"):  # a chunk of rows is encoded for all that is stored
            unit |= {n for n in found if n.endswith(f"/c/{change.file.parts[-2]}/0")}
        assert touched <= unit, f"{change}: {touched}"
        others = {n: state.content for n, state in found.items() if n != name}
        assert others == {n: s.content for n, s in original.items() if n != name}, change
        kinds["made again" if is_read else "left: nothing reads it"] += 1
    say_kinds("analysed again", kinds, capsys)


class State(NamedTuple):
    """A file: what it holds, and when it was written."""

    content: bytes
    written: int


def states(folder: Path) -> dict[str, State]:
    """Those of all files but of locks."""
    return {
        str(path.relative_to(folder)): State(path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def say_kinds(name: str, kinds: Mapping[str, int], capsys) -> None:
    """What became of the changes, where they are many."""
    if FLIPS > 1000:
        with capsys.disabled():
            sys.stdout.write(f"\n{name}: {dict(kinds)}\n")
