"""The figures of a batch as sums over its rows, and the losses that follow from them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sparc.train.kernels.interface import Kernels
from sparc.train.model.network import Sparc
from sparc.train.step.auxk import AuxKTerms
from sparc.train.step.select import Selected


class Losses(NamedTuple):
    """The terms of the loss, means over the batch.

    Attributes:
        total: The loss, a scalar.
        nmse: Of the reconstruction of each target from each source, (targets, sources); the
            diagonal is self-reconstruction. NaN for pairs that were not decoded.
        aux: By stream, (streams,); 0 where no latent is dead.
    """

    total: Tensor
    nmse: Tensor
    aux: Tensor


class StepSums(NamedTuple):
    """Figures of a batch as sums over its rows: add them over steps and processes, then divide.

    Tensors of float64 on the learner's device; nothing waits for it. A loss that is not finite
    stays so in every sum.

    Attributes:
        rows: Rows of the batch.
        loss: The loss.
        nmse: |r - x|^2 / |x|^2, (targets, sources). NaN for pairs that a step without cross loss
            does not decode; `Learner.measure` decodes all.
        squared_error: |r - x|^2, (targets, sources), NaN as above.
        feature_sum: By stream, the normalized features, (dim,).
        feature_square_sum: Their squared norms, (streams,).
        aux: AuxK, (streams,).
        active: Values above zero, (streams,): divided by rows, the true L0.
        chosen: Latents that were compared for `chosen_alone`.
        chosen_alone: How many of those each stream would have chosen by itself, (streams,).
    """

    rows: Tensor
    loss: Tensor
    nmse: Tensor
    squared_error: Tensor
    feature_sum: tuple[Tensor, ...]
    feature_square_sum: Tensor
    aux: Tensor
    active: Tensor
    chosen: Tensor
    chosen_alone: Tensor

    def flat(self) -> Tensor:
        """All of them in one vector, (sums,)."""
        parts = [part for each in self for part in (each if isinstance(each, tuple) else (each,))]
        return torch.cat([part.reshape(-1) for part in parts])

    @classmethod
    def zeros(cls, dims: Sequence[int]) -> "StepSums":
        """The sums over no rows.

        Args:
            dims: Widths of the streams.
        """
        streams = len(dims)
        sums = 2 * streams * streams + sum(dims) + 4 * streams + 3
        return cls.from_flat(torch.zeros(sums, dtype=torch.float64), dims)

    @classmethod
    def from_flat(cls, flat: Tensor, dims: Sequence[int]) -> "StepSums":
        """The sums that `flat` put into one vector.

        Args:
            flat: (sums,).
            dims: Widths of the streams.
        """
        streams = len(dims)
        pairs, each = streams * streams, [streams] * 3
        rows, loss, nmse, errors, *rest = torch.split(
            flat, [1, 1, pairs, pairs, *dims, *each, 1, streams]
        )
        norms, aux, active, chosen, alone = rest[streams:]
        return cls(
            rows=rows[0],
            loss=loss[0],
            nmse=nmse.view(streams, streams),
            squared_error=errors.view(streams, streams),
            feature_sum=tuple(rest[:streams]),
            feature_square_sum=norms,
            aux=aux,
            active=active,
            chosen=chosen[0],
            chosen_alone=alone,
        )

    def __add__(self, other: object) -> "StepSums":
        """The sums over the rows of both."""
        if not isinstance(other, StepSums):
            return NotImplemented
        features = zip(self.feature_sum, other.feature_sum, strict=True)
        joined = {
            name: getattr(self, name) + getattr(other, name)
            for name in self._fields
            if name != "feature_sum"
        }
        return StepSums(feature_sum=tuple(a + b for a, b in features), **joined)


def step_sums(
    model: Sparc,
    selected: Selected,
    errors: Tensor,
    auxk: Sequence[AuxKTerms | None],
    *,
    pair_weights: Tensor,
    aux_weight: float,
    compare_rows: int,
    kernels: Kernels,
) -> StepSums:
    """The figures of a batch.

    Args:
        model: The model.
        selected: The batch.
        errors: |r - x|^2, (rows, targets, sources).
        auxk: AuxK by stream.
        pair_weights: Weight of every pair's NMSE in the loss, (targets, sources).
        aux_weight: Weight of AuxK.
        compare_rows: Rows on which to find out what each stream would have chosen alone.
        kernels: The implementation.
    """
    rows, streams, k = selected.values.shape
    squared = errors.double()
    norms = torch.stack(selected.square_norms, dim=1).double()
    nmse = (squared / norms.unsqueeze(2)).sum(0)
    zero = nmse.new_zeros(())
    aux = torch.stack([zero if terms is None else terms.losses.double().sum() for terms in auxk])
    weights = pair_weights.double()
    # A pair that was not decoded is NaN and has weight zero.
    weighted = torch.where(weights > 0, weights * nmse, 0)
    loss = weighted.sum() + aux_weight / streams * aux.sum()
    return StepSums(
        rows=nmse.new_full((), rows),  # new_tensor would wait for the device
        loss=loss,
        nmse=nmse,
        squared_error=squared.sum(0),
        feature_sum=tuple(x.sum(0).double() for x in selected.features),
        feature_square_sum=norms.sum(0),
        aux=aux,
        active=(selected.values > 0).sum((0, 2)).double(),
        chosen=nmse.new_full((), compare_rows * k),
        chosen_alone=_chosen_alone(model, selected.rows(slice(compare_rows)), kernels),
    )


def _chosen_alone(model: Sparc, selected: Selected, kernels: Kernels) -> Tensor:
    """How many selected latents each stream would have chosen by itself, (streams,) float64."""
    rows, streams, k = selected.values.shape
    if selected.indices.shape[1] > 1 or streams == 1:
        return selected.values.new_full((streams,), rows * k, dtype=torch.float64)
    shared = selected.indices[:, 0]
    alone = []
    for name, product in zip(model.config.names, selected.products, strict=True):
        bias = model.latent_bias[name]
        own, _ = kernels.select([product], [bias], k)
        least = (product.gather(1, own) + bias[own]).amin(1, keepdim=True)
        alone.append((product.gather(1, shared) + bias[shared] >= least).sum())
    return torch.stack(alone).double()
