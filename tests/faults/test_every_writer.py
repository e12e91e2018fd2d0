"""Every command that writes, killed at its operations on files, or failing at them, and run again.

Of a command's operations only a few are disturbed here; SPARC_FAULTS=100 spreads 100 faults of each
kind over every command, and SPARC_FAULTS=100000 disturbs every single operation.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from sparc.common.cache.arrays import write_arrays
from sparc.pipelines.demo.dataset import SceneSettings, write_scenes

FAULTS = int(os.environ.get("SPARC_FAULTS", "0"))

LABELS = ("--labels={0}/labels.csv", "--classes={0}/classes.csv", "--hierarchy={0}/hierarchy.json")
SMALL = ("--latents=24", "--k=4", "--auxk=4", "--batch-size=8", "--lr=0.01", "--device=cpu")
TRAIN = ("--steps=12", "--checkpoint-every=5", "--log-every=3")


KINDS = ("EIO", "ENOSPC", "EROFS")


class Case(NamedTuple):
    """A command that writes.

    Attributes:
        command: What is typed; {given} is the folder of what is there, {folder} the watched one.
        copied: What of {given} it adds to, and therefore gets a copy of.
        kills: At how many of its operations it is killed.
        failures: The kinds of failures of which it meets one.
    """

    command: tuple[str, ...]
    copied: tuple[str, ...] = ()
    kills: int = 1
    failures: tuple[str, ...] = ("ENOSPC",)


def extract(split: str, cache: str) -> tuple[str, ...]:
    scenes = "{given}/scenes"
    labels = (option.format(scenes) for option in LABELS)
    return (
        *("extract", "run", scenes, cache, "--format=coco", f"--split={split}", *labels),
        *("--masks", "--captions=first", "--rows-per-chunk=8", "--device=cpu"),
    )


CASES: Mapping[str, Case] = {
    "extract": Case(extract("test", "{folder}/cache"), kills=3, failures=KINDS),
    "train": Case(
        ("train", "run", "{given}/cache", "{folder}/run", *SMALL, *TRAIN), kills=4, failures=KINDS
    ),
    "sweep": Case(
        (
            *("train", "run", "{given}/cache", "{folder}/sweep", *SMALL, *TRAIN),
            "--sweep={given}/grid.toml",
        ),
        kills=2,
    ),
    "align": Case(
        ("train", "align", "{given}/narrow", "{given}/arrays", "{folder}/out", "--device=cpu"),
        kills=2,
    ),
    "match": Case(
        ("train", "match", "{given}/narrow", "{given}/arrays", "{folder}/out", "--device=cpu"),
    ),
    "join": Case(
        (
            *("train", "join", "{given}/one", "{given}/arrays", "{folder}/out", "--stream=other"),
            *("--steps=6", "--batch-size=20", "--device=cpu"),
        ),
    ),
    "save": Case(("train", "save", "{given}/narrow", "{folder}/out", "--stream=other")),
    "export": Case(("train", "export", "{given}/narrow", "{folder}/out"), kills=2),
    "import": Case(
        ("train", "import", "{given}/dictionaries/one", "{folder}/out", "--stream=one"), kills=2
    ),
    "analyze": Case(
        (
            *("analyze", "run", "{given}/run", "{given}/cache", "{folder}/report", "--device=cpu"),
            "--no-untrained",
        ),
        kills=2,
    ),
    "search": Case(
        (
            *("analyze", "search", "{folder}/report", "--row=3", "--in=vit"),
            *("--out={folder}/found/rows.parquet", "--sheet={folder}/found/sheet.png"),
        ),
        copied=("report",),
        kills=2,
    ),
    "browse": Case(("analyze", "browse", "{given}/report", "{folder}/site", "--no-map"), kills=2),
    "bias": Case(
        (
            *("analyze", "bias", "{given}/report", "--attribute=words:cat,cow,tiger,owl,apple"),
            "--out={folder}/bias",
        ),
    ),
    "name": Case(
        (
            *("analyze", "name", "{given}/report", "--words={given}/words.txt", "--trust-encoders"),
            "--out={folder}/names/words.parquet",
        ),
    ),
    "localize": Case(
        (
            *("analyze", "localize", "{given}/run", "{given}/scenes/images/test/test_000000.jpg"),
            "--trust-encoders",
            *("--latent=1", "--latent=2", "--arrays", "--out={folder}/maps", "--device=cpu"),
        ),
    ),
    "scores": Case(
        (
            *("analyze", "localize", "{given}/run", "--cache={given}/cache", "--max-images=2"),
            "--trust-encoders",
            *("--report={folder}/report", "--device=cpu"),
        ),
        copied=("report",),
    ),
}


@pytest.fixture(scope="module")
def given(tmp_path_factory, commands, tiny_streams) -> Path:
    """A dataset, its cache, a run and a report, each made by its command."""
    folder = tmp_path_factory.mktemp("given")
    write_scenes(folder / "scenes", SceneSettings(train=1, test=16))
    (folder / "grid.toml").write_text("k = [2, 4]\n")
    (folder / "words.txt").write_text("a cat\na cow\nan owl\n")
    rows = np.random.default_rng(0).standard_normal((40, 10)).astype(np.float32)
    write_arrays(folder / "arrays", {"one": rows[:, :6], "other": rows[:, 4:]})
    words = {"given": folder, "folder": folder}
    for each in (
        (*extract("test", "{given}/cache"), *tiny_streams),
        ("train", "run", "{given}/cache", "{given}/run", *SMALL, *TRAIN),
        ("train", "run", "{given}/arrays", "{given}/narrow", *SMALL, *TRAIN),
        ("train", "export", "{given}/narrow", "{given}/dictionaries"),
        ("train", "run", "{given}/arrays", "{given}/one", "--stream=one", *SMALL, *TRAIN),
        ("analyze", "run", "{given}/run", "{given}/cache", "{given}/report", "--device=cpu"),
    ):
        done = commands.run(*(word.format(**words) for word in each), watch=folder)
        assert done.status == 0, done.said
    return folder


class Disturbed:
    """A case, run from the beginning in a folder of its own."""

    def __init__(self, name: str, case: Case, given: Path, folder: Path, commands, streams):
        self._commands, self._given, self.folder = commands, given, folder
        words = case.command if name != "extract" else (*case.command, *streams)
        self._command = [word.format(given=given, folder=folder) for word in words]
        self._copied = case.copied

    def begin(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        for name in self._copied:
            shutil.copytree(self._given / name, self.folder / name)

    def run(self, fault=None):
        return self._commands.run(*self._command, watch=self.folder, fault=fault)


@pytest.fixture(scope="module")
def undisturbed(given, tmp_path_factory, commands, tiny_streams, contents) -> Callable:
    """A case's number of operations, and what lies in its folder in the end."""
    known: dict[str, tuple[int, dict[str, bytes]]] = {}

    def find(name: str) -> tuple[int, dict[str, bytes]]:
        if name not in known:
            # The same path every time: some files name it.
            folder = tmp_path_factory.mktemp(name) / "work"
            job = Disturbed(name, CASES[name], given, folder, commands, tiny_streams)
            job.begin()
            done = job.run()
            assert done.status == 0, done.said
            assert done.operations > 3
            known[name] = job, done.operations, contents(folder)
        return known[name]

    return find


def spread(operations: int, number: int) -> list[int]:
    """Some operations, the first and the last among them where there is more than one."""
    number = max(number, FAULTS)
    if number >= operations:
        return list(range(1, operations + 1))
    if number == 1:
        return [operations * 2 // 3]
    return [1 + (operations - 1) * step // (number - 1) for step in range(number)]


@pytest.mark.parametrize("name", CASES)
def test_killed_anywhere_and_run_again_it_ends_with_the_same_bytes(
    name, undisturbed, contents, make_fault
):
    job, operations, wanted = undisturbed(name)
    for at in spread(operations, CASES[name].kills):
        job.begin()
        done = job.run(make_fault("kill", at))
        # Threads race each other: a run may need an operation less than the one that was counted.
        assert done.status == -9 or (done.status == 0 and done.operations < at), done.said
        again = job.run()
        assert again.status == 0, f"killed at {at}: {again.said}"
        assert contents(job.folder) == wanted, f"killed at {at}"


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name, case in CASES.items() for kind in (KINDS if FAULTS else case.failures)],
)
def test_a_failing_disk_is_one_line_and_nothing_is_lost(
    name, kind, undisturbed, contents, make_fault
):
    job, operations, wanted = undisturbed(name)
    for at in spread(operations, 1):
        job.begin()
        done = job.run(make_fault(kind, at))
        where = f"{kind} at {at}: {done.said}"
        assert "Traceback" not in done.said, where
        assert done.status in (0, 2), where
        if done.status == 2:
            assert sum(line.startswith("error: ") for line in done.said.splitlines()) == 1, where
        else:
            assert contents(job.folder) == wanted, where
        again = job.run()
        assert again.status == 0, f"{where}, then {again.said}"
        assert contents(job.folder) == wanted, where
