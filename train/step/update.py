"""The update of a step: clipping, projection, Adam and unit norms.

Large weights are updated in blocks of rows, so that their gradient never exists as a whole. Must
not know where gradients come from.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sparc.common.workers import Workers
from sparc.train.kernels.adam import Adam, move
from sparc.train.kernels.interface import Kernels, WeightGradient, gradient_rows
from sparc.train.model.network import Sparc
from sparc.train.step.gradients import StreamGradients, sum_is_whole
from sparc.train.step.rows import row_slices


class _Block(NamedTuple):
    """Rows of a weight, few enough to stay in the CPU's cache during their update."""

    name: str
    rows: slice


class Optimizer:
    """Updates the parameters of a model.

    Args:
        model: The model.
        kernels: The implementation of the sparse mathematics.
        workers: Threads; each updates blocks of rows.
        clip: Largest norm of the whole gradient; 0 does not clip.
        unit_decoders: Whether decoder rows are scaled to unit norm after every step.
        frozen: Streams that get no gradients, for which Adam keeps no moments.
        over_latents: Turns a sum over the latents of `model` into that over all, where processes
            share them.
        processes: How many share them.

    Attributes:
        adam: The state of Adam.
    """

    def __init__(
        self,
        model: Sparc,
        kernels: Kernels,
        workers: Workers,
        *,
        clip: float,
        unit_decoders: bool,
        frozen: Collection[str] = (),
        over_latents: Callable[[Tensor], Tensor] = sum_is_whole,
        processes: int = 1,
    ) -> None:
        self.adam = Adam(
            {
                name: parameter
                for name, parameter in model.named_parameters()
                if name.partition(".")[2] not in frozen
            }
        )
        self._model = model
        self._kernels = kernels
        self._workers = workers
        self._clip = clip
        self._unit_decoders = unit_decoders
        self._over_latents = over_latents
        self._processes = processes

    def update(
        self, gradients: Mapping[str, StreamGradients], divisors: Mapping[str, Tensor]
    ) -> None:
        """Make one step of Adam for every parameter that is not frozen.

        Args:
            gradients: By stream, none frozen.
            divisors: By stream, the norms that decoder rows were divided by since the gradient was
                taken, (latents,); a stream may be missing.
        """
        weights: dict[str, WeightGradient] = {}
        vectors: dict[str, Tensor] = {}
        for stream, gradient in gradients.items():
            parallel = gradient.parallel
            if stream in divisors:
                parallel = parallel / divisors[stream]
            weights[f"encoder.{stream}"] = gradient.encoder
            # The component parallel to a unit row would only change its norm.
            weights[f"decoder.{stream}"] = gradient.decoder._replace(parallel=parallel)
            vectors[f"pre_bias.{stream}"] = gradient.pre_bias
            vectors[f"latent_bias.{stream}"] = gradient.latent_bias
        parameters = dict(self._model.named_parameters())
        blocks = [
            _Block(name, rows)
            for name in weights
            for rows in row_slices(
                len(parameters[name]), self._kernels.block_rows(parameters[name])
            )
        ]
        scale = None
        if self._clip > 0:
            scale = self._clip_scale(parameters, weights, vectors, blocks)

        def update_block(block: _Block) -> None:
            self._kernels.update(
                parameters[block.name],
                self.adam.moments[block.name],
                weights[block.name],
                block.rows,
                self.adam.step_of(block.name),
                scale=scale,
                unit_rows=self._unit_decoders and block.name.startswith("decoder."),
            )

        self._workers.map(update_block, blocks)
        for name, vector in vectors.items():
            if scale is not None:
                vector.mul_(scale)
            move(parameters[name], vector, self.adam.moments[name], self.adam.step_of(name))

    def _clip_scale(
        self,
        parameters: Mapping[str, Tensor],
        weights: Mapping[str, WeightGradient],
        vectors: Mapping[str, Tensor],
        blocks: Sequence[_Block],
    ) -> Tensor:
        """The factor that brings the norm of the whole gradient down to `clip`, a scalar."""

        def square(block: _Block) -> Tensor:
            weight, gradient = parameters[block.name], weights[block.name]
            first, last = block.rows.start, block.rows.stop
            rows = gradient_rows(self._kernels, weight, gradient, first, last)
            return rows.double().square().sum()

        squares = self._workers.map(square, blocks)
        for name, vector in vectors.items():
            here = vector.double().square().sum()
            # All processes have the pre-biases: each counts its share of them.
            squares.append(here / self._processes if name.startswith("pre_bias.") else here)
        norm = self._over_latents(torch.stack(squares).sum()).sqrt()
        dtype = next(iter(vectors.values())).dtype
        return (self._clip / norm).clamp(max=1).to(dtype)
