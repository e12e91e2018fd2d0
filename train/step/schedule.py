"""The course of the learning rate over a run."""

import math
from typing import Literal


def learning_rate(
    step: int,
    *,
    steps: int,
    peak: float,
    warmup_steps: int,
    schedule: Literal["constant", "cosine"],
) -> float:
    """The learning rate of a step.

    It rises in a straight line over the warm-up, reaching its peak with the last step of it, and
    then stays there (`constant`) or falls along half a cosine that would be zero one step after
    the last (`cosine`).

    Args:
        step: Counted from 0.
        steps: All steps of the run: the real horizon, whole epochs included.
        peak: The largest learning rate.
        warmup_steps: Length of the warm-up.
        schedule: What follows the warm-up.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if schedule == "constant":
        return peak
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
