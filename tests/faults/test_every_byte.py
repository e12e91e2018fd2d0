"""Single flipped bits in every kind of file: each is noticed, or changes nothing that is read.

Here a seeded few are flipped; SPARC_FLIPS=2000 flips that many, and says what became of them.
"""

import os
import random
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

from sparc.common.cache import ActivationCache
from sparc.common.config import to_mapping
from sparc.common.errors import SparcError
from sparc.pipelines.demo.dataset import SceneSettings, write_scenes

FLIPS = int(os.environ.get("SPARC_FLIPS", "120"))

LABELS = ("--labels={0}/labels.csv", "--classes={0}/classes.csv", "--hierarchy={0}/hierarchy.json")
TRAIN = (
    *("--latents=24", "--k=4", "--auxk=4", "--batch-size=8", "--lr=0.01", "--device=cpu"),
    *("--steps=12", "--checkpoint-every=5", "--log-every=3"),
)


@pytest.fixture(scope="module")
def given(tmp_path_factory, call, tiny_streams) -> Path:
    """A cache, a run, a sweep and a report with an index, each made by its command."""
    folder = tmp_path_factory.mktemp("flips")
    scenes = folder / "scenes"
    write_scenes(scenes, SceneSettings(train=1, test=20))
    (folder / "grid.toml").write_text("k = [2, 4]\n")
    cache, run, report = (folder / name for name in ("cache", "run", "report"))
    labels = (option.format(scenes) for option in LABELS)
    for command in (
        (
            *("extract", "run", scenes, cache, "--format=coco", "--split=test", *labels, "--masks"),
            *("--captions=first", "--rows-per-chunk=8", "--device=cpu", *tiny_streams),
        ),
        ("train", "run", cache, run, *TRAIN, f"--validation={cache}"),
        ("train", "run", cache, folder / "sweep", *TRAIN, f"--sweep={folder}/grid.toml"),
        ("analyze", "run", run, cache, report, "--device=cpu"),
        ("analyze", "search", report, "--row=3", "--in=vit"),
    ):
        done = call(*command)
        assert done.returncode == 0, done.stderr
    return folder


# ------------------------------------------------------------------ what is read of each folder


def read_cache(folder: Path, call) -> Iterator[Callable[[], Any]]:
    """`verify` comes first: what it lists has been noticed, whatever else is read."""
    yield lambda: shown(call("extract", "verify", folder))
    yield lambda: shown(call("extract", "inspect", folder))
    cache = ActivationCache(folder)
    yield lambda: (cache.info, dict(cache.streams))
    for table in ("rows", "classes", "rejects", "masks"):
        yield lambda table=table: getattr(cache, table)()
    for stream in cache.stream_names:
        for chunk in range(cache.info.chunks):
            yield lambda s=stream, c=chunk: cache.features(s, c).tobytes()
            yield lambda s=stream, c=chunk: cache.valid(s, c).tobytes()


def read_run(folder: Path, call) -> Iterator[Callable[[], Any]]:
    from sparc.train import checkpoint, log, run_folder

    yield lambda: shown(call("train", "inspect", folder))
    yield lambda: run_folder.RunRecord.read(folder)
    for name in (run_folder.METRICS_FILE, run_folder.TIMINGS_FILE):
        yield lambda name=name: log.read_lines(folder, name)
    model = run_folder.load_model
    yield lambda: model(folder).state_dict()
    yield lambda: run_folder.load_untrained(folder).state_dict()

    def checkpoints() -> Any:
        found = []
        for step in checkpoint.good_steps(folder):
            there = model(folder)
            state = checkpoint.load_checkpoint(folder, step, there)
            parts = there.state_dict(), state.learner, state.window
            found.append((step, state.position, state.logged, *parts))
        if len(found) < len(checkpoint.saved_steps(folder)):
            raise NoticedError("a damaged checkpoint is named and not used")
        return found

    yield checkpoints


def read_sweep(folder: Path, call) -> Iterator[Callable[[], Any]]:
    from sparc.train import sweep

    yield lambda: shown(call("train", "inspect", folder))
    yield lambda: sweep.read_index(folder)
    yield lambda: sweep.read_failures(folder)
    for run in sorted(path.parent for path in folder.glob("*/config.json")):
        yield from read_run(run, call)


def read_report(folder: Path, call) -> Iterator[Callable[[], Any]]:
    from sparc.analyze import Report
    from sparc.analyze.codes import CodeSet

    yield lambda: shown(call("analyze", "compare", folder))
    yield lambda: to_mapping(Report(folder).info)
    yield lambda: Report(folder).summary
    for table in Report(folder).tables:
        yield lambda table=table: Report(folder).table(table)
    codes = Report(folder).codes
    yield lambda: codes.valid.tobytes()
    for path in sorted((folder / "codes.zarr").glob("*/*/zarr.json")):
        control, mode = path.parts[-3:-1]
        code_set = CodeSet(mode, "none" if control == "trained" else control)
        for chunk in range(codes.layout.chunks):
            yield lambda code_set=code_set, chunk=chunk: codes.read(code_set, chunk)


def read_index(folder: Path, call) -> Iterator[Callable[[], Any]]:
    from sparc.analyze import Report, Searcher

    yield lambda: shown(call("analyze", "search", folder, "--row=3", "--in=vit"))
    report = Report(folder)
    searcher = Searcher(report, "vit")
    for row in range(report.info.rows):
        yield lambda row=row: searcher.find(searcher.row_code(row, "text"), results=30)


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


@contextmanager
def flipped(file: Path, bit: int) -> Iterator[None]:
    """A file with one bit the other way."""
    content = file.read_bytes()
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    try:
        file.write_bytes(damaged)
        yield
    finally:
        file.write_bytes(content)


def choose(generator: random.Random, folder: Path, part: Part) -> tuple[Path, int]:
    """A file of a part, and a bit of it: half of them near its beginning or its end."""
    files = [
        path
        for path in sorted(folder.glob(part.files))
        if path.is_file()
        and path.stat().st_size
        and (not part.without or part.without not in path.parts)
    ]
    file = generator.choice(files)
    size = file.stat().st_size
    byte = generator.randrange(size)
    if generator.random() < 0.5:
        near = min(size, 200)
        byte = generator.choice([generator.randrange(near), size - 1 - generator.randrange(near)])
    return file, 8 * byte + generator.randrange(8)


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.timeout(24 * 3600 if FLIPS > 1000 else 300)
def test_a_flipped_bit_is_noticed_or_changes_nothing(name, given, call, capsys):
    part = PARTS[name]
    folder = given / part.folder
    undisturbed = observe(part, folder, call)
    assert not [*undisturbed.errors, *undisturbed.tracebacks]
    assert observe(part, folder, call) == undisturbed  # or else nothing could be told from it
    generator = random.Random(f"{name} {FLIPS}")
    kinds: Counter[str] = Counter()
    bad = []
    for _ in range(FLIPS // len(PARTS)):
        file, bit = choose(generator, folder, part)
        with flipped(file, bit):
            seen = observe(part, folder, call)
        kind = kind_of(seen, undisturbed)
        kinds[kind] += 1
        if kind in ("traceback", "missed"):
            what = seen.tracebacks[0].splitlines()[-1] if seen.tracebacks else ""
            bad.append(f"{kind}: bit {bit} of {file.relative_to(given)} {what}")
        assert not list(folder.rglob("*.partial"))
    if FLIPS > 1000:
        with capsys.disabled():
            sys.stdout.write(f"\n{name}: {dict(kinds)}\n")
    assert not bad, "\n".join(bad)
    assert kinds["noticed"] > kinds["harmless"]
