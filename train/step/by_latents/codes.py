"""The codes of all rows as far as they use the latents that a process owns.

A row uses k of all latents, so about k / processes of an owner's, some more and some fewer. They
are packed side by side, in as many columns as the fullest row needs, and rows with fewer are worked
on beside rows like them.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sparc.common.workers import Workers
from sparc.train.kernels.interface import Kernels
from sparc.train.step.rows import share_rows


class OwnCodes(NamedTuple):
    """Codes of all rows over own latents.

    Attributes:
        indices: (rows, sets, width) int64; the number of own latents stands for none.
        values: (rows, streams, width), zero there.
        slots: Where each was among the owner's offers, (rows, sets, width) int64.
        used: Which of them are latents, (rows, sets, width) bool.
    """

    indices: Tensor
    values: Tensor
    slots: Tensor
    used: Tensor

    @property
    def valid(self) -> Tensor:
        """`indices` with a latent in place of none, whose value is zero."""
        return self.indices.where(self.used, 0)


def pack(
    indices: Tensor,
    used: Tensor,
    products: tuple[Tensor, ...],
    biases: tuple[Tensor, ...],
    present: Tensor | None,
) -> OwnCodes:
    """The codes of the offers that were taken.

    Args:
        indices: Own latents, (rows, sets, offers); a set is of all streams or of one.
        used: Which of them are selected, likewise.
        products: By stream, as `AllLogits.all_products`, (rows, own latents).
        biases: By stream, (own latents,).
        present: As `Inputs.present`, of all rows.
    """
    width = max(1, int(used.sum(2).max()))
    slots = used.logical_not().to(torch.uint8).argsort(dim=2, stable=True)[:, :, :width]
    used, chosen = used.gather(2, slots), indices.gather(2, slots)
    values = []
    for stream, (product, bias) in enumerate(zip(products, biases, strict=True)):
        place = stream if chosen.shape[1] > 1 else 0
        latents = chosen[:, place]
        logits = (product.gather(1, latents) + bias[latents]).relu_()
        counts = used[:, place]
        if present is not None:
            counts = counts & present[:, stream, None]
        values.append(logits.where(counts, 0))
    return OwnCodes(chosen.where(used, len(biases[0])), torch.stack(values, dim=1), slots, used)


class _Part(NamedTuple):
    """Index rows with about as many latents, and in how many columns they lie."""

    rows: Tensor
    width: int


class PackedRows:
    """The sparse mathematics on index rows of different lengths.

    Args:
        indices: (R, width) int64, as of `OwnCodes`.
        latents: Number of own latents.
        kernels: The implementation of the sparse mathematics.
        workers: Threads; each takes some rows.
    """

    def __init__(self, indices: Tensor, latents: int, kernels: Kernels, workers: Workers) -> None:
        used = indices < latents
        self._indices = indices.where(used, 0)
        self._kernels = kernels
        self._workers = workers
        lengths = used.sum(1)
        order = lengths.argsort(stable=True)
        parts = [order[rows] for rows in share_rows(indices, kernels, workers)]
        longest = torch.stack([lengths[rows[-1:]].sum() for rows in parts]).tolist()
        self._parts = [
            _Part(rows, width) for rows, width in zip(parts, longest, strict=True) if width
        ]

    def decode(self, values: Tensor, weight: Tensor) -> Tensor:
        """`Kernels.decode`, of (R, V, width) values: (R, V, dim)."""
        decoded = values.new_zeros(*values.shape[:2], weight.shape[1])

        def of_part(part: _Part) -> None:
            rows, width = part
            indices, some = self._indices[rows, :width], values[rows, :, :width]
            decoded[rows] = self._kernels.decode(indices, some, weight)

        self._for_each(of_part)
        return decoded

    def value_gradients(self, vectors: Tensor, weight: Tensor) -> Tensor:
        """`Kernels.value_gradients`, of (R, V, dim) vectors: (R, V, width), zero for none."""
        products = vectors.new_zeros(*vectors.shape[:2], self._indices.shape[1])

        def of_part(part: _Part) -> None:
            rows, width = part
            indices = self._indices[rows, :width]
            of_rows = self._kernels.value_gradients(indices, vectors[rows], weight)
            products[rows, :, :width] = of_rows

        self._for_each(of_part)
        return products

    def _for_each(self, function: Callable[[_Part], None]) -> None:
        self._workers.map(function, self._parts)
