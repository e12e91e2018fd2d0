"""Processes that train together, as tests and benchmarks start, find and await them."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sparc.common.files.folder import Folder
from sparc.train.run.run_folder import saved_steps

LONGEST = 90.0
"""Seconds in which something has to happen."""


def start(arguments: Sequence[object], *, options: Sequence[object] = (), processes: int = 2):
    """Start `torchrun` with options of its own, and arguments of `sparc-train`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), *map(str, options), "-m", "sparc.train.cli"]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def worker(launcher: subprocess.Popen[str], rank: int) -> int | None:
    """The process of a rank, once it has begun; None if all ends before."""
    deadline = time.monotonic() + LONGEST
    while launcher.poll() is None:
        assert time.monotonic() < deadline, f"process {rank} has not begun"
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if parent != launcher.pid:
                    continue
                if f"RANK={rank}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    return int(folder.name)
            except (OSError, IndexError):
                continue  # it has ended meanwhile
        time.sleep(0.01)
    return None


def wait_for_step(launcher: subprocess.Popen[str], run: Path, step: int) -> None:
    """Wait until a run has saved that step, or ended."""
    deadline = time.monotonic() + LONGEST
    while launcher.poll() is None and max(saved_steps(Folder(run)), default=0) < step:
        assert time.monotonic() < deadline, f"step {step} was not saved"
        time.sleep(0.002)


def result(run: Path) -> tuple[bytes, bytes]:
    """What has to be equal, byte for byte: weights and figures."""
    return (run / "model.safetensors").read_bytes(), (run / "metrics.jsonl").read_bytes()
