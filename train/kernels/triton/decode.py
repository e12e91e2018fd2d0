"""Sums of weight rows, and dot products with them."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# A kernel's parameters are pointers and numbers that only Triton's compiler gives types.

import triton
import triton.language as tl
from torch import Tensor

from sparc.train.kernels.triton.tiles import decode_terms, product_tile, vector_constants


@triton.jit
def decode_columns(
    indices,
    values,
    weight,
    row,
    columns,
    k,
    dim,
    VECTORS: tl.constexpr,
    VECTORS_POW2: tl.constexpr,
    BLOCK_TERMS: tl.constexpr,
    SUM: tl.constexpr,
):
    """Some columns of what an index row decodes to, (VECTORS_POW2, 1, columns)."""
    vectors = tl.arange(0, VECTORS_POW2)[:, None, None]
    columns = columns[None, None, :]
    total = tl.zeros((VECTORS_POW2, 1, columns.shape[2]), SUM)
    for first in range(0, k, BLOCK_TERMS):
        terms = first + tl.arange(0, BLOCK_TERMS)[None, :, None]
        latents = tl.load(indices + row * k + terms, mask=terms < k, other=0)
        directions = tl.load(
            weight + latents * dim + columns, mask=(terms < k) & (columns < dim), other=0.0
        ).to(SUM)
        value = tl.load(
            values + (row * VECTORS + vectors) * k + terms,
            mask=(vectors < VECTORS) & (terms < k),
            other=0.0,
        ).to(SUM)
        total += tl.sum(value * directions, axis=1, keep_dims=True)
    return total


@triton.jit
def dot_products(
    indices,
    vectors,
    weight,
    row,
    terms,
    k,
    dim,
    VECTORS: tl.constexpr,
    VECTORS_POW2: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    SUM: tl.constexpr,
):
    """Products of an index row's vectors with some of its weight rows, (VECTORS_POW2, terms)."""
    lanes = tl.arange(0, VECTORS_POW2)[:, None, None]
    total = tl.zeros((VECTORS_POW2, terms.shape[0], BLOCK_DIM), SUM)
    terms = terms[None, :, None]
    latents = tl.load(indices + row * k + terms, mask=terms < k, other=0)
    for first in range(0, dim, BLOCK_DIM):
        columns = first + tl.arange(0, BLOCK_DIM)[None, None, :]
        directions = tl.load(
            weight + latents * dim + columns, mask=(terms < k) & (columns < dim), other=0.0
        ).to(SUM)
        vector = tl.load(
            vectors + (row * VECTORS + lanes) * dim + columns,
            mask=(lanes < VECTORS) & (columns < dim),
            other=0.0,
        ).to(SUM)
        total += directions * vector
    return tl.sum(total, axis=2)


@triton.jit
def decode_kernel(
    indices,
    values,
    weight,
    out,
    k,
    dim,
    VECTORS: tl.constexpr,
    VECTORS_POW2: tl.constexpr,
    BLOCK_TERMS: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    SUM: tl.constexpr,
):
    """One index row, one part of the dimensions."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK_DIM + tl.arange(0, BLOCK_DIM)
    decoded = decode_columns(
        indices, values, weight, row, columns, k, dim, VECTORS, VECTORS_POW2, BLOCK_TERMS, SUM
    )
    vectors = tl.arange(0, VECTORS_POW2)[:, None, None]
    columns = columns[None, None, :]
    where = out + (row * VECTORS + vectors) * dim + columns
    tl.store(where, decoded.to(out.dtype.element_ty), mask=(vectors < VECTORS) & (columns < dim))


@triton.jit
def value_gradients_kernel(
    indices,
    vectors,
    weight,
    out,
    k,
    dim,
    VECTORS: tl.constexpr,
    VECTORS_POW2: tl.constexpr,
    BLOCK_TERMS: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    SUM: tl.constexpr,
):
    """One index row, some of its latents."""
    row = tl.program_id(0).to(tl.int64)
    terms = tl.program_id(1) * BLOCK_TERMS + tl.arange(0, BLOCK_TERMS)
    products = dot_products(
        indices, vectors, weight, row, terms, k, dim, VECTORS, VECTORS_POW2, BLOCK_DIM, SUM
    )
    lanes = tl.arange(0, VECTORS_POW2)[:, None]
    terms = terms[None, :]
    where = out + (row * VECTORS + lanes) * k + terms
    tl.store(where, products.to(out.dtype.element_ty), mask=(lanes < VECTORS) & (terms < k))


def decode_blocks(vectors: int) -> dict[str, int]:
    """Tile sizes and warps of `decode_kernel`, which change its speed only."""
    return {"BLOCK_TERMS": decode_terms(vectors, 4), "BLOCK_DIM": 512, "num_warps": 4}


def value_gradients_blocks(vectors: int) -> dict[str, int]:
    """Tile sizes and warps of `value_gradients_kernel`, which change its speed only."""
    terms, columns = product_tile(vectors, 4)
    return {"BLOCK_TERMS": terms, "BLOCK_DIM": columns, "num_warps": 4}


def decode(indices: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    rows, vectors, k = values.shape
    dim = weight.shape[1]
    out = weight.new_empty(rows, vectors, dim)
    blocks = decode_blocks(vectors)
    decode_kernel[(rows, triton.cdiv(dim, blocks["BLOCK_DIM"]))](
        indices.contiguous(),
        values.contiguous(),
        weight,
        out,
        k,
        dim,
        **vector_constants(vectors, weight),
        **blocks,
    )
    return out


def value_gradients(indices: Tensor, vectors: Tensor, weight: Tensor) -> Tensor:
    rows, count, dim = vectors.shape
    k = indices.shape[1]
    out = vectors.new_empty(rows, count, k)
    blocks = value_gradients_blocks(count)
    value_gradients_kernel[(rows, triton.cdiv(k, blocks["BLOCK_TERMS"]))](
        indices.contiguous(),
        vectors.contiguous(),
        weight,
        out,
        k,
        dim,
        **vector_constants(count, weight),
        **blocks,
    )
    return out
