"""Adam, a parameter or some of its rows at a time: a large gradient never has to exist as a whole.

Must not know what the parameters mean.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class AdamStep(NamedTuple):
    """What a step of Adam is about, besides the tensors that it moves.

    Attributes:
        number: How many steps there are with this one.
        steps: The same as a float32 scalar on the device.
        lr: Learning rate.
    """

    number: int
    steps: Tensor
    lr: float

    @property
    def rate(self) -> float:
        """What the mean of gradients is multiplied by: lr, corrected for the mean's beginning."""
        return self.lr / (1 - BETA1**self.number)

    @property
    def spread(self) -> float:
        """What the root of the mean of squares is divided by, for the same reason."""
        return math.sqrt(1 - BETA2**self.number)


class Moments(NamedTuple):
    """Adam's running means for a parameter, of its shape.

    Attributes:
        first: Of gradients.
        second: Of their squares.
    """

    first: Tensor
    second: Tensor


class Adam:
    """The state of Adam (Kingma & Ba 2015, algorithm 1) for all parameters of a model.

    Args:
        parameters: By name.

    Attributes:
        moments: By name of parameter.
        number: Steps taken.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self.moments = {
            name: Moments(torch.zeros_like(each), torch.zeros_like(each))
            for name, each in parameters.items()
        }
        device = next(iter(parameters.values())).device
        self.number = 0
        self._steps = torch.zeros((), device=device)

    def begin_step(self, lr: float) -> AdamStep:
        """Count a step; then move every row of every parameter once.

        Args:
            lr: Learning rate.
        """
        self.restore(self.number + 1)
        return AdamStep(self.number, self._steps, lr)

    def restore(self, number: int) -> None:
        """Go on after so many steps."""
        self.number = number
        self._steps.fill_(number)


def move(parameter: Tensor, gradient: Tensor, moments: Moments, step: AdamStep) -> None:
    """Move a parameter, in place, in one pass over it, its gradient and its moments.

    Args:
        parameter: What to move.
        gradient: Of its shape.
        moments: Of its shape.
        step: The step.
    """
    # The kernel of torch.optim.Adam(fused=True).
    torch._fused_adam_(
        [parameter.detach()],
        [gradient],
        [moments.first],
        [moments.second],
        [],
        [step.steps],
        lr=step.lr,
        beta1=BETA1,
        beta2=BETA2,
        weight_decay=0.0,
        eps=EPSILON,
        amsgrad=False,
        maximize=False,
    )
