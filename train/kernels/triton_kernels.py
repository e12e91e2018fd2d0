"""The sparse mathematics in Triton, for GPUs.

No kernel uses atomics: every output element is summed by one program in a fixed order. Sums are
kept in float32 (float64 for float64 inputs), whatever the inputs are. Importing this module needs
Triton; with TRITON_INTERPRET=1 the kernels run on a CPU, slowly.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# A kernel's parameters are pointers and numbers that only Triton's compiler gives types.

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparc.train.kernels.interface import Bags

_BLOCK_DIM = 128
_BLOCK_TERMS = 8
"""Weight rows, or terms of a bag, that a program has in flight."""

# Constants of a kernel are spelled in capitals, as is the custom in Triton (hence noqa: N803).


@triton.jit
def decode_kernel(
    indices,
    values,
    weight,
    out,
    k,
    dim,
    VECTORS: tl.constexpr,  # noqa: N803
    VECTORS_POW2: tl.constexpr,  # noqa: N803
    BLOCK_DIM: tl.constexpr,  # noqa: N803
    SUM: tl.constexpr,  # noqa: N803
):
    """One index row, one part of the dimensions: each weight row is read once for all vectors."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK_DIM + tl.arange(0, BLOCK_DIM)
    vectors = tl.arange(0, VECTORS_POW2)
    in_dim = columns < dim
    in_vectors = vectors < VECTORS
    total = tl.zeros((VECTORS_POW2, BLOCK_DIM), dtype=SUM)
    for j in range(k):
        latent = tl.load(indices + row * k + j)
        direction = tl.load(weight + latent * dim + columns, mask=in_dim, other=0.0).to(SUM)
        value = tl.load(values + (row * VECTORS + vectors) * k + j, mask=in_vectors, other=0.0)
        total += value.to(SUM)[:, None] * direction[None, :]
    where = out + (row * VECTORS + vectors)[:, None] * dim + columns[None, :]
    tl.store(where, total.to(out.dtype.element_ty), mask=in_vectors[:, None] & in_dim[None, :])


@triton.jit
def value_gradients_kernel(
    indices,
    vectors,
    weight,
    out,
    k,
    dim,
    VECTORS: tl.constexpr,  # noqa: N803
    VECTORS_POW2: tl.constexpr,  # noqa: N803
    BLOCK_TERMS: tl.constexpr,  # noqa: N803
    BLOCK_DIM: tl.constexpr,  # noqa: N803
    SUM: tl.constexpr,  # noqa: N803
):
    """One index row, some of its latents: each weight row is read once for all vectors."""
    row = tl.program_id(0).to(tl.int64)
    terms = tl.program_id(1) * BLOCK_TERMS + tl.arange(0, BLOCK_TERMS)
    lanes = tl.arange(0, VECTORS_POW2)
    in_terms = terms < k
    in_vectors = lanes < VECTORS
    latents = tl.load(indices + row * k + terms, mask=in_terms, other=0)
    total = tl.zeros((VECTORS_POW2, BLOCK_TERMS), dtype=SUM)
    for first in range(0, dim, BLOCK_DIM):
        columns = first + tl.arange(0, BLOCK_DIM)
        in_dim = columns < dim
        directions = tl.load(
            weight + latents[:, None] * dim + columns[None, :],
            mask=in_terms[:, None] & in_dim[None, :],
            other=0.0,
        ).to(SUM)
        along = tl.load(
            vectors + (row * VECTORS + lanes)[:, None] * dim + columns[None, :],
            mask=in_vectors[:, None] & in_dim[None, :],
            other=0.0,
        ).to(SUM)
        total += tl.sum(directions[None, :, :] * along[:, None, :], axis=2)
    where = out + (row * VECTORS + lanes)[:, None] * k + terms[None, :]
    tl.store(where, total.to(out.dtype.element_ty), mask=in_vectors[:, None] & in_terms[None, :])


@triton.jit
def weight_gradient_kernel(
    rows,
    values,
    offsets,
    vectors,
    out,
    first,
    dim,
    BLOCK_TERMS: tl.constexpr,  # noqa: N803
    BLOCK_DIM: tl.constexpr,  # noqa: N803
    SUM: tl.constexpr,  # noqa: N803
):
    """One latent, one part of the dimensions: the sum over its bag."""
    position = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK_DIM + tl.arange(0, BLOCK_DIM)
    in_dim = columns < dim
    begin = tl.load(offsets + first + position)
    end = tl.load(offsets + first + position + 1)
    total = tl.zeros((BLOCK_DIM,), dtype=SUM)
    for start in range(begin, end, BLOCK_TERMS):
        terms = start + tl.arange(0, BLOCK_TERMS)
        in_bag = terms < end
        row = tl.load(rows + terms, mask=in_bag, other=0)
        value = tl.load(values + terms, mask=in_bag, other=0.0).to(SUM)
        table = tl.load(
            vectors + row[:, None] * dim + columns[None, :],
            mask=in_bag[:, None] & in_dim[None, :],
            other=0.0,
        ).to(SUM)
        total += tl.sum(value[:, None] * table, axis=0)
    tl.store(out + position * dim + columns, total.to(out.dtype.element_ty), mask=in_dim)


class TritonKernels:
    """Implements `sparc.train.kernels.interface.Kernels`."""

    name = "triton"

    def decode(self, indices: Tensor, values: Tensor, weight: Tensor) -> Tensor:
        """See `Kernels.decode`."""
        rows, vectors, k = values.shape
        dim = weight.shape[1]
        out = weight.new_empty(rows, vectors, dim)
        decode_kernel[(rows, triton.cdiv(dim, _BLOCK_DIM))](
            indices.contiguous(),
            values.contiguous(),
            weight,
            out,
            k,
            dim,
            VECTORS=vectors,
            VECTORS_POW2=triton.next_power_of_2(vectors),
            BLOCK_DIM=_BLOCK_DIM,
            SUM=_sum_type(weight),
        )
        return out

    def value_gradients(self, indices: Tensor, vectors: Tensor, weight: Tensor) -> Tensor:
        """See `Kernels.value_gradients`."""
        rows, count, dim = vectors.shape
        k = indices.shape[1]
        out = vectors.new_empty(rows, count, k)
        value_gradients_kernel[(rows, triton.cdiv(k, _BLOCK_TERMS))](
            indices.contiguous(),
            vectors.contiguous(),
            weight,
            out,
            k,
            dim,
            VECTORS=count,
            VECTORS_POW2=triton.next_power_of_2(count),
            BLOCK_TERMS=_BLOCK_TERMS,
            BLOCK_DIM=_BLOCK_DIM,
            SUM=_sum_type(weight),
        )
        return out

    def weight_gradient(self, bags: Bags, vectors: Tensor, first: int, last: int) -> Tensor:
        """See `Kernels.weight_gradient`."""
        dim = vectors.shape[2]
        out = vectors.new_empty(last - first, dim)
        weight_gradient_kernel[(last - first, triton.cdiv(dim, _BLOCK_DIM))](
            bags.rows,
            bags.values,
            bags.offsets,
            vectors.contiguous(),
            out,
            first,
            dim,
            BLOCK_TERMS=_BLOCK_TERMS,
            BLOCK_DIM=_BLOCK_DIM,
            SUM=_sum_type(vectors),
        )
        return out

    def block_rows(self, weight: Tensor) -> int:
        """See `Kernels.block_rows`."""
        return len(weight)

    def is_dense(self, latents: int, k: int) -> bool:  # noqa: ARG002
        """See `Kernels.is_dense`."""
        return False

    def batch_rows(self, batch: Tensor) -> int:
        """See `Kernels.batch_rows`."""
        return len(batch)


def _sum_type(tensor: Tensor) -> tl.dtype:
    return tl.float64 if tensor.dtype == torch.float64 else tl.float32
