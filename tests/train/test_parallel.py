"""How processes divide a step: what it costs as counted, and which way is chosen."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sparc.common.errors import ConfigError
from sparc.train import parallel
from sparc.train.config import ModelConfig, StreamShape, TrainConfig
from sparc.train.distributed.processes import Processes
from sparc.train.step.by_latents.limits import why_not_shared

COUNTER = Path(__file__).parents[1] / "benchmarks" / "bench_parallel.py"


def model(latents=8192, k=64, selection="global", dims=(768, 768, 768)):
    streams = tuple(StreamShape(f"s{i}", dim) for i, dim in enumerate(dims))
    return ModelConfig(streams=streams, latents=latents, k=k, selection=selection)


def test_two_processes_compute_and_receive_what_the_cost_model_says():
    """Counted in the processes, by PyTorch's counter and where they exchange; nothing is timed."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(COUNTER), "--worker"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(lines) == 6
    for line in lines:
        counted, predicted = line["counted"], line["predicted"]
        for exact in ("updates", "bytes"):
            assert counted[exact] == predicted[exact], line
        assert counted["exchanges"] <= predicted["exchanges"], line
        for nearly in ("flops", "memory"):
            assert counted[nearly] == pytest.approx(predicted[nearly], rel=0.03), line
    by = {(line["case"], line["division"]): line["counted"] for line in lines}
    for case in ("joint", "without cross", "local"):
        for half in ("updates", "memory"):
            assert by[case, "latents"][half] < 0.51 * by[case, "rows"][half]


@pytest.mark.parametrize("processes", [2, 4, 8, 64])
def test_by_latents_everything_that_is_computed_falls_with_the_processes(processes):
    settings = TrainConfig(recipe="joint")
    config = model(latents=8192)
    one = parallel.by_latents(config, settings, 256, 1)
    some = parallel.by_latents(config, settings, 256, processes)
    for name in ("flops", "updates", "memory"):
        assert getattr(some, name) == pytest.approx(getattr(one, name) / processes)
    assert one == parallel.by_rows(config, settings, 256, 1)._replace(exchanges=one.exchanges)
    rows = parallel.by_rows(config, settings, 256, processes)
    assert some.flops < rows.flops
    assert rows.bytes < some.bytes < 2 * rows.bytes


def test_the_way_that_costs_less_is_chosen():
    settings = TrainConfig(recipe="joint")
    group = Processes(rank=1, world=2)
    assert parallel.choose(model(), settings, 256, group) == "latents"
    assert parallel.choose(model(), settings, 256, Processes()) == "rows"
    tiny = model(latents=96, k=4, dims=(24, 16))
    assert parallel.choose(tiny, settings, 64, group) == "rows"
    forced = TrainConfig(recipe="joint", parallel="latents")
    assert parallel.choose(tiny, forced, 64, group) == "latents"
    assert parallel.choose(model(), TrainConfig(parallel="rows"), 256, group) == "rows"


@pytest.mark.parametrize(
    ("config", "options", "reason"),
    [
        (model(latents=8190), {}, "4 processes cannot share 8,190 latents evenly"),
        (model(latents=64), {"k": 64}, "own 16 latents, fewer than the 64 of a code"),
        (model(), {"terms": ("iso_energy=1",)}, "loss term iso_energy reads the logits of all"),
    ],
)
def test_what_cannot_be_shared_is_divided_by_rows_or_refused(config, options, reason):
    settings = TrainConfig(recipe="joint", **options)
    group = Processes(rank=0, world=4, device=torch.device("cpu"))
    assert reason in why_not_shared(config, settings, 4)
    assert parallel.choose(config, settings, 256, group) == "rows"
    forced = TrainConfig(recipe="joint", parallel="latents", **options)
    with pytest.raises(ConfigError, match='choose parallel="rows"') as refused:
        parallel.choose(config, forced, 256, group)
    assert reason in str(refused.value)
