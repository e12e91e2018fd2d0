"""Types and tiles that the kernels share.

Tiles are as large as they can be, for reads in flight, without a register being spilled. Of an
operand with fewer elements than threads every thread loads what it needs itself; a larger one
would go through shared memory in every turn of a loop.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

if not hasattr(tl, "tuple"):
    raise ImportError("this version of Triton is too old: its kernels cannot be given tuples")

TILE = 8192
"""Elements of a tile in registers: 32 a thread of 8 warps."""


def decode_terms(vectors: int, warps: int) -> int:
    """Weight rows of a tile whose values are fewer than the threads."""
    lanes: int = triton.next_power_of_2(vectors)
    return max(1, min(8 if lanes <= 2 else 4, 16 * warps // lanes))


def product_tile(vectors: int, warps: int) -> tuple[int, int]:
    """Weight rows and dimensions of a tile whose vectors have fewer elements than the threads."""
    lanes: int = triton.next_power_of_2(vectors)
    return 8 * warps, max(1, 16 * warps // lanes)


def vector_constants(vectors: int, weight: Tensor) -> dict[str, object]:
    """The constants of kernels on index rows that carry V vectors."""
    return {
        "VECTORS": vectors,
        "VECTORS_POW2": triton.next_power_of_2(vectors),
        "SUM": sum_type(weight),
    }


def sum_type(tensor: Tensor) -> tl.dtype:
    """The type in which numbers of a tensor's type are summed."""
    return tl.float64 if tensor.dtype == torch.float64 else tl.float32
