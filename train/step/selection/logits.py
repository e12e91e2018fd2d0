"""The logits of a batch as its terms ask for them: all of them, or those that can be selected.

Must not know what they are compared with.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sparc.common.workers import Workers
from sparc.train.kernels.interface import Kernels
from sparc.train.kernels.screening.low_logits import LowLogits, Screen
from sparc.train.step.rows import join_rows, row_slices, rows_of, share_rows

_MOST_ROWS = 1024
"""Rows whose candidates lie in memory at once."""
_ROWS_OF_PRODUCT = 128
"""Rows of a matrix product for AuxK, however many are worked on: its last bits depend on them."""


class Logits(Protocol):
    """The logits of some rows in every stream; zero in rows that lack the stream."""

    def rows(self, rows: slice) -> "Logits":
        """Those of some of the rows."""
        ...

    def parts(self, workers: Workers) -> list[slice]:
        """Rows that are best selected in one call, for threads that do it side by side."""
        ...

    def select(self, streams: Sequence[int], k: int) -> tuple[Tensor, Tensor]:
        """The latents with the largest sums of logits.

        Args:
            streams: Whose logits are summed, by their positions.
            k: Latents of a row.

        Returns:
            Indices, (rows, k) int64, and ReLU of the logits there, (rows, those streams, k).
        """
        ...

    def at(self, stream: int, indices: Tensor) -> Tensor:
        """Logits of some latents of each row, (rows, n) both."""
        ...

    def products(self, stream: int, latents: Tensor) -> Tensor:
        """Logits of some latents without their biases, (rows, latents), for AuxK.

        Args:
            stream: Its position.
            latents: Ascending, (latents,) int64.
        """
        ...


class AllLogits(NamedTuple):
    """`Logits` from the products of all encoder rows. Tuples have an entry a stream.

    Attributes:
        all_products: Logits without the latent bias, which is added where it is needed, (rows,
            latents); bfloat16 with that precision. Minus the bias in rows that lack the stream.
        biases: (latents,).
        kernels: The implementation of the sparse mathematics.
    """

    all_products: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    kernels: Kernels

    def rows(self, rows: slice) -> "AllLogits":
        """Those of some of the rows."""
        return self._replace(all_products=rows_of(self.all_products, rows))

    def parts(self, workers: Workers) -> list[slice]:
        """Few, whose products stay in a cache."""
        return share_rows(self.all_products[0], self.kernels, workers)

    def select(self, streams: Sequence[int], k: int) -> tuple[Tensor, Tensor]:
        """By the kernels."""
        products = [self.all_products[stream] for stream in streams]
        return self.kernels.select(products, [self.biases[stream] for stream in streams], k)

    def at(self, stream: int, indices: Tensor) -> Tensor:
        """Gathered."""
        bias = self.biases[stream]
        return self.all_products[stream].gather(1, indices).to(bias.dtype) + bias[indices]

    def products(self, stream: int, latents: Tensor) -> Tensor:
        """Gathered."""
        return of_latents(self.all_products[stream], latents)


class ScreenedLogits(NamedTuple):
    """`Logits` that are computed for latents that may be selected.

    Attributes:
        streams: By stream.
        screen: What selects.
    """

    streams: tuple[LowLogits, ...]
    screen: Screen

    def rows(self, rows: slice) -> "ScreenedLogits":
        """Those of some of the rows."""
        return self._replace(streams=tuple(stream.rows(rows) for stream in self.streams))

    def parts(self, workers: Workers) -> list[slice]:
        """Many, as encoder rows are read once for all of a part."""
        rows = len(self.streams[0].read)
        return row_slices(rows, max(1, min(_MOST_ROWS, -(-rows // workers.threads))))

    def select(self, streams: Sequence[int], k: int) -> tuple[Tensor, Tensor]:
        """By the screen."""
        indices, logits = self.screen.select([self.streams[s] for s in streams], k)
        return indices, logits.relu_()

    def at(self, stream: int, indices: Tensor) -> Tensor:
        """Computed again, as they were where the latents were selected."""
        return self.screen.at(self.streams[stream], indices)

    def products(self, stream: int, latents: Tensor) -> Tensor:
        """Computed, as those of most latents never were."""
        read, encoder = self.streams[stream].read, self.streams[stream].encoder
        if len(latents) < len(encoder):
            encoder = encoder[latents]
        parts = torch.split(read, _ROWS_OF_PRODUCT)
        return join_rows([torch.mm(part, encoder.T) for part in parts])


def of_latents(products: Tensor, latents: Tensor) -> Tensor:
    """Columns of (rows, all latents), ascending; those of all are not copied."""
    if len(latents) == products.shape[1]:
        return products
    return torch.gather(products, 1, latents.expand(len(products), -1))
