"""What changes from step to step: the learning rate, and how the streams of a batch select."""

import math
from typing import Literal

import torch

from sparc.train.model.codes import Mode
from sparc.train.model.initialize import generator

TAIL = 0.2
"""Share of the steps over which the learning rate falls with `tail`."""


def mode_of_step(step: int, *, own: Mode, independent: float, seed: int) -> Mode:
    """How the streams of a step's batch select: a coin that depends on the step's number alone.

    So a resumed run, every process and every implementation toss the same one.

    Args:
        step: Number of the step.
        own: The mode of the model; `independent` leaves no choice.
        independent: Share of the batches in which the streams select independently.
        seed: Seed of the coins.
    """
    if own == "independent" or independent == 0:
        return own
    toss = float(torch.rand((), generator=generator(seed, "mode", step), dtype=torch.float64))
    return "independent" if toss < independent else "joint"


def learning_rate(
    step: int,
    *,
    steps: int,
    peak: float,
    warmup_steps: int,
    schedule: Literal["constant", "cosine", "tail"],
) -> float:
    """The learning rate of a step.

    It rises linearly over the warm-up and reaches its peak at the last step of it. Then it is
    constant (`constant`), or falls along half a cosine that would be zero one step after the last
    (`cosine`), or stays until it falls linearly over the last fifth of the steps (`tail`).

    Args:
        step: Counted from 0.
        steps: All steps of the run.
        peak: The largest learning rate.
        warmup_steps: Length of the warm-up.
        schedule: What follows the warm-up.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if schedule == "constant":
        return peak
    if schedule == "tail":
        return peak * min(1.0, (steps - step) / (TAIL * steps))
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
