"""Loss terms that have no derivatives by hand: their formulas on dense codes, and autograd."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sparc.train.model.network import Sparc
from sparc.train.reference import Forward, forward
from sparc.train.step.noise import Inputs
from sparc.train.step.row_terms import GlobalCodes
from sparc.train.step.terms.term import LossTerm


class DenseTerms(NamedTuple):
    """The values and gradients of terms.

    Attributes:
        values: By name of term, scalars.
        gradients: Gradient of the weighted sum of the terms, by name of parameter; empty without
            terms.
    """

    values: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]


class DenseBatch(NamedTuple):
    """A batch as the formulas need it.

    Attributes:
        inputs: Raw features, and noise if there is any.
        codes: The codes of these rows.
        dead: By stream, which latents are dead, (latents,) bool.
        variances: As of `Forward`.
    """

    inputs: Inputs
    codes: GlobalCodes
    dead: Mapping[str, Tensor]
    variances: Sequence[float] | None = None

    def forward(self, model: Sparc, parameters: Mapping[str, Tensor]) -> Forward:
        """Dense codes as a function of the parameters, with the latents that were selected."""
        indices, values, kept = self.codes
        selected = {}
        for position, name in enumerate(model.config.names):
            place = 0 if indices.shape[1] == 1 else position
            mask = values.new_zeros(len(values), model.config.latents)
            used = torch.ones_like(values[:, position])
            if kept is not None:
                used = kept[:, place].to(values.dtype)
            selected[name] = mask.scatter_(1, indices[:, place], used)
        features, noise = self.inputs
        computed = forward(model.config, parameters, features, self.dead, selected, noise)
        return computed._replace(variances=self.variances)


def evaluate(model: Sparc, terms: Sequence[LossTerm], batch: DenseBatch) -> dict[str, Tensor]:
    """The values of terms by name, scalars."""
    computed = batch.forward(model, dict(model.named_parameters()))
    return {term.name: term.dense(computed).mean() for term in terms}


def differentiate(model: Sparc, terms: Sequence[LossTerm], batch: DenseBatch) -> DenseTerms:
    """The values of terms, at least one, and the gradients of their weighted sum."""
    with torch.enable_grad():
        parameters = {
            name: value.detach().requires_grad_() for name, value in model.named_parameters()
        }
        computed = batch.forward(model, parameters)
        values = {term.name: term.dense(computed).mean() for term in terms}
        loss = torch.stack([term.weight * values[term.name] for term in terms]).sum()
        gradients = torch.autograd.grad(
            loss, list(parameters.values()), allow_unused=True, materialize_grads=True
        )
    values = {name: value.detach() for name, value in values.items()}
    return DenseTerms(values, dict(zip(parameters, gradients, strict=True)))
