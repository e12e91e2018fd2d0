"""Loss terms that have no derivatives by hand: their formulas on dense codes, and autograd."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sparc.train.model.network import Sparc
from sparc.train.reference import Forward, forward
from sparc.train.step.deadness import DeadLatents
from sparc.train.step.noise import Inputs
from sparc.train.step.row_terms import Gather, GlobalCodes
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
        indices, values, kept, _ = self.codes
        selected = {}
        for position, name in enumerate(model.config.names):
            place = 0 if indices.shape[1] == 1 else position
            mask = values.new_zeros(len(values), model.config.latents)
            used = torch.ones_like(values[:, position])
            if kept is not None:
                used = kept[:, place].to(values.dtype)
            selected[name] = mask.scatter_(1, indices[:, place], used)
        features, noise, present = self.inputs
        computed = forward(
            model.config, parameters, features, self.dead, selected, noise, present=present
        )
        return computed._replace(variances=self.variances)


class TermsByAutograd:
    """The terms that train through autograd, in the training of a model.

    Args:
        model: The model.
        terms: These terms; may be none.
        dead_latents: Its counters of dead latents.
        gather: Joins the rows of all processes.
        variances: As of `Forward`.
    """

    def __init__(
        self,
        model: Sparc,
        terms: Sequence[LossTerm],
        dead_latents: DeadLatents,
        gather: Gather,
        variances: Sequence[float] | None,
    ) -> None:
        self.names = tuple(term.name for term in terms)
        self._model = model
        self._terms = terms
        self._dead_latents = dead_latents
        self._gather = gather
        self._variances = variances

    def differentiate(self, inputs: Inputs, codes: GlobalCodes) -> DenseTerms:
        """Values and gradients on the rows of all processes.

        Args:
            inputs: The rows of this process.
            codes: Those of all processes.
        """
        if not self._terms:
            return DenseTerms({}, {})
        batch = self._batch(inputs.gathered(self._gather), codes)
        return differentiate(self._model, self._terms, batch)

    def evaluate(self, inputs: Inputs, codes: GlobalCodes) -> dict[str, Tensor]:
        """Values on the rows of this process, by name."""
        if not self._terms:
            return {}
        return evaluate(self._model, self._terms, self._batch(inputs, codes))

    def _batch(self, inputs: Inputs, codes: GlobalCodes) -> DenseBatch:
        dead = {name: self._dead_latents.are_dead(name) for name in self._model.config.names}
        return DenseBatch(inputs, codes, dead, self._variances)


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
