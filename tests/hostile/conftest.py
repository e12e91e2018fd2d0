"""Artefacts that somebody has tampered with, and the commands that read them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from sparc.common.cache_writer import write_arrays
from sparc.common.tables import CLASSES

SECONDS = 60
"""After which a command counts as hanging: they take one or two, on a machine that is not busy."""

MEMORY = 3 << 30
"""Bytes that a command may take, of which importing everything has taken one or two."""

ADDRESSES = 40 << 30
"""Bytes of address space that it may ask for: so that no test takes the machine down."""


FAST = ("--device=cpu", "--no-untrained", "--no-permuted")


class Done(NamedTuple):
    """A command that has ended."""

    command: tuple[str, ...]
    status: int
    shown: str
    said: str
    memory: int


Run = Callable[..., Done]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs a command, such as `("train", "inspect", folder)`, in bounded time and memory."""
    folder = tmp_path_factory.mktemp("server")
    server = subprocess.Popen(
        [sys.executable, Path(__file__).parents[1] / "faults/fork_server.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
    assert server.stdin is not None
    assert server.stdout is not None

    def carry_out(*words: object) -> Done:
        command = tuple(map(str, words))
        order = {
            "command": command,
            "environment": {},
            "directory": str(folder),
            "stdout": str(folder / "stdout"),
            "stderr": str(folder / "stderr"),
            "seconds": SECONDS,
            "memory": ADDRESSES,
        }
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        status, memory = map(int, server.stdout.readline().split())
        shown, said = (
            (folder / name).read_text(encoding="utf-8", errors="backslashreplace")
            for name in ("stdout", "stderr")
        )
        return Done(command, status, shown, said, memory << 10)

    yield carry_out
    server.communicate("")


@pytest.fixture(scope="session")
def must_be_harmless() -> Callable[[Done], None]:
    """Hold a command to have ended in good order, whatever it was given."""

    def check(done: Done) -> None:
        where = f"{' '.join(done.command)}\n{done.said[-3000:]}"
        assert done.status in (0, 2), f"status {done.status}: {where}"
        assert done.memory < MEMORY, f"{done.memory:,} bytes: {where}"
        assert "Traceback" not in done.said, where
        # A progress bar that is no terminal's begins its lines with a carriage return.
        raw = re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", done.shown + done.said.replace("\r", ""))
        assert raw is None, f"{raw!r}: {where}"

    return check


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory: pytest.TempPathFactory, run: Run) -> Path:
    """A folder with a small one of each kind: cache, run, begun, sweep, model, report."""
    folder = tmp_path_factory.mktemp("artefacts")
    generator = np.random.default_rng(0)
    base = generator.normal(size=(48, 12)).astype(np.float32)
    features = {name: base + generator.normal(size=base.shape) * 0.3 for name in ("image", "text")}
    classes = pa.table(
        {
            "class_id": range(4),
            "key": list("abcd"),
            "name": ["cat", "dog", "tree", "house"],
            "parent_id": [None, None, 0, 1],
            "depth": [1, 1, 2, 2],
        },
        schema=CLASSES,
    )
    _write_cache(folder / "cache", features, classes)
    small = ("--latents=16", "--k=4", "--auxk=2", "--batch-size=8", "--steps=6", "--device=cpu")
    small += ("--checkpoint-every=3", "--log-every=2", "--kernels=torch")
    (folder / "grid.toml").write_text("k = [2, 4]\n")
    for command in (
        ("train", "run", folder / "cache", folder / "run", *small),
        ("train", "run", folder / "cache", folder / "begun", *small),
        ("train", "run", folder / "cache", folder / "sweep", *small, f"--sweep={folder}/grid.toml"),
        ("analyze", "run", folder / "run", folder / "cache", folder / "report", *FAST),
        ("analyze", "search", folder / "report", "--row=1", "--in=image"),
    ):
        done = run(*command)
        assert done.status == 0, done.said
    (folder / "begun/model.safetensors").unlink()
    (folder / "model").mkdir()
    newest = max((folder / "run/checkpoints").iterdir())
    for name in ("config.json", "model.safetensors"):
        (folder / "model" / name).write_bytes((newest / name).read_bytes())
    return folder


def _write_cache(where: Path, features: dict[str, np.ndarray], classes: pa.Table) -> None:
    rows = len(features["image"])
    pictures = {name: np.repeat(x[::2], 2, axis=0) for name, x in features.items()}
    write_arrays(
        where,
        {"image": pictures["image"], "text": features["text"]},
        modality={"text": "text"},
        captions=[f"a {'cat' if row % 2 else 'dog'} on a mat" for row in range(rows)],
        sample_ids=[f"picture {row // 2}" for row in range(rows)],
        label_ids=[[row // 2 % 4] for row in range(rows)],
        classes=classes,
        rows_per_chunk=16,
    )
