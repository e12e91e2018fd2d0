"""Loss terms that have no derivatives by hand, by autograd on dense codes of the whole batch."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sparc.train.model.network import Sparc
from sparc.train.reference import forward
from sparc.train.step.row_terms import GlobalCodes
from sparc.train.step.terms.term import LossTerm


class DenseTerms(NamedTuple):
    """What terms say about a batch.

    Attributes:
        values: By term, a scalar.
        gradients: By name of parameter, of the weighted sum of the terms; empty without terms.
    """

    values: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]


def dense_terms(
    model: Sparc,
    terms: Sequence[LossTerm],
    batch: Mapping[str, Tensor],
    codes: GlobalCodes,
    dead: Mapping[str, Tensor],
) -> DenseTerms:
    """Differentiate terms.

    Args:
        model: The model.
        terms: The terms.
        batch: By stream, raw features of all rows, (rows, dim).
        codes: The codes that were selected for them.
        dead: By stream, which latents are dead, (latents,) bool.
    """
    names, shared = model.config.names, codes.indices.shape[1] == 1
    selected = {}
    for position, name in enumerate(names):
        active = (codes.values[:, position] > 0).to(codes.values.dtype)
        mask = active.new_zeros(len(active), model.config.latents)
        selected[name] = mask.scatter_(1, codes.indices[:, 0 if shared else position], active)
    with torch.enable_grad():
        parameters = {
            name: value.detach().requires_grad_() for name, value in model.named_parameters()
        }
        computed = forward(model.config, parameters, batch, dead, selected)
        values = {term.name: term.dense(computed).mean() for term in terms}
        loss = torch.stack([term.weight * values[term.name] for term in terms]).sum()
        gradients = torch.autograd.grad(
            loss, list(parameters.values()), allow_unused=True, materialize_grads=True
        )
    values = {name: value.detach() for name, value in values.items()}
    return DenseTerms(values, dict(zip(parameters, gradients, strict=True)))
