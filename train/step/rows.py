"""Slicing the rows of a batch, and joining the results."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sparc.common.workers import Workers
from sparc.train.kernels.interface import Kernels


def share_rows(batch: Tensor, kernels: Kernels, workers: Workers) -> list[slice]:
    """The rows of a batch in parts: one for every worker at least, and none too large."""
    each = -(-len(batch) // workers.threads)
    return row_slices(len(batch), max(1, min(each, kernels.batch_rows(batch))))


def row_slices(rows: int, size: int) -> list[slice]:
    """Rows `size` at a time; never nothing at all."""
    return [slice(first, min(first + size, rows)) for first in range(0, max(rows, 1), size)]


def rows_of(tensors: tuple[Tensor, ...], rows: slice) -> tuple[Tensor, ...]:
    """Some rows of every tensor."""
    return tuple(tensor[rows] for tensor in tensors)


def join_streams(parts: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Several tensors with the rows of a batch, from those of its parts in order."""
    return tuple(map(join_rows, zip(*parts, strict=True)))


def join_rows(parts: Sequence[Tensor]) -> Tensor:
    """A tensor with the rows of a batch, from those of its parts in order."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
