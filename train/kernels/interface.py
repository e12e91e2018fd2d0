"""What a training step needs from an implementation of the sparse mathematics.

All of it is about one shape of problem: R index rows of k latents each, every one of them carrying
V vectors of k values (V is the number of streams where they share their latents, else 1). The
latents of an index row are all different. Weights lie (latents, dim), a latent's direction in one
row. The arithmetic is deterministic: the same input gives the same bits in every run of the same
implementation on the same machine.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class InverseIndex(NamedTuple):
    """Which index rows use a latent: positions sorted by latent, ties in their first order.

    Attributes:
        order: Positions in the flattened (R, k) indices, latent by latent, (R * k,) int64.
        offsets: Where each latent's positions begin in `order`, (latents + 1,) int64.
        k: Latents of an index row.
    """

    order: Tensor
    offsets: Tensor
    k: int


class Bags(NamedTuple):
    """The terms of a weight gradient, a bag a latent.

    gradient[latent] = sum over its bag of values[n] * vectors[rows[n]]

    Attributes:
        rows: Row of the (R * V, dim) table of vectors, (R * k * V,) int64.
        values: (R * k * V,).
        offsets: Where each latent's bag begins, (latents + 1,) int64.
    """

    rows: Tensor
    values: Tensor
    offsets: Tensor


class Kernels(Protocol):
    """The operations; every implementation is held to the same plain reference by the tests."""

    name: str

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

    def block_rows(self, weight: Tensor) -> int:
        """How many rows of this weight `weight_gradient` is best asked for at once."""
        ...

    def is_dense(self, latents: int, k: int) -> bool:
        """Whether codes of k values are so dense that plain matrix products beat these kernels."""
        ...

    def batch_rows(self, batch: Tensor) -> int:
        """How many rows of this batch are best decoded and differentiated at once."""
        ...


def invert(indices: Tensor, latents: int) -> InverseIndex:
    """Sort index rows by latent.

    Args:
        indices: (R, k) int64.
        latents: Size of the dictionary.
    """
    keys, order = indices.reshape(-1).sort(stable=True)
    boundaries = torch.arange(latents + 1, device=keys.device)
    return InverseIndex(order, torch.searchsorted(keys, boundaries), indices.shape[1])


def fill_bags(inverse: InverseIndex, values: Tensor) -> Bags:
    """Sort values by latent.

    Args:
        inverse: The inverse of (R, k) indices.
        values: (R, V, k). A bag has an index row's V terms side by side, as the table has.
    """
    vectors = values.shape[1]
    rows, offsets = inverse.order // inverse.k, inverse.offsets
    if vectors > 1:
        rows = rows.unsqueeze(1) * vectors + torch.arange(vectors, device=rows.device)
        offsets = offsets * vectors
    in_order = values.transpose(1, 2).reshape(-1, vectors)[inverse.order]
    return Bags(rows.view(-1), in_order.view(-1), offsets)


def latent_sums(inverse: InverseIndex, values: Tensor) -> Tensor:
    """Sum values by latent.

    Args:
        inverse: The inverse of (R, k) indices.
        values: (R, k).

    Returns:
        (latents,).
    """
    # Differences of a running sum would lose digits; index_add is not deterministic on a GPU.
    in_order = values.reshape(-1)[inverse.order].unsqueeze(1)
    positions = torch.arange(len(in_order), device=values.device)
    sums = F.embedding_bag(
        positions, in_order, inverse.offsets, mode="sum", include_last_offset=True
    )
    return sums.squeeze(1)
