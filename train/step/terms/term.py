"""What a term of the loss is, and the three ways to differentiate one."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sparc.common.errors import ConfigError
from sparc.train.config import TrainConfig
from sparc.train.kernels.interface import Kernels
from sparc.train.model.network import Sparc
from sparc.train.reference import Forward
from sparc.train.step.row_terms import AuxiliaryCode, FurtherLogits
from sparc.train.step.rows import join_rows
from sparc.train.step.selection.select import Selected
from sparc.train.step.terms.dead_code import DeadDictionary
from sparc.train.step.terms.registry import TERMS


class LossTerm(ABC):
    """A term of the loss, which is the sum over terms of weight times value.

    A plain `LossTerm` is differentiated by autograd on dense codes of the whole batch, which is
    slow; the subclasses below have derivatives by hand.

    Args:
        settings: The settings of the training step.
        name: The term's name in `TERMS`, in `--term NAME=WEIGHT` and in metrics.jsonl.
    """

    always_logged: ClassVar[bool] = False
    """Whether lines of metrics.jsonl have its value even if its weight is 0."""
    needs_own: ClassVar[bool] = False
    """Whether `Selected.own` is to be computed for it."""
    reads_offers_alone: ClassVar[bool] = False
    """Whether it reads no logits but those of a row's code, of the streams' own TopK and, by
    `StreamRows.dead`, of dead latents; so that processes can share the latents. Its `further`
    logits, if any, are those of the stream's own TopK."""
    allows_missing: ClassVar[bool] = False
    """Whether `dense` heeds `Forward.has`, so that rows that lack streams can be trained with."""

    def __init__(self, settings: TrainConfig, name: str) -> None:
        self.settings = settings
        self.name = name

    @property
    def weight(self) -> float:
        """The weight in the loss; 0 leaves the term out."""
        return self.settings.term_weights.get(self.name, 0.0)

    @abstractmethod
    def dense(self, forward: Forward) -> Tensor:
        """The formula: the value for a batch, a scalar; or (streams,), of which the mean counts.

        Args:
            forward: A batch up to its dense codes, differentiable.
        """


class PairTerm(LossTerm):
    """The mean error over some pairs of target and source, divided as `--error` says.

    All such terms are decoded and differentiated in one pass.
    """

    allows_missing = True
    reads_offers_alone = True

    @abstractmethod
    def pairs(self, streams: int) -> Tensor:
        """Which pairs, (targets, sources) bool."""

    def dense(self, forward: Forward) -> Tensor:
        """The mean of err(r_t<-s, x_t) over the pairs; 0 without any."""
        names = list(forward.x)
        pairs = [(names[t], names[s]) for t, s in self.pairs(len(names)).nonzero().tolist()]
        if not pairs:
            return forward.x[names[0]].new_zeros(())
        values = [forward.error(s, t) for t, s in pairs]
        return torch.stack(values).mean()


class StreamRows(NamedTuple):
    """Some rows of a batch, for a term that is computed a stream at a time.

    Attributes:
        model: The model.
        selected: The rows, all streams.
        stream: Position of the stream.
        errors: Returns r - x of the stream's own code, (rows, dim).
        dead: The latents that AuxK may select in the stream; None for none.
        weight: Weight of the stream's losses: that of the term, divided by the number of streams.
        kernels: The implementation of the sparse mathematics.
    """

    model: Sparc
    selected: Selected
    stream: int
    errors: Callable[[], Tensor]
    dead: DeadDictionary | None
    weight: float
    kernels: Kernels


class Contribution(NamedTuple):
    """A term for some rows, in one stream.

    Attributes:
        losses: The stream's losses, (rows,), without the weight.
        value_gradients: Derivative by the values of the stream's code, (rows, k), of the losses of
            all streams times `StreamRows.weight`; None for zero.
        auxiliary: Another code that the stream's decoder decodes, with its derivatives, by
            `StreamRows.dead`. In rows that lack the stream it is zero, and so has to be what the
            term gives for it.
        logit_gradients: As `value_gradients`, by the logits of the code's latents: they count where
            the value is zero, too.
        further: Derivatives by further logits of the stream.
    """

    losses: Tensor
    value_gradients: Tensor | None = None
    auxiliary: AuxiliaryCode | None = None
    logit_gradients: Tensor | None = None
    further: FurtherLogits | None = None


class SparseTerm(LossTerm):
    """A term with derivatives by hand, computed for some rows of one stream at a time.

    What it contributes for rows that lack the stream is taken for zero, so it may be any number.
    """

    allows_missing = True

    def applies(self, dead: DeadDictionary | None) -> bool:  # noqa: ARG002
        """Whether `sparse` is to be called for a stream; if not, its losses are 0."""
        return True

    @abstractmethod
    def sparse(self, rows: StreamRows) -> Contribution:
        """Losses and derivatives of some rows in one stream."""


def build_terms(settings: TrainConfig) -> list[LossTerm]:
    """The terms that have a weight, and those that are logged without one.

    Raises:
        ConfigError: One of them cannot do with rows that lack streams, and there may be some.
    """
    terms: list[LossTerm] = [entry.load()(settings, name) for name, entry in TERMS.items()]
    terms = [term for term in terms if term.weight > 0 or term.always_logged]
    for term in terms:
        if settings.rows == "any" and not term.allows_missing:
            raise ConfigError(f"loss term {term.name} needs all streams of a row: choose rows all")
    return terms


def pair_weights(terms: Sequence[LossTerm], streams: int) -> Tensor:
    """The weight of every pair's error in the loss, (targets, sources) float64."""
    weights = torch.zeros(streams, streams, dtype=torch.float64)
    for term in terms:
        if isinstance(term, PairTerm):
            pairs = term.pairs(streams)
            weights[pairs] += term.weight / max(1, int(pairs.sum()))
    return weights


def of_present(contribution: Contribution, has: Tensor) -> Contribution:
    """A contribution that is zero for rows that lack the stream.

    Args:
        contribution: A term for some rows, in one stream.
        has: Which rows have the stream, (rows,) bool.
    """

    def masked(rows: Tensor) -> Tensor:
        return rows.where(has.view(-1, *[1] * (rows.dim() - 1)), 0)

    losses, by_values, auxiliary, by_logits, further = contribution
    if further is not None:
        further = FurtherLogits(further.indices, masked(further.gradients))
    return Contribution(
        masked(losses),
        None if by_values is None else masked(by_values),
        auxiliary,
        None if by_logits is None else masked(by_logits),
        further,
    )


def join_contributions(parts: Sequence[Mapping[str, Contribution]]) -> dict[str, Contribution]:
    """Join what terms contribute for consecutive parts of a batch, by name of term."""
    return {name: _join([part[name] for part in parts]) for name in parts[0]}


def _join(parts: Sequence[Contribution]) -> Contribution:
    gradients = [part.value_gradients for part in parts if part.value_gradients is not None]
    by_logits = [part.logit_gradients for part in parts if part.logit_gradients is not None]
    further = [part.further for part in parts if part.further is not None]
    codes = [part.auxiliary for part in parts if part.auxiliary is not None]
    auxiliary = None
    if codes:
        _, *columns = zip(*codes, strict=True)
        auxiliary = AuxiliaryCode(codes[0].latents, *map(join_rows, columns))
    return Contribution(
        join_rows([part.losses for part in parts]),
        join_rows(gradients) if gradients else None,
        auxiliary,
        join_rows(by_logits) if by_logits else None,
        FurtherLogits(*map(join_rows, zip(*further, strict=True))) if further else None,
    )
