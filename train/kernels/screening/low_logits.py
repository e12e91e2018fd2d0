"""Logits as products in bfloat16 know them, and what selects from them.

Must not know Numba, which screening needs: every implementation of the kernels reads this module.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sparc.train.kernels.screening.bounds import bias_bounds, row_terms

_FEWEST_LATENTS, _LATENTS_A_CHOICE = 2048, 64
"""The latents of a model that is screened: in all, and for each that a row selects."""


class LowLogits(NamedTuple):
    """Logits of some rows, known nearly: `begin` makes them, `Screen.fill` computes products.

    Attributes:
        read: What the encoder multiplies, (rows, dim) float32.
        encoder: (latents, dim) float32.
        bias: (latents,) float32.
        rounded: `read` in bfloat16.
        low: Products in bfloat16, (rows, latents).
        of_rows: What `of_latents` is multiplied by, (rows, 3): `RowTerms.by_norm` and `by_lost`,
            and 1; zero for rows that lack the stream, whose `read` and logits are zero.
        of_latents: Norms and lost norms of encoder rows, highest and lowest biases, (4, latents).
    """

    read: Tensor
    encoder: Tensor
    bias: Tensor
    rounded: Tensor
    low: Tensor
    of_rows: Tensor
    of_latents: Tensor

    @property
    def has(self) -> Tensor:
        """Which rows have the stream, 1 or 0, (rows,)."""
        return self.of_rows[:, 2]

    def rows(self, rows: slice | Tensor) -> "LowLogits":
        """Some of the rows."""
        read, encoder, bias, rounded, low, of_rows, of_latents = self
        return LowLogits(
            read[rows], encoder, bias, rounded[rows], low[rows], of_rows[rows], of_latents
        )


class Screen(Protocol):
    """TopK whose products are screened in bfloat16 and decided in float32."""

    def fill(self, logits: LowLogits, latents: slice) -> None:
        """Compute the low products of some latents; any thread may, of different latents."""
        ...

    def select(self, streams: Sequence[LowLogits], k: int) -> tuple[Tensor, Tensor]:
        """The k latents of each row with the highest sums of float32 logits.

        Args:
            streams: Whose logits are summed, of the same rows.
            k: Latents of a row.

        Returns:
            Indices, (rows, k) int64, of equal scores the first, and the logits there, (rows,
            streams, k). A row without any of the streams has latents 0 to k - 1.
        """
        ...

    def at(self, stream: LowLogits, indices: Tensor) -> Tensor:
        """Float32 logits of some latents of each row, (rows, n) both."""
        ...


def pays(latents: int, k: int) -> bool:
    """Whether screening a model of that size is faster than products in float32.

    Args:
        latents: Of the model, in all.
        k: Of a row.
    """
    return latents >= max(_FEWEST_LATENTS, _LATENTS_A_CHOICE * k)


def begin(read: Tensor, encoder: Tensor, bias: Tensor, present: Tensor | None) -> LowLogits:
    """Logits whose products are yet to be computed.

    Args:
        read: (rows, dim) float32, in the memory of the host as all that follows.
        encoder: (latents, dim) float32.
        bias: (latents,) float32.
        present: Which rows have the stream, (rows,) bool; None: all. `read` is zero in the others.
    """
    latents, dim = encoder.shape
    terms = row_terms(read)
    low = torch.empty(len(read), latents, dtype=torch.bfloat16)
    of_rows = torch.stack((terms.by_norm, terms.by_lost, torch.ones_like(terms.by_norm)), dim=1)
    if present is not None:
        of_rows *= present.unsqueeze(1)
    of_latents = torch.empty(4, latents)
    of_latents[2], of_latents[3] = bias_bounds(bias, dim)
    return LowLogits(read, encoder, bias, terms.rounded, low, of_rows, of_latents)
