"""Reconstructions of one target stream: their errors, and the derivatives of the rows' losses.

Source: arXiv 2507.06265, section 3. Errors and derivatives are per row, before any mean over rows,
so that rows of several processes can be joined.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sparc.train.kernels.interface import Kernels
from sparc.train.model.network import Sparc
from sparc.train.step.rows import join_rows
from sparc.train.step.selection.select import Selected


class TargetTerms(NamedTuple):
    """The reconstructions of one target.

    `sources` are all streams, or only the target itself where cross-reconstruction is off.

    Attributes:
        square_errors: |r - x|^2 by source, (rows, streams); NaN for pairs that were not decoded.
        scales: Factors that turn r - x into the residuals, (rows, sources).
        residuals: Derivative of the loss by the reconstructions, (rows, sources, dim).
        products: Derivative of the loss by the values, through this target, (rows, sources, k).
    """

    square_errors: Tensor
    scales: Tensor
    residuals: Tensor
    products: Tensor

    def own_errors(self, target: int, present: Tensor | None) -> Tensor:
        """The errors r - x of the target's own code, (rows, dim); zero in rows that lack it.

        Args:
            target: Position of the target stream.
            present: As `Selected.present`.
        """
        own = target if self.scales.shape[1] > 1 else 0
        errors = self.residuals[:, own] / self.scales[:, own, None]
        return errors if present is None else errors.where(present[:, target, None], 0)


def compare(
    model: Sparc,
    selected: Selected,
    target: int,
    weights: Tensor,
    denominators: Tensor,
    *,
    cross: bool,
    kernels: Kernels,
) -> TargetTerms:
    """Reconstruct a target and differentiate its part of the rows' losses.

    A row that lacks the target or a source has no such pair: derivatives are zero, the error means
    nothing.

    Args:
        model: The model.
        selected: The batch.
        target: Position of the target stream.
        weights: Weight of every pair's error in the loss, (targets, sources), on the batch's
            device.
        denominators: What the target's squared errors are divided by, (rows,).
        cross: Whether to decode the codes of all sources, or only the target's own.
        kernels: The implementation of the sparse mathematics.
    """
    rows, streams, k = selected.values.shape
    indices, values = codes_for(selected.indices, selected.values, target, cross=cross)
    scales = residual_scales(selected, target, weights, denominators, cross=cross)
    compared = kernels.compare(
        indices,
        values,
        model.decoder[model.config.names[target]],
        selected.centred[target],  # the pre-bias stands on both sides of r - x
        scales.view(values.shape[:2]),
    )
    square_errors = of_all_pairs(compared.square_errors.view(rows, -1), target, streams)
    residuals = compared.residuals.view(rows, scales.shape[1], -1)
    return TargetTerms(square_errors, scales, residuals, compared.products.view(rows, -1, k))


def residual_scales(
    selected: Selected, target: int, weights: Tensor, denominators: Tensor, *, cross: bool
) -> Tensor:
    """`TargetTerms.scales`; arguments as of `compare`."""
    sources = slice(None) if cross else slice(target, target + 1)
    scales = 2 * weights[target, sources] / denominators.unsqueeze(1)
    if selected.present is None:
        return scales
    return scales * (selected.present[:, target, None] & selected.present[:, sources])


def of_all_pairs(square_errors: Tensor, target: int, streams: int) -> Tensor:
    """`TargetTerms.square_errors`, (rows, streams), of those of the target's sources."""
    if square_errors.shape[1] == streams:
        return square_errors
    all_pairs = square_errors.new_full((len(square_errors), streams), torch.nan)
    all_pairs[:, target] = square_errors[:, 0]
    return all_pairs


def denominators(selected: Selected, target: int, variances: Tensor | None) -> Tensor:
    """What the loss divides the squared errors of a target by, (rows,).

    Args:
        selected: The batch.
        target: Position of the target stream.
        variances: Of the streams, (streams,); None for the rows' |x|^2.
    """
    square_norms = selected.square_norms[target]
    return square_norms if variances is None else variances[target].expand_as(square_norms)


def square_errors(model: Sparc, selected: Selected, target: int, *, kernels: Kernels) -> Tensor:
    """|r - x|^2 of a target from every source, (rows, streams), without derivatives.

    Args:
        model: The model.
        selected: The batch.
        target: Position of the target stream.
        kernels: The implementation of the sparse mathematics.
    """
    indices, values = codes_for(selected.indices, selected.values, target, cross=True)
    decoder = model.decoder[model.config.names[target]]
    errors = kernels.square_errors(indices, values, decoder, selected.centred[target])
    return errors.view(len(selected.values), -1)


def codes_for(
    indices: Tensor, values: Tensor, target: int, *, cross: bool
) -> tuple[Tensor, Tensor]:
    """The codes that a target decodes, in the shapes of the kernels: (R, k) and (R, V, k).

    Args:
        indices: (rows, 1 or streams, k).
        values: (rows, streams, k).
        target: Position of the target stream.
        cross: Whether it decodes all sources or only itself.
    """
    shared = indices.shape[1] == 1
    k = values.shape[2]
    if not cross:
        return indices[:, 0 if shared else target], values[:, target : target + 1]
    if shared:
        return indices[:, 0], values
    return indices.reshape(-1, k), values.reshape(-1, 1, k)


def join_targets(parts: Sequence[TargetTerms]) -> TargetTerms:
    """Join the reconstructions of consecutive parts of a batch."""
    return TargetTerms(*map(join_rows, zip(*parts, strict=True)))
