"""Slicing the rows of a batch, and joining the results."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sparc.common.workers import Workers
from sparc.train.kernels.interface import Kernels


def share_rows(batch: Tensor, kernels: Kernels, workers: Workers) -> list[slice]:
    """Parts of a batch: at least one per worker, none larger than suits the kernels."""
    per_worker = -(-len(batch) // workers.threads)
    return row_slices(len(batch), max(1, min(per_worker, kernels.batch_rows(batch))))


def row_slices(rows: int, size: int) -> list[slice]:
    """Slices of `size` rows; one empty slice for no rows."""
    return [slice(first, min(first + size, rows)) for first in range(0, max(rows, 1), size)]


def rows_of(tensors: tuple[Tensor, ...], rows: slice) -> tuple[Tensor, ...]:
    """The same rows of every tensor."""
    return tuple(tensor[rows] for tensor in tensors)


def join_streams(parts: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Join consecutive parts of several tensors."""
    return tuple(map(join_rows, zip(*parts, strict=True)))


def join_rows(parts: Sequence[Tensor]) -> Tensor:
    """Join consecutive parts of a tensor."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
