"""A step of Adam on weight rows, from the terms of their gradients."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# A kernel's parameters are pointers and numbers that only Triton's compiler gives types.

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparc.train.kernels.adam import BETA1, BETA2, EPSILON, AdamStep, Moments
from sparc.train.kernels.interface import WeightGradient
from sparc.train.kernels.triton.bags import LONG_BAG, bag_sum, mean_terms, weight_gradient
from sparc.train.kernels.triton.tiles import TILE, sum_type


@triton.jit
def update_kernel(
    weight,
    first_moments,
    second_moments,
    rows,
    values,
    offsets,
    vectors,
    summed,
    added_latents,
    added_rows,
    parallel,
    scale,
    factors,
    first_latent,
    dim,
    BETA1: tl.constexpr,
    BETA2: tl.constexpr,
    EPSILON: tl.constexpr,
    UNIT_ROWS: tl.constexpr,
    BLOCK_TERMS: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    SUM: tl.constexpr,
):
    """One latent: its gradient, Adam and the norm of its row, all dimensions in registers.

    `summed` are the sums of bags, from `first_latent` on, if they were computed before; `rows`,
    `values`, `offsets` and `vectors` are None then. `added_latents` says by latent which row of
    `added_rows` is added to its gradient, below zero for none. It may be None, as may `parallel`
    and `scale`. `factors` are those of `AdamStep`.
    """
    position = tl.program_id(0).to(tl.int64)
    latent = first_latent + position
    columns = tl.arange(0, BLOCK_DIM)
    in_dim = columns < dim
    own = latent * dim + columns
    # What is read first arrives while the bag is summed.
    moved = tl.load(weight + own, mask=in_dim, other=0.0).to(SUM)
    first = tl.load(first_moments + own, mask=in_dim, other=0.0).to(SUM)
    second = tl.load(second_moments + own, mask=in_dim, other=0.0).to(SUM)
    if summed is not None:
        gradient = tl.load(summed + position * dim + columns, mask=in_dim, other=0.0).to(SUM)
    else:
        gradient = bag_sum(rows, values, offsets, vectors, latent, columns, dim, BLOCK_TERMS, SUM)
    if added_latents is not None:
        place = tl.load(added_latents + latent)
        added = tl.load(added_rows + place * dim + columns, mask=in_dim & (place >= 0), other=0.0)
        gradient += added.to(SUM)
    if parallel is not None:
        gradient -= tl.load(parallel + latent).to(SUM) * moved
    if scale is not None:
        gradient *= tl.load(scale).to(SUM)
    first = BETA1 * first + (1 - BETA1) * gradient
    second = BETA2 * second + (1 - BETA2) * gradient * gradient
    root = tl.sqrt(second) / tl.load(factors + 1).to(SUM)
    moved -= tl.load(factors).to(SUM) * first / (root + EPSILON)
    if UNIT_ROWS:
        moved = moved / tl.sqrt(tl.sum(moved * moved))
    tl.store(first_moments + own, first.to(first_moments.dtype.element_ty), mask=in_dim)
    tl.store(second_moments + own, second.to(second_moments.dtype.element_ty), mask=in_dim)
    tl.store(weight + own, moved.to(weight.dtype.element_ty), mask=in_dim)


def update_blocks(dim: int, terms: int) -> dict[str, int]:
    """Tile sizes and warps of `update_kernel`: a block has all dimensions.

    Args:
        dim: Width of the weight.
        terms: Of a bag, on average.
    """
    columns = triton.next_power_of_2(dim)
    warps = 4 if columns <= 512 else 8 if columns <= 4096 else 16
    if terms < 1 and columns <= 1024:
        return {"BLOCK_TERMS": 2, "BLOCK_DIM": columns, "num_warps": 4}
    # Fewer terms at once would do for the average bag, but the longest has many times more.
    at_once = max(1, min(8, TILE // columns))
    return {"BLOCK_TERMS": at_once, "BLOCK_DIM": columns, "num_warps": warps}


def update(
    weight: Tensor,
    moments: Moments,
    gradient: WeightGradient,
    rows: slice,
    step: AdamStep,
    *,
    scale: Tensor | None,
    unit_rows: bool,
) -> None:
    dim = weight.shape[1]
    added_latents = gradient.added_latents
    if added_latents is not None:
        places = added_latents.new_full((len(weight),), -1)
        places[added_latents] = torch.arange(len(added_latents), device=added_latents.device)
        added_latents = places
    bags, vectors = gradient.bags, gradient.vectors
    terms: tuple[Tensor | None, ...] = (*bags, vectors.contiguous())
    summed = None
    if mean_terms(bags) >= LONG_BAG:
        terms = (None,) * 4
        summed = weight_gradient(bags, vectors, rows.start, rows.stop)
    update_kernel[(rows.stop - rows.start,)](
        weight,
        moments.first,
        moments.second,
        *terms,
        summed,
        added_latents,
        gradient.added_rows,
        gradient.parallel,
        scale,
        step.factors,
        rows.start,
        dim,
        BETA1=BETA1,
        BETA2=BETA2,
        EPSILON=EPSILON,
        UNIT_ROWS=unit_rows,
        SUM=sum_type(weight),
        **update_blocks(dim, mean_terms(bags)),
    )
