"""Sums over the bags of latents: gradients of weights, and sums of values."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# A kernel's parameters are pointers and numbers that only Triton's compiler gives types.

import triton
import triton.language as tl
from torch import Tensor

from sparc.train.kernels.interface import Bags, InverseIndex, side_by_side
from sparc.train.kernels.triton.tiles import sum_type

LONG_BAG = 32
"""Terms of a bag, on average, from which on sums are computed before `update_kernel`."""


@triton.jit
def bag_sum(
    rows,
    values,
    offsets,
    vectors,
    latent,
    columns,
    dim,
    BLOCK_TERMS: tl.constexpr,
    SUM: tl.constexpr,
):
    """Some columns of the sum over a latent's bag, (columns,).

    While vectors are on their way, so are the rows and values of the terms after them.
    """
    begin = tl.load(offsets + latent)
    end = tl.load(offsets + latent + 1)
    total = tl.zeros((BLOCK_TERMS, columns.shape[0]), SUM)
    terms = begin + tl.arange(0, BLOCK_TERMS)
    row = tl.load(rows + terms, mask=terms < end, other=0)
    value = tl.load(values + terms, mask=terms < end, other=0.0)
    for _ in range(begin, end, BLOCK_TERMS):
        table = tl.load(
            vectors + row[:, None] * dim + columns[None, :],
            mask=(terms < end)[:, None] & (columns < dim)[None, :],
            other=0.0,
        ).to(SUM)
        terms += BLOCK_TERMS
        row = tl.load(rows + terms, mask=terms < end, other=0)
        following = tl.load(values + terms, mask=terms < end, other=0.0)
        total += value.to(SUM)[:, None] * table
        value = following
    return tl.sum(total, axis=0)


@triton.jit
def weight_gradient_kernel(
    rows,
    values,
    offsets,
    vectors,
    out,
    first_latent,
    dim,
    BLOCK_TERMS: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    SUM: tl.constexpr,
):
    """One latent, one part of the dimensions: the sum over its bag.

    All latents of a part come before the next part: what is read of the vectors stays in the cache.
    """
    position = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK_DIM + tl.arange(0, BLOCK_DIM)
    total = bag_sum(
        rows,
        values,
        offsets,
        vectors,
        first_latent + position,
        columns,
        dim,
        BLOCK_TERMS,
        SUM,
    )
    where = out + position * dim + columns
    tl.store(where, total.to(out.dtype.element_ty), mask=columns < dim)


def weight_gradient_blocks(dim: int, terms: int) -> dict[str, int]:
    """Tile sizes and warps of `weight_gradient_kernel`, which change its speed only.

    Args:
        dim: Width of the vectors.
        terms: Of a bag, on average.
    """
    # Of short bags a program sums many dimensions. Of long ones it sums a few: what all programs
    # read meanwhile stays in the second-level cache, and a single long bag is shared.
    most = 512 if terms < LONG_BAG else 128
    columns: int = min(most, triton.next_power_of_2(dim))
    at_once = 8 if terms < LONG_BAG else 16 if terms < 4 * LONG_BAG else 32
    if columns < 64:  # such as of `latent_sums`
        at_once = min(256, 4 * at_once)
    return {"BLOCK_TERMS": at_once, "BLOCK_DIM": columns, "num_warps": 4 if columns >= 64 else 1}


def weight_gradient(bags: Bags, vectors: Tensor, first: int, last: int) -> Tensor:
    dim = vectors.shape[2]
    out = vectors.new_empty(last - first, dim)
    blocks = weight_gradient_blocks(dim, mean_terms(bags))
    weight_gradient_kernel[(last - first, triton.cdiv(dim, blocks["BLOCK_DIM"]))](
        bags.rows,
        bags.values,
        bags.offsets,
        vectors.contiguous(),
        out,
        first,
        dim,
        SUM=sum_type(vectors),
        **blocks,
    )
    return out


def latent_sums(inverse: InverseIndex, values: Tensor) -> Tensor:
    table = side_by_side(values)
    ones = table.new_ones(len(table))
    bags = Bags(inverse.order, ones, inverse.offsets)
    sums = weight_gradient(bags, table.unsqueeze(1), 0, len(inverse.offsets) - 1)
    return sums.T.contiguous()


def mean_terms(bags: Bags) -> int:
    """Mean number of terms of a bag, rounded down."""
    return len(bags.rows) // (len(bags.offsets) - 1)
