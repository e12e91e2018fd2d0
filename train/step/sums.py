"""The figures of a batch as sums over its rows, and the losses that follow from them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sparc.train.model.network import Sparc
from sparc.train.step.objective import Objective, RowLosses
from sparc.train.step.selection.select import Selected


class Losses(NamedTuple):
    """The terms of the loss, means over the batch.

    Attributes:
        total: The loss, a scalar.
        nmse: NMSE of each target reconstructed from each source, (targets, sources); the diagonal
            is self-reconstruction. NaN for pairs that were not decoded.
        terms: The other terms by name: scalars, or by stream, (streams,).
    """

    total: Tensor
    nmse: Tensor
    terms: Mapping[str, Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepSums:
    """Figures of a batch as sums over its rows: add them over steps and processes, then divide.

    Tensors are float64 and on the learner's device, which nothing waits for. A sum with a loss that
    is not finite is not finite.

    Attributes:
        rows: Rows of the batch.
        loss: The loss.
        nmse: |r - x|^2 / |x|^2, (targets, sources). NaN for pairs that a step without cross loss
            does not decode; `Learner.measure` decodes all.
        squared_error: |r - x|^2, (targets, sources), NaN as above.
        feature_sum: By stream, the normalized features, (dim,).
        feature_square_sum: Their squared norms, (streams,).
        active: Values above zero, (streams,): divided by rows, the true L0.
        chosen: Selected latents of the rows on which `chosen_alone` is counted.
        chosen_alone: How many of them each stream would have selected independently, (streams,).
        terms: Values of the loss terms other than reconstruction, by name: scalars, or by stream,
            (streams,). AuxK is `aux`.
        pair_rows: Rows that have both streams of a pair, (targets, sources). None with `--rows
            all`, where all have all. What a row lacks counts as zero in every sum. `chosen` is
            then by stream, (streams,).
    """

    rows: Tensor
    loss: Tensor
    nmse: Tensor
    squared_error: Tensor
    feature_sum: tuple[Tensor, ...]
    feature_square_sum: Tensor
    active: Tensor
    chosen: Tensor
    chosen_alone: Tensor
    terms: Mapping[str, Tensor]
    pair_rows: Tensor | None = None

    @property
    def rows_of_pairs(self) -> Tensor:
        """The rows that sums by pair are over, (targets, sources)."""
        return self.rows.expand_as(self.nmse) if self.pair_rows is None else self.pair_rows

    @property
    def rows_of_streams(self) -> Tensor:
        """The rows that sums by stream are over, (streams,)."""
        return self.rows_of_pairs.diagonal()

    def term_means(self) -> dict[str, Tensor]:
        """Means of `terms` by name, each over the rows that it is about."""
        return {
            name: total / (self.rows_of_streams if total.dim() else self.rows)
            for name, total in self.terms.items()
        }

    def named(self) -> dict[str, Tensor]:
        """All sums by name: `feature_sum` has one per stream, a term its own name."""
        fields = {name: getattr(self, name) for name in _TENSORS}
        features = {f"feature_sum.{i}": total for i, total in enumerate(self.feature_sum)}
        pairs = {} if self.pair_rows is None else {"pair_rows": self.pair_rows}
        return {**fields, **features, **self.terms, **pairs}

    def with_named(self, named: Mapping[str, Tensor]) -> "StepSums":
        """Other sums with the same names."""
        return StepSums(
            **{name: named[name] for name in _TENSORS},
            feature_sum=tuple(named[f"feature_sum.{i}"] for i in range(len(self.feature_sum))),
            terms={name: named[name] for name in self.terms},
            pair_rows=None if self.pair_rows is None else named["pair_rows"],
        )

    def flat(self) -> Tensor:
        """All of them in one vector, (sums,)."""
        return torch.cat([tensor.reshape(-1) for tensor in self.named().values()])

    def with_flat(self, flat: Tensor) -> "StepSums":
        """The sums that `flat` of sums with the same names put into one vector."""
        named = self.named()
        parts = flat.split([tensor.numel() for tensor in named.values()])  # type: ignore[no-untyped-call]
        return self.with_named(
            {name: part.view(named[name].shape) for name, part in zip(named, parts, strict=True)}
        )

    def __add__(self, other: object) -> "StepSums":
        """The sums over the rows of both."""
        if not isinstance(other, StepSums):
            return NotImplemented
        named = other.named()
        return self.with_named({name: total + named[name] for name, total in self.named().items()})


_TENSORS = tuple(
    field.name for field in dataclasses.fields(StepSums) if field.type in (Tensor, "Tensor")
)
"""Fields of `StepSums` that are one tensor."""


def no_sums(
    dims: Sequence[int],
    *,
    by_stream: Sequence[str],
    scalars: Sequence[str],
    device: torch.device,
    some_missing: bool,
) -> StepSums:
    """The sums over no rows.

    Args:
        dims: Widths of the streams.
        by_stream: Names of loss terms with a value by stream.
        scalars: Names of loss terms with one value.
        device: The device of the sums.
        some_missing: Whether rows may lack streams.
    """
    streams = len(dims)

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=device)

    return StepSums(
        rows=zeros(),
        loss=zeros(),
        nmse=zeros(streams, streams),
        squared_error=zeros(streams, streams),
        feature_sum=tuple(map(zeros, dims)),
        feature_square_sum=zeros(streams),
        active=zeros(streams),
        chosen=zeros(streams) if some_missing else zeros(),
        chosen_alone=zeros(streams),
        terms={
            **{name: zeros(streams) for name in by_stream},
            **{name: zeros() for name in scalars},
        },
        pair_rows=zeros(streams, streams) if some_missing else None,
    )


def rows_to_compare(rows: int) -> int:
    """On how many of a training batch's rows `StepSums.chosen_alone` is counted: it takes time."""
    return max(1, rows // 32)


def step_sums(
    model: Sparc,
    objective: Objective,
    selected: Selected,
    losses: RowLosses,
    values: Mapping[str, Tensor],
    *,
    compare_rows: int,
    some_missing: bool,
) -> StepSums:
    """The figures of a batch.

    Args:
        model: The model.
        objective: The loss.
        selected: The batch.
        losses: The losses of its rows.
        values: Values of the terms without derivatives by hand, by name, scalars.
        compare_rows: Rows on which `chosen_alone` is counted.
        some_missing: Whether rows of the run may lack streams, even if those of the batch do not.
    """
    rows, streams, _ = selected.values.shape
    present = selected.present
    if selected.indices.shape[1] > 1 and model.own_mode == "joint":
        compare_rows = 0  # a batch that selected independently
    compared = selected.rows(slice(compare_rows))
    squared = losses.square_errors.double()
    norms = torch.stack(selected.square_norms, dim=1).double()
    pair_rows, square_norms = None, norms
    if present is not None:
        pairs = present.unsqueeze(2) & present.unsqueeze(1)
        squared, square_norms = squared.where(pairs, 0), norms.where(present, 0)
        pair_rows = pairs.sum(0).double()
    elif some_missing:
        pair_rows = norms.new_full((streams, streams), rows)
    nmse = (squared / norms.unsqueeze(2)).sum(0)
    errors = nmse
    if objective.variances is not None:
        errors = squared.sum(0) / objective.variances.double().unsqueeze(1)
    weights = objective.pair_weights.double()
    # A pair that was not decoded is NaN and has weight zero.
    loss = torch.where(weights > 0, weights * errors, 0).sum()
    zero = nmse.new_zeros(())
    terms = {}
    for term in objective.sparse:
        parts = losses.by_term[term.name]
        terms[term.name] = torch.stack(
            [zero if part is None else part.double().sum() for part in parts]
        )
        loss = loss + term.weight / streams * terms[term.name].sum()
    for prototype in objective.by_autograd:
        terms[prototype.name] = values[prototype.name].double() * rows
        loss = loss + prototype.weight * terms[prototype.name]
    return StepSums(
        rows=nmse.new_full((), rows),  # new_tensor would wait for the device
        loss=loss,
        nmse=nmse,
        squared_error=squared.sum(0),
        feature_sum=tuple(x.sum(0).double() for x in selected.features),
        feature_square_sum=square_norms.sum(0),
        active=(selected.values > 0).sum((0, 2)).double(),
        chosen=_chosen(compared) if some_missing else _chosen(compared).mean(),
        chosen_alone=_chosen_alone(model, compared),
        terms=terms,
        pair_rows=pair_rows,
    )


def _chosen(selected: Selected) -> Tensor:
    """How many latents are selected, (streams,); jointly selected ones count in every stream."""
    rows, streams, width = selected.values.shape
    if selected.present is not None:
        has = selected.present.unsqueeze(2).expand(-1, -1, width)
        return (has if selected.kept is None else has & selected.kept).sum((0, 2)).double()
    if selected.kept is None:
        return selected.values.new_full((streams,), rows * width, dtype=torch.float64)
    return selected.kept.sum((0, 2)).double().expand(streams)


def _chosen_alone(model: Sparc, selected: Selected) -> Tensor:
    """How many selected latents each stream would have selected independently, (streams,)."""
    if selected.indices.shape[1] > 1 or selected.values.shape[1] == 1:
        return _chosen(selected)
    shared = selected.indices[:, 0]
    counts, width = [], model.config.width
    for position in range(len(model.config.names)):
        if selected.thresholds is not None:
            scores = selected.logits.at(position, shared)
            also = scores >= selected.thresholds[1 + position]
        else:
            own, _ = selected.logits.select([position], width)
            kept = None
            if model.selector.leaves_out:
                scores = selected.logits.at(position, own)
                kept = model.selector.keep(scores, model.config.k, None)
            flags = torch.zeros(len(own), model.config.latents, dtype=torch.bool, device=own.device)
            if kept is None:
                kept = torch.ones_like(own, dtype=torch.bool)
            also = flags.scatter_(1, own, kept).gather(1, shared)
        if selected.kept is not None:
            also &= selected.kept[:, 0]
        if selected.present is not None:
            also &= selected.present[:, position, None]
        counts.append(also.sum())
    return torch.stack(counts).double()
