"""Adam on parts of a parameter, so that a large gradient never has to exist as a whole.

Must not know what the parameters mean.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Adam:
    """Adam (Kingma & Ba 2015, algorithm 1) with the gradient of some rows at a time.

    Args:
        parameters: By name; updated in place.

    Attributes:
        first: By name, the running mean of gradients.
        second: By name, the running mean of their squares.
        steps: Steps taken, a float32 scalar.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._parameters = {name: value.detach() for name, value in parameters.items()}
        self.first = {name: torch.zeros_like(value) for name, value in self._parameters.items()}
        self.second = {name: torch.zeros_like(value) for name, value in self._parameters.items()}
        device = next(iter(self._parameters.values())).device
        self.steps = torch.zeros((), device=device)

    def begin_step(self) -> None:
        """Count a step; then `update` every row of every parameter once."""
        self.steps.add_(1)

    def update(self, name: str, rows: slice, gradient: Tensor, lr: float) -> Tensor:
        """Move some rows of a parameter.

        Args:
            name: The parameter.
            rows: Which of its rows.
            gradient: Their gradient.
            lr: Learning rate.

        Returns:
            A view of the rows that moved.
        """
        parameter = self._parameters[name][rows]
        # The kernel of torch.optim.Adam(fused=True): one pass over all four tensors.
        torch._fused_adam_(
            [parameter],
            [gradient],
            [self.first[name][rows]],
            [self.second[name][rows]],
            [],
            [self.steps],
            lr=lr,
            beta1=BETA1,
            beta2=BETA2,
            weight_decay=0.0,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )
        return parameter
