"""What a training step needs from an implementation of the sparse mathematics.

Throughout there are R index rows of k latents, all different; an index row carries V vectors of k
values (V is the number of streams where they share their latents, else 1). Weights have shape
(latents, dim): a latent's direction is one row. The arithmetic is deterministic: the same input
gives the same bits in every run of the same implementation on the same machine.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sparc.train.kernels.adam import AdamStep, Moments
from sparc.train.kernels.screening.low_logits import Screen


class InverseIndex(NamedTuple):
    """Which index rows use a latent: positions sorted by latent, ties in their first order.

    Attributes:
        order: Positions in the flattened (R, k) indices, latent by latent, (R * k,) int64; those
            that are no latent are left out, or on a GPU come last.
        rows: The index row of each of them, likewise.
        offsets: Where each latent's positions begin in `order`, (latents + 1,) int64.
    """

    order: Tensor
    rows: Tensor
    offsets: Tensor


class Bags(NamedTuple):
    """The terms of a weight gradient, one bag per latent.

    gradient[latent] = sum over its bag of values[n] * vectors[rows[n]]

    Attributes:
        rows: Row of the (R * V, dim) table of vectors, (R * k * V,) int64.
        values: (R * k * V,).
        offsets: Where each latent's bag begins, (latents + 1,) int64.
    """

    rows: Tensor
    values: Tensor
    offsets: Tensor


class WeightGradient(NamedTuple):
    """The gradient of a (latents, dim) weight as its terms, so that it need not exist as a whole.

    gradient[latent] = sum over its bag + added row, if any - parallel[latent] * weight[latent]

    Attributes:
        bags: The terms of every latent.
        vectors: What they multiply, (R, V, dim).
        added_latents: Latents that have an added row, ascending; None for none.
        added_rows: Those rows, from AuxK and from autograd, (added latents, dim).
        parallel: The multiple of its own row that is taken off, (latents,); None for nothing.
    """

    bags: Bags
    vectors: Tensor
    added_latents: Tensor | None = None
    added_rows: Tensor | None = None
    parallel: Tensor | None = None


class Compared(NamedTuple):
    """Decoded codes compared with their targets.

    Attributes:
        square_errors: |decoded - target|^2, (R, V).
        residuals: decoded - target, scaled, (R, V, dim).
        products: Dot products of residuals with the weight rows of their index row, (R, V, k).
    """

    square_errors: Tensor
    residuals: Tensor
    products: Tensor


class Kernels(Protocol):
    """The operations; every implementation is held to the same plain reference by the tests."""

    name: str
    screen: Screen | None
    """What selects by products in bfloat16, if this implementation does."""

    def select(
        self, products: Sequence[Tensor], biases: Sequence[Tensor], k: int
    ) -> tuple[Tensor, Tensor]:
        """Global TopK: the latents with the largest sums of logits.

        Args:
            products: By stream, logits but for the bias, (rows, latents).
            biases: By stream, (latents,).
            k: Latents of a row.

        Returns:
            Indices, (rows, k) int64, ties broken the same way every time, and ReLU of the logits
            there, (rows, streams, k).
        """
        ...

    def compare(
        self, indices: Tensor, values: Tensor, weight: Tensor, targets: Tensor, scales: Tensor
    ) -> Compared:
        """Decode, subtract the targets, and differentiate by the values.

        Args:
            indices: (R, k) int64.
            values: (R, V, k).
            weight: (latents, dim).
            targets: (rows, dim); R is a multiple of rows, the index rows of a row are consecutive.
            scales: What the residuals of a square error are multiplied by, (R, V).
        """
        ...

    def square_errors(
        self, indices: Tensor, values: Tensor, weight: Tensor, targets: Tensor
    ) -> Tensor:
        """`Compared.square_errors` alone; arguments as for `compare`."""
        ...

    def decode(self, indices: Tensor, values: Tensor, weight: Tensor) -> Tensor:
        """Sums of weight rows.

        Args:
            indices: (R, k) int64.
            values: (R, V, k).
            weight: (latents, dim).

        Returns:
            (R, V, dim): sum over j of values[r, v, j] * weight[indices[r, j]].
        """
        ...

    def value_gradients(self, indices: Tensor, vectors: Tensor, weight: Tensor) -> Tensor:
        """Dot products of vectors with the weight rows of their index row.

        Args:
            indices: (R, k) int64.
            vectors: (R, V, dim).
            weight: (latents, dim).

        Returns:
            (R, V, k): <vectors[r, v], weight[indices[r, j]]>.
        """
        ...

    def weight_gradient(self, bags: Bags, vectors: Tensor, first: int, last: int) -> Tensor:
        """Some rows of the gradient of a weight.

        Args:
            bags: From `fill_bags`.
            vectors: (R, V, dim).
            first: First latent.
            last: One past the last latent.

        Returns:
            (last - first, dim), a new tensor.
        """
        ...

    def latent_sums(self, inverse: InverseIndex, values: Tensor) -> Tensor:
        """Sum values by latent.

        Args:
            inverse: The inverse of (R, k) indices.
            values: (R, V, k).

        Returns:
            (V, latents), contiguous.
        """
        ...

    def update(
        self,
        weight: Tensor,
        moments: Moments,
        gradient: WeightGradient,
        rows: slice,
        step: AdamStep,
        *,
        scale: Tensor | None,
        unit_rows: bool,
    ) -> None:
        """Move some rows of a weight by Adam, in place.

        Args:
            weight: (latents, dim).
            moments: Adam's, updated in place.
            gradient: Of the whole weight.
            rows: Which rows, with a start and a stop.
            step: Adam's step.
            scale: What the gradient is multiplied by, a scalar; None for 1.
            unit_rows: Whether the rows are scaled to unit norm afterwards.
        """
        ...

    def block_rows(self, weight: Tensor) -> int:
        """How many rows of this weight `update` should move in one call, at least 1."""
        ...

    def is_dense(self, latents: int, k: int) -> bool:
        """Whether codes of k values are so dense that plain matrix products beat these kernels.

        Asked for AuxK, with the number of dead latents.
        """
        ...

    def batch_rows(self, batch: Tensor) -> int:
        """How many rows of this batch should be in one call, at most, from `select` to gradients.

        With several worker threads fewer are.
        """
        ...


def invert(indices: Tensor, latents: int) -> InverseIndex:
    """Sort index rows by latent.

    Args:
        indices: (R, k) int64; the number `latents` stands for no latent, and may be there twice.
        latents: Size of the dictionary.
    """
    keys = indices.reshape(-1)
    if keys.device.type == "cpu":
        # NumPy sorts by digits where numbers are short, six times faster than PyTorch.
        largest = int(keys.max()) if len(keys) else 0
        short = keys.numpy().astype(np.min_scalar_type(largest))
        order = torch.from_numpy(np.argsort(short, kind="stable"))
        counts = torch.bincount(keys, minlength=latents)[:latents]
        offsets = F.pad(counts.cumsum(0), (1, 0))
        if largest == latents:  # on a GPU that is known to the device only
            order = order[: int(offsets[-1])]
    else:
        # Fewer bits are fewer passes over the keys. (bincount would wait for the device.)
        type = torch.int16 if latents < 1 << 15 else torch.int32
        ordered, order = keys.to(type).sort(stable=True)
        every = torch.arange(latents + 1, dtype=type, device=keys.device)
        offsets = torch.searchsorted(ordered, every)
    return InverseIndex(order, order // indices.shape[1], offsets)


def fill_bags(inverse: InverseIndex, values: Tensor) -> Bags:
    """Sort values by latent.

    Args:
        inverse: The inverse of (R, k) indices.
        values: (R, V, k). A bag has an index row's V terms side by side, as the table has.
    """
    vectors = values.shape[1]
    rows, offsets = inverse.rows, inverse.offsets
    if vectors > 1:
        rows = rows.unsqueeze(1) * vectors + torch.arange(vectors, device=rows.device)
        offsets = offsets * vectors
    in_order = side_by_side(values)[inverse.order]
    return Bags(rows.view(-1), in_order.view(-1), offsets)


def latent_sums(inverse: InverseIndex, values: Tensor) -> Tensor:
    """`Kernels.latent_sums` in PyTorch."""
    # Differences of a running sum would lose digits; index_add is not deterministic on a GPU.
    table, offsets = side_by_side(values), inverse.offsets
    sums = F.embedding_bag(inverse.order, table, offsets, mode="sum", include_last_offset=True)
    return sums.T.contiguous()


def side_by_side(values: Tensor) -> Tensor:
    """The V values of each position in (R, k) indices, from (R, V, k): (R * k, V)."""
    return values.transpose(1, 2).reshape(-1, values.shape[1])


def gradient_rows(
    kernels: Kernels, weight: Tensor, gradient: WeightGradient, first: int, last: int
) -> Tensor:
    """The gradient of weight rows `first` to `last`, (last - first, dim), a new tensor.

    Args:
        kernels: The implementation.
        weight: (latents, dim).
        gradient: Of the whole weight.
        first: First latent.
        last: One past the last latent.
    """
    rows = kernels.weight_gradient(gradient.bags, gradient.vectors, first, last)
    added_latents, added_rows = gradient.added_latents, gradient.added_rows
    if added_latents is not None and added_rows is not None:
        if (first, last) != (0, len(weight)):
            bounds = torch.tensor([first, last], device=added_latents.device)
            begin, end = torch.searchsorted(added_latents, bounds).tolist()
            added_latents, added_rows = added_latents[begin:end] - first, added_rows[begin:end]
        rows.index_add_(0, added_latents, added_rows)
    if (parallel := gradient.parallel) is not None:
        rows.addcmul_(weight[first:last], parallel[first:last].unsqueeze(1), value=-1)
    return rows
