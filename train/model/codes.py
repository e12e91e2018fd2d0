"""Codes in memory, and the two modes in which they are selected."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from scipy import sparse

Mode = Literal["joint", "independent"]
"""`joint`: the streams of a row select the same latents, by the sum of their logits. `independent`:
each stream selects by its own logits, as if it were the only one."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Codes:
    """Sparse codes of some rows in one stream; `indices, values = codes` takes them apart.

    Codes of a single row, as `Sparc.encode` makes them of a single feature, lack the first
    dimension of what follows.

    Attributes:
        indices: Latents of each row, (rows, width) int64, all different, in no particular order.
            `width` is `ModelConfig.width`: k, or `k_max` with a selector that may use more.
        values: Their values, (rows, width): zero where the logit is not positive, and where the
            selector left the latent out. A row's true L0 is the number of values above zero.
        latents: L, the size of the dictionary.
    """

    indices: Tensor
    values: Tensor
    latents: int

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.indices, self.values))

    def __repr__(self) -> str:
        *rows, width = self.values.shape
        many = f"{rows[0]:,} rows" if rows else "a single row"
        return f"Codes({many}, {width} of {self.latents:,} latents, {self.values.device})"

    def dense(self) -> Tensor:
        """The codes with all their zeros, (rows, latents)."""
        empty = torch.zeros(*self.values.shape[:-1], self.latents).to(self.values)
        return empty.scatter(-1, self.indices, self.values)

    def to_scipy(self) -> "sparse.csr_array":
        """The active latents as a sparse matrix of SciPy, (rows, latents); one row of a single one.

        Columns are latents, in ascending order within a row.
        """
        from scipy import sparse

        indices, values = (x.detach().cpu().reshape(-1, x.shape[-1]) for x in self)
        values = values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
        rows, places = (values > 0).nonzero(as_tuple=True)
        entries = values[rows, places], (rows, indices[rows, places])
        arrays = entries[0].numpy(), tuple(x.numpy() for x in entries[1])
        return sparse.coo_array(arrays, shape=(len(values), self.latents)).tocsr()

    def single(self) -> "Codes":
        """The codes of a single row without the dimension of rows."""
        return Codes(self.indices.squeeze(0), self.values.squeeze(0), self.latents)
