"""The training loop with everything on against its bare step; run it by hand.

    python tests/benchmarks/bench_train.py [--steps 60] [--rounds 3] [--threads 2] [--check]

Makes a cache of 768 + 512 + 512 values a row, trains as `sparc-train run` does (reader, metrics,
logs, checkpoints), and reads rows/s from timings.jsonl, a figure every ten steps. Rounds of that
and of bare `Learner.step` on one batch are made in turn in one process. The best of each counts,
since a neighbour on the machine can only slow them down; the ratio of medians stands beside it.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from sparc.common.cache.arrays import write_arrays
from sparc.train.config import ModelConfig, StreamShape, TrainConfig
from sparc.train.job import run
from sparc.train.model.initialize import create_model
from sparc.train.step.learner import Learner

DIMS = {"dino": 768, "clip_image": 512, "clip_text": 512}
ROWS, LATENTS, K = 256, 8192, 64
STEPS_A_LINE = 10
AT_LEAST = 0.95


def make_cache(folder: Path, steps: int) -> None:
    draws = np.random.default_rng(0)
    rows = steps * ROWS
    features = {name: draws.standard_normal((rows, dim), np.float32) for name, dim in DIMS.items()}
    write_arrays(folder, features, dtype="float16")


def bare_rows_per_second(learner: Learner, batch: dict[str, torch.Tensor], steps: int) -> float:
    began = time.perf_counter()
    for _ in range(steps):
        learner.step(batch, 1e-4)
    return steps * ROWS / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    streams = tuple(StreamShape(name, dim) for name, dim in DIMS.items())
    model = create_model(ModelConfig(streams=streams, latents=LATENTS, k=K))
    learner = Learner(model, TrainConfig(recipe="joint"))
    draws = torch.Generator().manual_seed(0)
    batch = {name: torch.randn(ROWS, dim, generator=draws) for name, dim in DIMS.items()}
    settings = TrainConfig(
        recipe="joint",
        latents=LATENTS,
        k=K,
        batch_size=ROWS,
        epochs=1,
        log_every=STEPS_A_LINE,
        device="cpu",
    )
    bare, whole, waiting = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        make_cache(cache, arguments.steps)
        for turn in range(arguments.rounds):
            target = Path(folder) / f"run-{turn}"
            run(str(cache), target, settings)
            lines = [json.loads(each) for each in (target / "timings.jsonl").open()]
            whole += [line["rows_per_second"] for line in lines[1:]]
            waiting += [line["waiting"] for line in lines[1:]]
            bare += [
                bare_rows_per_second(learner, batch, STEPS_A_LINE)
                for _ in range(arguments.steps // STEPS_A_LINE)
            ]
    ratio = max(whole) / max(bare)
    median = float(np.median(whole) / np.median(bare))
    verdict = "met" if ratio >= AT_LEAST else "missed"
    print(f"bare step            {max(bare):8.0f} rows/s")
    print(f"everything on        {max(whole):8.0f} rows/s, waiting {np.median(waiting):.1%}")
    print(
        f"ratio                {ratio:8.2f}  at least {AT_LEAST}: {verdict} (medians {median:.2f})"
    )
    if arguments.check and verdict == "missed":
        sys.exit(1)


if __name__ == "__main__":
    main()
