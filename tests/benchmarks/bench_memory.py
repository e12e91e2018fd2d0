"""What training from a stream holds in memory, for a small and a large cache; run it by hand.

    python tests/benchmarks/bench_memory.py [--rows 20000 400000] [--steps 300] [--check]
        [-- --recipe joint --kernels numba]

Each cache (768 + 512 + 512 values a row) is trained on by `sparc-train run --residency stream` with
the options behind `--`. `over` is the peak resident memory of that process beyond that of one that
only builds the same learner (Python, PyTorch, weights and Adam's state) and beyond whole gradients,
which a trainer is granted though ours never holds them. It must stay small, and must not grow with
the rows. The caches lie in a temporary folder: 3.6 GB for a million rows, twice
that while it is made.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from sparc.common.cache.arrays import write_arrays

DIMS = {"dino": 768, "clip_image": 512, "clip_text": 512}
LATENTS, BLOCK = 8192, 4096
MOST_OVER = 300e6
MOST_GROWTH = 30e6

BUILD = """
from sparc.train import job, kernels
from sparc.train.data import reader
from sparc.train.config import ModelConfig, StreamShape
from sparc.train.step.learner import Learner
from sparc.train.config import TrainConfig
from sparc.train.model.initialize import create_model
dims = {dims}
streams = tuple(StreamShape(name, dim) for name, dim in dims.items())
model = create_model(ModelConfig(streams=streams, latents={latents}, k=64))
learner = Learner(model, TrainConfig(recipe="joint"))
for tensor in learner.state().values():
    tensor.fill_(1)
"""


def make_cache(folder: Path, rows: int) -> None:
    draws = np.random.default_rng(0)
    features = {}
    for name, dim in DIMS.items():
        block = draws.standard_normal((BLOCK, dim), np.float32).astype(np.float16)
        whole = np.memmap(folder / name, dtype=np.float16, mode="w+", shape=(rows, dim))
        for first in range(0, rows, BLOCK):
            whole[first : first + BLOCK] = block[: rows - first]
        whole.flush()
        features[name] = whole
    write_arrays(folder / "cache", features, dtype="float16")
    for name in DIMS:
        (folder / name).unlink()


def peak(command: list[str]) -> int:
    """The most resident memory of a process, in bytes."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: {' '.join(command)}")
    return usage.ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 400_000])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("options", nargs="*")
    arguments = parser.parse_args()
    base = peak([sys.executable, "-c", BUILD.format(dims=DIMS, latents=LATENTS)])
    base += 4 * 2 * LATENTS * sum(DIMS.values())
    print(f"learner, gradients   {base / 1e6:8.0f} MB")
    over = []
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            # In a process of its own: what is measured begins with the memory of this one.
            maker = multiprocessing.get_context("spawn").Process(
                target=make_cache, args=(folder, rows)
            )
            maker.start()
            maker.join()
            command = [sys.executable, "-m", "sparc.train.cli", "run", f"{folder / 'cache'}"]
            command += [f"{folder / 'run'}", "--residency", "stream", "--latents", str(LATENTS)]
            command += ["--k", "64", "--batch-size", "256", "--steps", str(arguments.steps)]
            over.append(peak([*command, "--device", "cpu", *arguments.options]) - base)
            stored = sum(each.stat().st_size for each in folder.rglob("c/*/*"))
        print(f"{rows:9d} rows       {over[-1] / 1e6:8.0f} MB over; cache {stored / 1e6:.0f} MB")
    small, flat = max(over) <= MOST_OVER, max(over) - over[0] <= MOST_GROWTH
    verdicts = ["met" if each else "missed" for each in (small, flat)]
    print(f"at most {MOST_OVER / 1e6:.0f} MB: {verdicts[0]}; the same for all: {verdicts[1]}")
    if arguments.check and not (small and flat):
        sys.exit(1)


if __name__ == "__main__":
    main()
