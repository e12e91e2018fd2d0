"""Codes that are decoded and compared at once with what they should have become."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# A kernel's parameters are pointers and numbers that only Triton's compiler gives types.

import triton
import triton.language as tl
from torch import Tensor

from sparc.train.kernels.interface import Compared
from sparc.train.kernels.triton.decode import decode_columns, dot_products
from sparc.train.kernels.triton.tiles import TILE, decode_terms, product_tile, vector_constants


@triton.jit
def _errors(
    indices,
    values,
    weight,
    targets,
    row,
    columns,
    k,
    dim,
    repeats,
    VECTORS: tl.constexpr,
    VECTORS_POW2: tl.constexpr,
    BLOCK_TERMS: tl.constexpr,
    SUM: tl.constexpr,
):
    """Some columns of decoded - targets, as `decode_columns`; past the last vector, anything."""
    decoded = decode_columns(
        indices, values, weight, row, columns, k, dim, VECTORS, VECTORS_POW2, BLOCK_TERMS, SUM
    )
    columns = columns[None, None, :]
    target = tl.load(targets + row // repeats * dim + columns, mask=columns < dim, other=0.0)
    return decoded - target.to(SUM)


@triton.jit
def square_errors_kernel(
    indices,
    values,
    weight,
    targets,
    square_errors,
    k,
    dim,
    repeats,
    VECTORS: tl.constexpr,
    VECTORS_POW2: tl.constexpr,
    DECODE_TERMS: tl.constexpr,
    DECODE_DIM: tl.constexpr,
    SUM: tl.constexpr,
):
    """One index row: what it decodes to is compared at once, and never written."""
    row = tl.program_id(0).to(tl.int64)
    squares = tl.zeros((VECTORS_POW2, 1), SUM)
    for first in range(0, dim, DECODE_DIM):
        columns = first + tl.arange(0, DECODE_DIM)
        errors = _errors(
            indices,
            values,
            weight,
            targets,
            row,
            columns,
            k,
            dim,
            repeats,
            VECTORS,
            VECTORS_POW2,
            DECODE_TERMS,
            SUM,
        )
        squares += tl.sum(errors * errors, axis=2)
    squares = squares.to(square_errors.dtype.element_ty)
    vectors = tl.arange(0, VECTORS_POW2)[:, None]
    tl.store(square_errors + row * VECTORS + vectors, squares, mask=vectors < VECTORS)


@triton.jit
def compare_kernel(
    indices,
    values,
    weight,
    targets,
    scales,
    square_errors,
    residuals,
    products,
    k,
    dim,
    repeats,
    VECTORS: tl.constexpr,
    VECTORS_POW2: tl.constexpr,
    DECODE_TERMS: tl.constexpr,
    DECODE_DIM: tl.constexpr,
    PRODUCT_TERMS: tl.constexpr,
    PRODUCT_DIM: tl.constexpr,
    SUM: tl.constexpr,
):
    """One index row: decoded and compared, then its residuals times the same weight rows again."""
    row = tl.program_id(0).to(tl.int64)
    vectors = tl.arange(0, VECTORS_POW2)[:, None, None]
    scale = tl.load(scales + row * VECTORS + vectors, mask=vectors < VECTORS, other=0.0).to(SUM)
    squares = tl.zeros((VECTORS_POW2, 1), SUM)
    for first in range(0, dim, DECODE_DIM):
        columns = first + tl.arange(0, DECODE_DIM)
        errors = _errors(
            indices,
            values,
            weight,
            targets,
            row,
            columns,
            k,
            dim,
            repeats,
            VECTORS,
            VECTORS_POW2,
            DECODE_TERMS,
            SUM,
        )
        squares += tl.sum(errors * errors, axis=2)
        residual = (errors * scale).to(residuals.dtype.element_ty)
        columns = columns[None, None, :]
        where = residuals + (row * VECTORS + vectors) * dim + columns
        tl.store(where, residual, mask=(vectors < VECTORS) & (columns < dim))
    vectors = tl.arange(0, VECTORS_POW2)[:, None]
    squares = squares.to(square_errors.dtype.element_ty)
    tl.store(square_errors + row * VECTORS + vectors, squares, mask=vectors < VECTORS)

    tl.debug_barrier()  # threads read residuals that others wrote
    for first in range(0, k, PRODUCT_TERMS):
        terms = first + tl.arange(0, PRODUCT_TERMS)
        product = dot_products(
            indices, residuals, weight, row, terms, k, dim, VECTORS, VECTORS_POW2, PRODUCT_DIM, SUM
        )
        terms = terms[None, :]
        where = products + (row * VECTORS + vectors) * k + terms
        mask = (vectors < VECTORS) & (terms < k)
        tl.store(where, product.to(products.dtype.element_ty), mask=mask)


def square_errors_blocks(vectors: int, dim: int) -> dict[str, int]:
    """Tile sizes and warps of `square_errors_kernel`, which change its speed only."""
    columns = min(1024, triton.next_power_of_2(dim), TILE // triton.next_power_of_2(vectors))
    warps = 8 if columns > 512 else 4
    return {
        "DECODE_TERMS": decode_terms(vectors, warps),
        "DECODE_DIM": columns,
        "num_warps": warps,
    }


def compare_blocks(vectors: int, dim: int) -> dict[str, int]:
    """Tile sizes and warps of `compare_kernel`, which change its speed only."""
    decoding = square_errors_blocks(vectors, dim)
    terms, columns = product_tile(vectors, decoding["num_warps"])
    return {**decoding, "PRODUCT_TERMS": terms, "PRODUCT_DIM": columns}


def square_errors(indices: Tensor, values: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    rows, vectors, k = values.shape
    dim = weight.shape[1]
    square_errors = weight.new_empty(rows, vectors)
    square_errors_kernel[(rows,)](
        indices.contiguous(),
        values.contiguous(),
        weight,
        targets.contiguous(),
        square_errors,
        k,
        dim,
        rows // len(targets),
        **vector_constants(vectors, weight),
        **square_errors_blocks(vectors, dim),
    )
    return square_errors


def compare(
    indices: Tensor, values: Tensor, weight: Tensor, targets: Tensor, scales: Tensor
) -> Compared:
    rows, vectors, k = values.shape
    dim = weight.shape[1]
    square_errors = weight.new_empty(rows, vectors)
    residuals = weight.new_empty(rows, vectors, dim)
    products = weight.new_empty(rows, vectors, k)
    compare_kernel[(rows,)](
        indices.contiguous(),
        values.contiguous(),
        weight,
        targets.contiguous(),
        scales.contiguous(),
        square_errors,
        residuals,
        products,
        k,
        dim,
        rows // len(targets),
        **vector_constants(vectors, weight),
        **compare_blocks(vectors, dim),
    )
    return Compared(square_errors, residuals, products)
