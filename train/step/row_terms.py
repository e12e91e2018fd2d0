"""What rows contribute to the gradients: the rows of one process, and those of all."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sparc.train.step.auxk import AuxKTerms
from sparc.train.step.reconstruct import TargetTerms
from sparc.train.step.select import Selected

Gather = Callable[[Tensor], Tensor]
"""Joins a tensor of all processes along its first dimension, the rows, in the order of ranks.

Gradients are sums over rows of products of row terms. So instead of adding up dense gradients,
every process receives everyone's row terms (a few MB where a gradient has hundreds) and works out
the gradient of the whole batch, the same bits in each. What is not about rows is equal in all
processes to begin with.
"""


class RowTerms(NamedTuple):
    """What rows contribute to the gradients, which are sums over rows of products of these.

    Derivatives are of the rows' losses, before any mean over rows.

    Attributes:
        centred: By stream, the encoders' inputs, (rows, dim).
        indices: As `Selected.indices`.
        values: As `Selected.values`.
        value_gradients: Derivative by the values, zero where a value is zero, (rows, streams, k).
        residuals: By target, derivative by the reconstructions, (rows, sources, dim).
        alignments: By target, value times the product of residual and decoder row,
            (rows, sources, k). Summed by latent: the product of a decoder row and its gradient.
        auxk: By stream; None where AuxK has nothing to do.
    """

    centred: tuple[Tensor, ...]
    indices: Tensor
    values: Tensor
    value_gradients: Tensor
    residuals: tuple[Tensor, ...]
    alignments: tuple[Tensor, ...]
    auxk: tuple[AuxKTerms | None, ...]


def row_terms(
    selected: Selected, targets: Sequence[TargetTerms], auxk: Sequence[AuxKTerms | None]
) -> RowTerms:
    """What rows contribute to the gradients.

    Args:
        selected: The batch.
        targets: From `compare`, for every target.
        auxk: From `auxk_terms`, for every stream.
    """
    values = selected.values
    value_gradients = torch.zeros_like(values)
    alignments = []
    for target, (_, _, _, products) in enumerate(targets):
        cross = products.shape[1] == values.shape[1]
        sources = slice(None) if cross else slice(target, target + 1)
        value_gradients[:, sources] += products
        alignments.append(products * values[:, sources])
    value_gradients.mul_(values > 0)
    return RowTerms(
        selected.centred,
        selected.indices,
        values,
        value_gradients,
        tuple(terms.residuals for terms in targets),
        tuple(alignments),
        tuple(auxk),
    )


def gather_terms(terms: RowTerms, gather: Gather) -> RowTerms:
    """The row terms of all processes.

    Args:
        terms: This process's; `indices` and `values` are those of all processes already, which
            had to know them to tell which latents are dead.
        gather: Joins rows.
    """

    def gather_auxk(auxk: AuxKTerms | None) -> AuxKTerms | None:
        if auxk is None:
            return None
        return AuxKTerms(
            *(tensor if tensor is auxk.latents else gather(tensor.contiguous()) for tensor in auxk)
        )

    return terms._replace(
        centred=tuple(map(gather, terms.centred)),
        value_gradients=gather(terms.value_gradients),
        residuals=tuple(map(gather, terms.residuals)),
        alignments=tuple(map(gather, terms.alignments)),
        auxk=tuple(map(gather_auxk, terms.auxk)),
    )
