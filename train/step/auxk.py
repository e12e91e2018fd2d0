"""AuxK: the dead latents of a stream reconstruct what its own code left over.

Source: appendix of arXiv 2507.06265, after Gao et al. 2024, equation 10.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sparc.train.kernels.interface import Kernels
from sparc.train.model.network import Sparc
from sparc.train.step.rows import join_rows
from sparc.train.step.select import Selected


class AuxKLatents(NamedTuple):
    """The latents of a stream that AuxK selects from: the dead ones.

    On a GPU they are all latents, those alive having a bias of minus infinity: their number is
    then known without waiting for the device.

    Attributes:
        latents: Which, ascending, (candidates,) int64.
        directions: Their decoder rows, (candidates, dim).
        biases: Their latent biases, (candidates,); minus infinity for those that are alive.
        any_dead: Whether any is dead, a scalar on the device: AuxK is zero if not. None if that is
            known, or does not matter.
    """

    latents: Tensor
    directions: Tensor
    biases: Tensor
    any_dead: Tensor | None = None


class AuxKTerms(NamedTuple):
    """AuxK of some rows in one stream.

    Attributes:
        losses: aux of every row, (rows,).
        latents: `AuxKLatents.latents`, (candidates,) int64; the same in every process.
        indices: Those that each row uses, positions in `latents`, (rows, at most auxk).
        values: Their values, (rows, at most auxk).
        value_gradients: Derivative by the values, zero where a value is zero.
        residuals: Derivative by the auxiliary reconstruction, (rows, dim).
    """

    losses: Tensor
    latents: Tensor
    indices: Tensor
    values: Tensor
    value_gradients: Tensor
    residuals: Tensor


def auxk_terms(
    model: Sparc,
    selected: Selected,
    error: Tensor,
    position: int,
    candidates: AuxKLatents,
    *,
    auxk: int,
    weight: float,
    kernels: Kernels,
) -> AuxKTerms:
    """AuxK of one stream.

    Args:
        model: The model.
        selected: The batch.
        error: r - x of this stream's own code, (rows, dim).
        position: Position of the stream.
        candidates: The stream's dead latents. With none of them the auxiliary code is empty, and
            the loss is the constant of the published recipe, which moves the pre-bias alone.
        auxk: Dead latents that a row uses; all of them where there are fewer.
        weight: Weight of this stream's aux in the loss.
        kernels: The implementation.
    """
    name = model.config.names[position]
    # The target, a constant, is x - r + b_pre; b_pre stands on both sides of the difference.
    target_norms = (model.pre_bias[name] - error).square().sum(1, keepdim=True)
    per_norm = torch.where(target_norms > 0, 1 / target_norms, 0)  # nothing is left over: no loss
    if candidates.any_dead is not None:
        per_norm = per_norm * candidates.any_dead
    latents, directions, biases, _ = candidates
    products = selected.products[position]
    if len(latents) < products.shape[1]:
        products = products.gather(1, latents.expand(len(products), -1))
    if not len(latents):
        losses = error.square().sum(1) * per_norm.squeeze(1)
        indices, values = latents.new_zeros(len(products), 0), error.new_zeros(len(products), 0)
        residuals = error * (per_norm * (2 * weight))
        return AuxKTerms(losses, latents, indices, values, values, residuals)
    indices, values = kernels.select([products], [biases], min(auxk, len(latents)))
    values = values.squeeze(1)
    difference = kernels.decode(indices, values.unsqueeze(1), directions).squeeze(1).add_(error)
    losses = difference.square().sum(1) * per_norm.squeeze(1)
    residuals = difference.mul_(per_norm * (2 * weight))
    gradients = kernels.value_gradients(indices, residuals.unsqueeze(1), directions).squeeze(1)
    return AuxKTerms(losses, latents, indices, values, gradients * (values > 0), residuals)


def join_auxk(parts: Sequence[AuxKTerms | None]) -> AuxKTerms | None:
    """AuxK of a batch in one stream, from that of its parts in order."""
    terms = [part for part in parts if part is not None]
    if not terms:
        return None
    losses, _, indices, values, gradients, residuals = map(join_rows, zip(*terms, strict=True))
    return AuxKTerms(losses, terms[0].latents, indices, values, gradients, residuals)
