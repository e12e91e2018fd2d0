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
    """The numbers of a step of Adam.

    They also lie on the device, so that one recorded CUDA graph serves every step.

    Attributes:
        number: Number of the step, from 1.
        lr: Learning rate.
        steps: `number` as a float32 scalar on the device.
        lr_on_device: `lr` as a float32 scalar on the device.
        factors: `step_size` and `second_correction` on the device, (2,) float64.
    """

    number: int
    lr: float
    steps: Tensor
    lr_on_device: Tensor
    factors: Tensor

    @classmethod
    def on(cls, device: torch.device) -> "AdamStep":
        """Before the first step; its tensors lie on a device.

        Args:
            device: Where the parameters lie.
        """
        steps, lr = torch.zeros(2, device=device).unbind()
        return cls(0, 0.0, steps, lr, torch.zeros(2, dtype=torch.float64, device=device))

    def set_to(self, number: int, lr: float) -> "AdamStep":
        """Another step, in the same tensors.

        Args:
            number: Number of the step, from 1.
            lr: Learning rate.
        """
        step = self._replace(number=number, lr=lr)
        step.steps.fill_(number)
        step.lr_on_device.fill_(lr)
        step.factors[0].fill_(step.step_size)
        step.factors[1].fill_(step.second_correction)
        return step

    @property
    def step_size(self) -> float:
        """What the first moment is multiplied by: lr, with the bias correction."""
        return self.lr / (1 - BETA1**self.number)

    @property
    def second_correction(self) -> float:
        """What the root of the second moment is divided by: its bias correction."""
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
        this_step: The last step that began.
        encoder_step: The same with the learning rate of encoders.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self.moments = {
            name: Moments(torch.zeros_like(parameter), torch.zeros_like(parameter))
            for name, parameter in parameters.items()
        }
        device = next(iter(parameters.values())).device
        self.this_step = AdamStep.on(device)
        self.encoder_step = AdamStep.on(device)

    @property
    def number(self) -> int:
        """Steps taken."""
        return self.this_step.number

    def begin_step(self, lr: float, encoder_lr: float | None = None) -> AdamStep:
        """Begin the next step, in which every row of every parameter is to be moved once.

        Args:
            lr: Learning rate.
            encoder_lr: That of encoders and latent biases, if it is another one.
        """
        number = self.number + 1
        self.this_step = self.this_step.set_to(number, lr)
        own = lr if encoder_lr is None else encoder_lr
        self.encoder_step = self.encoder_step.set_to(number, own)
        return self.this_step

    def step_of(self, parameter: str) -> AdamStep:
        """The step of a parameter, by its name."""
        encodes = parameter.startswith(("encoder.", "latent_bias."))
        return self.encoder_step if encodes else self.this_step

    def restore(self, number: int) -> None:
        """Continue after this number of steps."""
        self.this_step = self.this_step._replace(number=number)


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
        lr=step.lr if parameter.device.type == "cpu" else step.lr_on_device,
        beta1=BETA1,
        beta2=BETA2,
        weight_decay=0.0,
        eps=EPSILON,
        amsgrad=False,
        maximize=False,
    )
