"""The schedule of the learning rate."""

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

    It rises linearly over the warm-up and reaches its peak at the last step of it. Then it is
    constant (`constant`) or falls along half a cosine that would be zero one step after the last
    (`cosine`).

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
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
