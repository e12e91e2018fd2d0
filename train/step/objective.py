"""The loss of a batch: all its terms, for every stream, some rows at a time.

Losses and derivatives are per row, before any mean over rows, so that rows of several processes can
be joined. A row that lacks streams has the terms of those that it has, each with the weight that it
has in a complete row, and the loss stays the mean over all rows. Must not know how the weights are
updated.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from sparc.common.workers import Workers
from sparc.train.kernels.interface import Kernels
from sparc.train.model.network import Sparc
from sparc.train.step.deadness import Candidates
from sparc.train.step.reconstruct import (
    TargetTerms,
    compare,
    denominators,
    join_targets,
    square_errors,
)
from sparc.train.step.row_terms import LocalTerms
from sparc.train.step.rows import join_rows, share_rows
from sparc.train.step.selection.select import Selected
from sparc.train.step.terms.dead_code import DeadDictionary, OwnDead
from sparc.train.step.terms.term import (
    Contribution,
    LossTerm,
    PairTerm,
    SparseTerm,
    StreamRows,
    join_contributions,
    of_present,
    pair_weights,
)

Result = TypeVar("Result")
CandidatesByStream = Sequence[Candidates | None]


class RowLosses(NamedTuple):
    """The losses of some rows.

    Attributes:
        square_errors: |r - x|^2, (rows, targets, sources); NaN for pairs that were not decoded, and
            any number for those that a row lacks.
        by_term: By sparse term and stream, the losses, (rows,); None for zero.
    """

    square_errors: Tensor
    by_term: Mapping[str, Sequence[Tensor | None]]


class Objective:
    """The loss with its terms.

    Args:
        model: The model.
        terms: From `build_terms`.
        kernels: The implementation of the sparse mathematics.
        workers: Threads; each takes some rows of a target.
        variances: Of the streams, what squared errors are divided by; None for the rows' |x|^2.

    Attributes:
        sparse: The terms with derivatives by hand, besides reconstruction.
        by_autograd: The terms without.
        needs_own: Whether a term needs `Selected.own`.
        cross: Whether the loss decodes the codes of all sources, or only the target's own.
        pair_weights: Weight of every pair's error in the loss, (targets, sources).
        variances: As given, (streams,).
    """

    def __init__(
        self,
        model: Sparc,
        terms: Sequence[LossTerm],
        kernels: Kernels,
        workers: Workers,
        *,
        variances: Sequence[float] | None = None,
    ) -> None:
        self.sparse = [term for term in terms if isinstance(term, SparseTerm)]
        self.needs_own = any(term.needs_own for term in terms)
        self.by_autograd = [term for term in terms if not isinstance(term, SparseTerm | PairTerm)]
        streams = len(model.config.names)
        weights = pair_weights(terms, streams)
        off_diagonal = weights.masked_fill(torch.eye(streams, dtype=torch.bool), 0)
        self.cross = streams == 1 or bool(off_diagonal.any())
        bias = model.latent_bias[model.config.names[0]]
        self.pair_weights = weights.to(bias.device, bias.dtype)
        self.variances = None
        if variances is not None:
            self.variances = torch.tensor(variances, dtype=bias.dtype, device=bias.device)
        self._model = model
        self._kernels = kernels
        self._workers = workers

    def differentiate(
        self, selected: Selected, candidates: CandidatesByStream
    ) -> tuple[RowLosses, LocalTerms]:
        """The losses of a batch, and what its rows contribute to the gradients.

        Args:
            selected: The batch.
            candidates: By stream, the latents that AuxK may select.
        """

        def piece(target: int, rows: slice) -> tuple[TargetTerms, dict[str, Contribution]]:
            part = selected.rows(rows)
            compared = self._compare(part, target, cross=self.cross)
            dead = self._dead(part, target, candidates[target])
            return compared, self.contributions(part, target, compared, dead)

        results = self._for_each_target(selected, piece)
        targets = [join_targets([compared for compared, _ in parts]) for parts in results]
        contributions = [join_contributions([terms for _, terms in parts]) for parts in results]
        errors = torch.stack([target.square_errors for target in targets], dim=1)
        losses = RowLosses(errors, self.losses(contributions))
        return losses, local_terms(selected, targets, contributions)

    def evaluate(self, selected: Selected, candidates: CandidatesByStream) -> RowLosses:
        """The losses of a batch, all pairs decoded.

        Args:
            selected: The batch.
            candidates: By stream, the latents that AuxK may select.
        """

        def piece(target: int, rows: slice) -> tuple[Tensor, dict[str, Contribution]]:
            part = selected.rows(rows)
            dead = self._dead(part, target, candidates[target])
            if not any(term.applies(dead) for term in self.sparse):
                return square_errors(self._model, part, target, kernels=self._kernels), {}
            compared = self._compare(part, target, cross=True)
            return compared.square_errors, self.contributions(part, target, compared, dead)

        results = self._for_each_target(selected, piece)
        errors = [join_rows([errors for errors, _ in parts]) for parts in results]
        contributions = [join_contributions([terms for _, terms in parts]) for parts in results]
        return RowLosses(torch.stack(errors, dim=1), self.losses(contributions))

    def _for_each_target(
        self, selected: Selected, function: Callable[[int, slice], Result]
    ) -> list[list[Result]]:
        """By target, the results of a function of target and rows for all parts of a batch.

        All parts of a target come before the next one, so that its decoder stays in the cache.
        """
        parts = share_rows(selected.values, self._kernels, self._workers)
        targets = range(len(self._model.config.names))
        pieces = [(target, rows) for target in targets for rows in parts]
        results = self._workers.map(lambda piece: function(*piece), pieces)
        return [results[len(parts) * target :][: len(parts)] for target in targets]

    def _compare(self, selected: Selected, target: int, *, cross: bool) -> TargetTerms:
        return compare(
            self._model,
            selected,
            target,
            self.pair_weights,
            denominators(selected, target, self.variances),
            cross=cross,
            kernels=self._kernels,
        )

    def _dead(
        self, selected: Selected, target: int, candidates: Candidates | None
    ) -> DeadDictionary | None:
        if candidates is None:
            return None
        products = selected.logits.products(target, candidates.latents)
        return OwnDead(candidates, products, self._kernels)

    def contributions(
        self,
        selected: Selected,
        target: int,
        compared: TargetTerms,
        dead: DeadDictionary | None,
    ) -> dict[str, Contribution]:
        """What every sparse term contributes for some rows, by name.

        Args:
            selected: The rows.
            target: Position of a stream.
            compared: Its reconstructions.
            dead: The latents that AuxK may select in it; None for none.
        """
        streams = len(self._model.config.names)
        contributions = {
            term.name: term.sparse(
                StreamRows(
                    self._model,
                    selected,
                    target,
                    functools.partial(compared.own_errors, target, selected.present),
                    dead,
                    term.weight / streams,
                    self._kernels,
                )
            )
            for term in self.sparse
            if term.applies(dead)
        }
        if selected.present is None:
            return contributions
        has = selected.present[:, target]
        return {name: of_present(of_term, has) for name, of_term in contributions.items()}

    def losses(
        self, contributions: Sequence[Mapping[str, Contribution]]
    ) -> dict[str, list[Tensor | None]]:
        """`RowLosses.by_term`, of what the terms contribute, by stream."""
        return {
            term.name: [
                terms[term.name].losses if term.name in terms else None for terms in contributions
            ]
            for term in self.sparse
        }


def local_terms(
    selected: Selected,
    targets: Sequence[TargetTerms],
    contributions: Sequence[Mapping[str, Contribution]],
) -> LocalTerms:
    """What rows contribute to the gradients.

    Args:
        selected: The batch.
        targets: By stream, its reconstructions.
        contributions: By stream, what the sparse terms contribute, by name.
    """
    values = selected.values
    value_gradients = torch.zeros_like(values)
    parallels = []
    for target, (_, _, _, products) in enumerate(targets):
        cross = products.shape[1] == values.shape[1]
        sources = slice(None) if cross else slice(target, target + 1)
        value_gradients[:, sources] += products
        parallels.append(products * values[:, sources])
    for stream, terms in enumerate(contributions):
        for term in terms.values():
            if term.value_gradients is not None:
                value_gradients[:, stream] += term.value_gradients
    value_gradients.mul_(values > 0)
    for stream, terms in enumerate(contributions):
        for term in terms.values():
            if term.logit_gradients is not None:
                value_gradients[:, stream] += term.logit_gradients
    return LocalTerms(
        selected.read,
        value_gradients,
        tuple(target.residuals for target in targets),
        tuple(parallels),
        tuple(
            tuple(term.auxiliary for term in terms.values() if term.auxiliary is not None)
            for terms in contributions
        ),
        tuple(
            tuple(term.further for term in terms.values() if term.further is not None)
            for terms in contributions
        ),
    )
