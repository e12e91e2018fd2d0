"""Noise on what encoders read, so that they do not learn single rows by heart.

An encoder reads x + scale |x| e with e drawn from N(0, I / dim); what is reconstructed stays x.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from sparc.train.model.initialize import generator


class Share(NamedTuple):
    """Which rows of a batch this process has; all have equally many."""

    rank: int = 0
    """Its number, from 0, which is that of its share in the order of the batch."""
    world: int = 1
    """Number of processes."""


ALL_ROWS = Share()


class Inputs(NamedTuple):
    """What a step reads: a batch, its noise, and what it lacks."""

    features: Mapping[str, Tensor]
    """By stream, raw, (rows, dim)."""
    noise: Mapping[str, Tensor] | None = None
    """From `draw_noise`, likewise."""
    present: Tensor | None = None
    """Which streams each row has, in the model's order, (rows, streams) bool; None: all. What
    stands in place of a missing feature, NaN included, has no influence on anything."""

    def with_noise(
        self, scale: float, *, seed: int, step: int, share: Share = ALL_ROWS
    ) -> "Inputs":
        """The same features with noise; arguments as of `draw_noise`."""
        noise = draw_noise(self.features, scale=scale, seed=seed, step=step, share=share)
        return Inputs(self.features, noise, self.present)

    def tensors(self) -> dict[str, Tensor]:
        """All of them by name, so that a recorded step reads noise that is drawn outside of it."""
        noise = {f"{_NOISE}{name}": drawn for name, drawn in (self.noise or {}).items()}
        present = {} if self.present is None else {_PRESENT: self.present}
        return {**self.features, **noise, **present}

    @staticmethod
    def of_tensors(tensors: Mapping[str, Tensor]) -> "Inputs":
        """The inputs of which `tensors` are all."""
        rest = {name: x for name, x in tensors.items() if name != _PRESENT}
        noise = {n.removeprefix(_NOISE): x for n, x in rest.items() if n.startswith(_NOISE)}
        features = {n: x for n, x in rest.items() if not n.startswith(_NOISE)}
        return Inputs(features, noise or None, tensors.get(_PRESENT))

    def gathered(self, gather: Callable[[Tensor], Tensor]) -> "Inputs":
        """Those of all processes; `gather` joins their rows."""
        return Inputs.of_tensors({name: gather(rows) for name, rows in self.tensors().items()})


_NOISE = "noise."
"""Begins the names of noise: no stream is called so."""

_PRESENT = ".present"
"""Nor so."""


def draw_noise(
    batch: Mapping[str, Tensor], *, scale: float, seed: int, step: int, share: Share = ALL_ROWS
) -> dict[str, Tensor]:
    """The noise of a batch, for features of norm 1.

    It depends on seed, step, stream and the row's place in the whole batch alone, so a resumed run
    draws the same, and several processes draw what one does. A GPU draws other numbers than a CPU.

    Args:
        batch: By stream, the features of this process's rows, (rows, dim).
        scale: Expected norm of the noise of a row.
        seed: Seed of the draws.
        step: Number of the step.
        share: Which rows these are.

    Returns:
        By stream, (rows, dim).
    """
    noise = {}
    for name, features in batch.items():
        rows, dim = features.shape
        draws = generator(seed, "noise", step, name)
        if features.device.type != "cpu":
            draws = torch.Generator(features.device).manual_seed(draws.initial_seed())
        whole = torch.randn(
            share.world * rows, dim, generator=draws, dtype=features.dtype, device=features.device
        )
        noise[name] = whole[share.rank * rows :][:rows].mul_(scale / dim**0.5)
    return noise
