"""What a step costs a process, counted, beside what `sparc.train.parallel` says: no timings.

    .venv/bin/python tests/benchmarks/bench_parallel.py [--processes 2 4]

For each number of processes (gloo, one thread each) it makes a step by rows and one by latents, and
prints for the process with the most: operations of products and sums (PyTorch's counter, with
formulas for `embedding_bag`), weights that Adam moves, bytes received, exchanges, and bytes of
weights and moments; behind each the prediction, and counted / predicted.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from sparc.train import parallel
from sparc.train.config import ModelConfig, StreamShape, TrainConfig
from sparc.train.distributed import processes as distributed
from sparc.train.model.initialize import initial_model
from sparc.train.step.by_latents.learner import SharedLearner
from sparc.train.step.learner import Learner
from sparc.train.step.noise import Share

ROWS = 256
STREAMS = tuple(StreamShape(f"s{i}", dim) for i, dim in enumerate((96, 64, 48)))
CASES = {
    "joint": ({}, {}),
    "without cross": ({}, {"cross_weight": 0.0}),
    "local": ({"selection": "local"}, {}),
}


class Counts:
    """Counts what the process computes and receives within the context."""

    def __init__(self) -> None:
        self.updates = self.bytes = self.exchanges = 0

    def __enter__(self) -> "Counts":
        aten = torch.ops.aten
        formulas = {
            aten._embedding_bag: _bag,
            aten._embedding_bag_forward_only: _bag,
            aten._embedding_bag_per_sample_weights_backward: _bag_weights,
            aten.mv: lambda matrix, *_, **__: 2 * matrix[0] * matrix[1],
            aten._fused_adam_: self._adam,
        }
        self._counter = FlopCounterMode(display=False, custom_mapping=formulas)
        self._before = distributed.all_gather, torch.distributed.all_to_all_single
        distributed.all_gather = self._receiving(self._before[0])
        torch.distributed.all_to_all_single = self._receiving(self._before[1])
        self._counter.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._counter.__exit__(*error)
        distributed.all_gather, torch.distributed.all_to_all_single = self._before

    @property
    def flops(self) -> int:
        return self._counter.get_total_flops()

    def _adam(self, parameters, *_, **__):
        shapes = [shape for shape in parameters if len(shape) == 2]
        self.updates += sum(rows * columns for rows, columns in shapes)
        return 0

    def _receiving(self, function):
        def receive(into, *arguments, **options):
            world = torch.distributed.get_world_size()
            self.bytes += into.nbytes * (world - 1) // world
            self.exchanges += 1
            return function(into, *arguments, **options)

        return receive


def _bag(weight, indices, *_, **__):
    return 2 * indices[0] * weight[1]


def _bag_weights(gradient, weight, indices, *_, **__):
    return 2 * indices[0] * gradient[1]


def count(group, case, division):
    """The third step of a learner in this process: by then all counters are known."""
    shape, options = CASES[case]
    config = ModelConfig(streams=STREAMS, **{"latents": 4096, "k": 32, **shape})
    settings = TrainConfig(recipe="joint", kernels="torch", aux_weight=0.0, **options)
    model = initial_model(config, seed=0, means=None)
    share = Share(group.rank, group.world)
    if division == "latents":
        learner = SharedLearner(model, settings, peers=group)
    else:
        learner = Learner(model, settings, gather=group.gather, share=share)
    draws = torch.Generator().manual_seed(group.rank)
    for _ in range(3):
        batch = {
            stream.name: torch.randn(ROWS // group.world, stream.dim, generator=draws)
            for stream in STREAMS
        }
        with Counts() as counts:
            learner.step(batch, 1e-3)
    adam = learner._optimizer.adam.moments
    memory = sum(p.nbytes for p in learner.model.parameters())
    memory += sum(m.first.nbytes + m.second.nbytes for m in adam.values())
    mine = [counts.flops, counts.updates, counts.bytes, counts.exchanges, memory]
    most = group.gather(torch.tensor([mine], dtype=torch.float64)).amax(0).tolist()
    predicted = getattr(parallel, f"by_{division}")(config, settings, ROWS, group.world)
    return most, list(predicted)


def worker() -> None:
    torch.set_num_threads(1)
    with distributed.processes() as group:
        for case in CASES:
            for division in ("rows", "latents"):
                counted, predicted = count(group, case, division)
                if group.is_first:
                    figures = dict(zip(parallel.Cost._fields, counted, strict=True))
                    print(
                        json.dumps(
                            {
                                "processes": group.world,
                                "case": case,
                                "division": division,
                                "counted": figures,
                                "predicted": dict(
                                    zip(parallel.Cost._fields, predicted, strict=True)
                                ),
                            }
                        )
                    )


def measure(processes: int) -> list[dict]:
    """The counts of a number of processes, as `worker` prints them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), str(Path(__file__)), "--worker"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--worker", action="store_true")
    arguments = parser.parse_args()
    if arguments.worker:
        worker()
        return
    fields = parallel.Cost._fields
    print(f"{'N':>2} {'case':14} {'by':8}" + "".join(f"{field:>30}" for field in fields))
    for processes in arguments.processes:
        for line in measure(processes):
            cells = []
            for field in fields:
                counted, predicted = line["counted"][field], line["predicted"][field]
                cells.append(f"{counted:14,.0f}/{predicted:<10,.0f} {counted / predicted:4.2f}")
            print(f"{processes:2} {line['case']:14} {line['division']:8}" + " ".join(cells))


if __name__ == "__main__":
    main()
