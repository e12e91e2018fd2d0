"""How processes divide a step: by rows or by latents, whichever costs a process less.

The counts are those of train/PARALLEL.md, where they are derived and compared with what is counted.
"""

import os
from typing import Literal, NamedTuple

import torch

from sparc.train.config import ModelConfig, TrainConfig
from sparc.train.distributed.processes import Processes
from sparc.train.step.by_latents.limits import require_shareable, why_not_shared

Division = Literal["rows", "latents"]

_NUMBER, _INDEX, _SHORT_INDEX, _FLAG = 4, 8, 4, 1
"""Bytes of a number, of a latent's number in codes and in offers, and of a yes or no."""


class Cost(NamedTuple):
    """What a step costs one of several processes.

    Attributes:
        flops: Of products and sums; a multiplication and an addition are two.
        updates: Weights that Adam moves.
        bytes: Received from other processes.
        exchanges: How often all processes wait for one another.
        memory: Bytes of weights and moments.
    """

    flops: float
    updates: float
    bytes: float
    exchanges: int
    memory: float


class Speeds(NamedTuple):
    """What else costs as long as how many flops: orders of magnitude of usual machines.

    Attributes:
        update: Moving a weight by Adam, whose 28 bytes pass through memory.
        byte: Receiving a byte.
        exchange: Waiting for one another.
    """

    update: float
    byte: float
    exchange: float


CPUS = Speeds(update=140, byte=50, exchange=1e7)
"""50 GFLOP/s, 10 GB/s of memory, 1 GB/s and 0.2 ms between processes."""
GPUS = Speeds(update=480, byte=170, exchange=1.5e9)
"""50 TFLOP/s, 3 TB/s of memory, 300 GB/s and 30 us between the GPUs of a machine."""
GPUS_OF_MACHINES = GPUS._replace(byte=2000)
"""25 GB/s a GPU between machines."""


def by_rows(model: ModelConfig, settings: TrainConfig, rows: int, processes: int) -> Cost:
    """The cost where every process has all weights and a part of the rows.

    Args:
        model: The model.
        settings: How it learns.
        rows: Rows of the batch, of all processes.
        processes: How many they are.
    """
    streams, dims, sources, width = _shape(model, settings)
    latents, own_rows = model.latents, rows / processes
    flops: float = 2 * own_rows * latents * dims  # logits
    flops += 4 * own_rows * sources * width * dims  # decoding, derivatives by the values
    flops += 2 * rows * (sources + 1) * width * dims  # gradients of decoders and encoders
    flops += 2 * latents * dims  # gradient of the pre-biases
    of_row: float = width * (_sets(model) * _INDEX + (2 + sources) * streams * _NUMBER)
    of_row += (1 + sources) * dims * _NUMBER  # what encoders read, and residuals
    return Cost(
        flops=flops,
        updates=2 * latents * dims,
        bytes=(processes - 1) / processes * rows * of_row,
        exchanges=3 + 3 * streams,
        memory=3 * 2 * latents * dims * _NUMBER,
    )


def by_latents(model: ModelConfig, settings: TrainConfig, rows: int, processes: int) -> Cost:
    """The cost where every process has a part of the latents; arguments as of `by_rows`."""
    streams, dims, sources, width = _shape(model, settings)
    own = model.latents / processes
    flops = 2 * rows * own * dims
    flops += (4 * sources + 2 * (sources + 1)) * rows * width / processes * dims
    flops += 2 * own * dims
    # What is offered, and whether it is taken.
    of_row: float = width * (_sets(model) * (_SHORT_INDEX + _FLAG) + streams * _NUMBER)
    of_row += (1 + 2 * sources) * dims * _NUMBER  # what encoders read, parts of sums, residuals
    of_row += _compared(model, rows / processes) * streams * width * (_SHORT_INDEX + _NUMBER)
    others = (own * streams + dims) * _NUMBER  # latent biases, gradient of the pre-biases
    return Cost(
        flops=flops,
        updates=2 * own * dims,
        bytes=(processes - 1) / processes * rows * of_row + (processes - 1) * others,
        exchanges=6 + 4 * streams,
        memory=3 * 2 * own * dims * _NUMBER,
    )


def choose(model: ModelConfig, settings: TrainConfig, rows: int, group: Processes) -> Division:
    """How the processes divide a step, as `--parallel` says.

    Args:
        model: The model.
        settings: How it learns.
        rows: Rows of the batch, of all processes.
        group: The processes.

    Raises:
        ConfigError: They cannot divide it as they should.
    """
    if group.world == 1 or settings.parallel == "rows":
        return "rows"
    if settings.parallel == "latents":
        require_shareable(model, settings, group.world)
        return "latents"
    if why_not_shared(model, settings, group.world) is not None:
        return "rows"
    speeds = _speeds(group.device)
    costs = [count(model, settings, rows, group.world) for count in (by_rows, by_latents)]
    of_rows, of_latents = (weighed(cost, speeds) for cost in costs)
    return "latents" if of_latents < of_rows else "rows"


def weighed(cost: Cost, speeds: Speeds) -> float:
    """A cost in flops that would take as long."""
    return (
        cost.flops
        + cost.updates * speeds.update
        + cost.bytes * speeds.byte
        + cost.exchanges * speeds.exchange
    )


def _speeds(device: torch.device) -> Speeds:
    if device.type != "cuda":
        return CPUS
    one_machine = os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE")
    return GPUS if one_machine else GPUS_OF_MACHINES


def _shape(model: ModelConfig, settings: TrainConfig) -> tuple[int, int, int, int]:
    """Streams, the sum of their widths, sources that a target decodes, columns of a code."""
    streams = len(model.streams)
    dims = sum(stream.dim for stream in model.streams)
    return streams, dims, streams if settings.cross_weight > 0 else 1, model.width


def _sets(model: ModelConfig) -> int:
    """Sets of latents that a row selects."""
    return len(model.streams) if model.selection == "local" else 1


def _compared(model: ModelConfig, own_rows: float) -> float:
    """Share of the rows whose own latents are offered for the figure `chosen_alone` alone."""
    if len(model.streams) == 1 or model.selection == "local":
        return 0
    return max(1, own_rows // 32) / own_rows
