"""The sparse mathematics in Triton, for GPUs.

No kernel uses atomics: every output element is worked out by one program in a fixed order. Sums are
kept in float32 (float64 for float64 inputs), whatever the inputs are. Importing this module needs
Triton; with TRITON_INTERPRET=1 the kernels run on a CPU, slowly.

The kernels move bytes and hardly compute. So a weight row is read once for all the vectors of its
index row, several rows are in flight at a time, and what a program reads twice it read a moment ago
and finds in a cache. Tiles are laid out so that a sum is kept element by element in registers as
long as possible, and goes across threads once at the end.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# A kernel's parameters are pointers and numbers that only Triton's compiler gives types.

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparc.train.kernels.adam import BETA1, BETA2, EPSILON, AdamStep, Moments
from sparc.train.kernels.interface import (
    Bags,
    Compared,
    InverseIndex,
    WeightGradient,
    side_by_side,
)

if not hasattr(tl, "tuple"):
    raise ImportError("this version of Triton is too old: its kernels cannot be given tuples")

_ROW_LATENTS = 1024
"""Most latents of a row that a program of `select` keeps in registers."""
_GROUPS = 1024
"""Groups of latents, at most, where there are more, ..."""
_BLOCK_LATENTS = 2048
"""... and latents that are looked at at once."""
_TILE = 8192
"""Elements of a tile in registers: 32 a thread of 8 warps."""
_LONG_BAG = 32
"""Terms of a bag, on average, from which on sums are worked out before `update_kernel`."""

# Constants of a kernel are spelled in capitals, as is the custom in Triton (hence noqa: N803).


# ------------------------------------------------------------------------------------ selection


@triton.jit
def _sort_keys(
    products,
    bias,
    row,
    lanes,
    inside,
    latents,
    STREAMS: tl.constexpr,  # noqa: N803
    SUM: tl.constexpr,  # noqa: N803
    KEY: tl.constexpr,  # noqa: N803
):
    """Sums of the streams' logits as unsigned integers in the same order.

    Zero, which lies below every number, stands for latents that are not `inside`. Zeros of both
    signs are equal; NaN counts as infinite.
    """
    total = tl.load(products[0] + row * latents + lanes, mask=inside, other=0.0).to(SUM)
    for stream in tl.static_range(1, STREAMS):
        total += tl.load(products[stream] + row * latents + lanes, mask=inside, other=0.0).to(SUM)
    total += tl.load(bias + lanes, mask=inside, other=0.0).to(SUM)
    total = tl.where(total != total, float("inf"), total)
    total = tl.where(total == 0.0, 0.0, total)
    bits = total.to(KEY, bitcast=True)
    sign = tl.full((), 1, KEY) << (KEY.primitive_bitwidth - 1)
    # The sign bit is turned over, and of a negative number all others too.
    turned = bits ^ tl.where(bits < sign, sign, sign | (sign - 1))
    return tl.where(inside, turned, 0)


@triton.jit
def _counts(keys, largest, unit):
    """How many keys reach `largest` plus one, two and three units, a unit being a power of two.

    The three counts, of at most 2^20 keys, are summed as one number: threads meet once.
    """
    packed = (keys >= (largest | unit)).to(tl.int64)
    packed += (keys >= (largest | (unit << 1))).to(tl.int64) << 21
    packed += (keys >= (largest | unit | (unit << 1))).to(tl.int64) << 42
    counts = tl.sum(packed)
    most: tl.constexpr = (1 << 21) - 1
    return (
        (counts & most).to(tl.int32),
        ((counts >> 21) & most).to(tl.int32),
        (counts >> 42).to(tl.int32),
    )


@triton.jit
def _next_digit(largest, larger, unit, one, two, three, k):
    """`largest` plus as many units as k keys reach, and how many keys reach the number above."""
    high = tl.where(two >= k, unit << 1, unit & 0)
    low = tl.where(tl.where(two >= k, three, one) >= k, unit, unit & 0)
    above = tl.where(two >= k, three, tl.where(one >= k, two, one))
    larger = tl.where(three >= k, larger, above)
    return largest | high | low, larger


@triton.jit
def _kth_largest(keys, k, KEY: tl.constexpr):  # noqa: N803
    """The k-th largest key, zero where there are fewer than k, and how many are larger than it.

    It is built two bits at a time from the highest: the largest digit that k keys still reach.
    """
    largest = tl.full((), 0, KEY)
    larger = 0
    unit = tl.full((), 1, KEY) << (KEY.primitive_bitwidth - 2)
    for _ in range(KEY.primitive_bitwidth // 2):
        one, two, three = _counts(keys, largest, unit)
        largest, larger = _next_digit(largest, larger, unit, one, two, three, k)
        unit = unit >> 2
    return largest, larger


@triton.jit
def _kth_largest_in_memory(keys, length, k, KEY: tl.constexpr, BLOCK: tl.constexpr):  # noqa: N803
    """`_kth_largest` of keys that lie in memory."""
    largest = tl.full((), 0, KEY)
    larger = 0
    unit = tl.full((), 1, KEY) << (KEY.primitive_bitwidth - 2)
    for _ in range(KEY.primitive_bitwidth // 2):
        one, two, three = 0, 0, 0
        for first in range(0, length, BLOCK):
            lanes = first + tl.arange(0, BLOCK)
            key = tl.load(keys + lanes, mask=lanes < length, other=0)
            some = _counts(key, largest, unit)
            one, two, three = one + some[0], two + some[1], three + some[2]
        largest, larger = _next_digit(largest, larger, unit, one, two, three, k)
        unit = unit >> 2
    return largest, larger


@triton.jit
def _keep_largest(
    found,
    least,
    room,
    latents_of_keys,
    inside,
    before,
    equal_before,
    products,
    biases,
    indices,
    values,
    row,
    latents,
    k,
    STREAMS: tl.constexpr,  # noqa: N803
    SUM: tl.constexpr,  # noqa: N803
):
    """Write those of some keys that are among the k largest, and the logits of their latents.

    `before` of the row were written, and `room` of those that equal the least may be in all. The
    number that was written, and of equal ones that were seen.
    """
    equal = ((found == least) & inside).to(tl.int32)
    in_time = equal_before + tl.cumsum(equal) <= room
    chosen = inside & ((found > least) | ((found == least) & in_time))
    place = before + tl.cumsum(chosen.to(tl.int32)) - 1
    tl.store(indices + row * k + place, latents_of_keys.to(tl.int64), mask=chosen)
    for stream in tl.static_range(STREAMS):
        own = products[stream] + row * latents
        logit = tl.load(own + latents_of_keys, mask=chosen, other=0.0)
        bias = tl.load(biases[stream] + latents_of_keys, mask=chosen, other=0.0)
        value = logit.to(SUM) + bias.to(SUM)
        value = tl.where(value < 0.0, 0.0, value)  # NaN stays: it is to be seen in the loss
        where = values + (row * STREAMS + stream) * k + place
        tl.store(where, value.to(values.dtype.element_ty), mask=chosen)
    return tl.sum(chosen.to(tl.int32)), tl.sum(equal)


@triton.jit
def select_kernel(
    products,
    biases,
    bias,
    indices,
    values,
    latents,
    k,
    STREAMS: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
    SUM: tl.constexpr,  # noqa: N803
    KEY: tl.constexpr,  # noqa: N803
):
    """One row in registers: the k latents with the largest sums, ascending; ties by latent.

    `bias` is the sum of `biases`.
    """
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    inside = lanes < latents
    keys = _sort_keys(products, bias, row, lanes, inside, latents, STREAMS, SUM, KEY)
    least, larger = _kth_largest(keys, k, KEY)
    _keep_largest(
        keys,
        least,
        k - larger,
        lanes,
        inside,
        0,
        0,
        products,
        biases,
        indices,
        values,
        row,
        latents,
        k,
        STREAMS,
        SUM,
    )


@triton.jit
def select_from_many_kernel(
    products,
    biases,
    bias,
    keys,
    candidates,
    indices,
    values,
    latents,
    k,
    STREAMS: tl.constexpr,  # noqa: N803
    GROUP: tl.constexpr,  # noqa: N803
    GROUPS: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
    FEW: tl.constexpr,  # noqa: N803
    SUM: tl.constexpr,  # noqa: N803
    KEY: tl.constexpr,  # noqa: N803
):
    """One row: as `select_kernel`, for rows that are too long for registers.

    The row is read once, for the maxima of groups of neighbours: the k-th largest maximum is a
    floor under the k-th largest sum. Then the groups that reach the floor are read again, and their
    sums that reach it become candidates. That are few more than k of either, or all at the worst;
    `keys` and `candidates` have room for that.
    """
    row = tl.program_id(0).to(tl.int64)
    keys += row * latents
    candidates += row * latents
    for first in range(0, latents, BLOCK):
        groups = first // GROUP + tl.arange(0, BLOCK // GROUP)
        lanes = groups[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
        inside = lanes < latents
        found = _sort_keys(products, bias, row, lanes, inside, latents, STREAMS, SUM, KEY)
        tl.store(keys + groups, tl.max(found, axis=1), mask=groups * GROUP < latents)
    tl.debug_barrier()  # threads read what others wrote
    groups = tl.arange(0, GROUPS)
    maxima = tl.load(keys + groups, mask=groups * GROUP < latents, other=0)
    floor, _ = _kth_largest(maxima, k, KEY)
    is_chosen = ((maxima >= floor) & (groups * GROUP < latents)).to(tl.int32)
    reaching = tl.sum(is_chosen)
    # In the last places, which candidates come to only after these were read.
    chosen = candidates + latents - reaching
    tl.store(chosen + tl.cumsum(is_chosen) - 1, groups, mask=is_chosen > 0)
    tl.debug_barrier()

    count = 0
    for first in range(0, reaching, FEW // GROUP):
        of_chosen = first + tl.arange(0, FEW // GROUP)
        group = tl.load(chosen + of_chosen, mask=of_chosen < reaching, other=0)
        lanes = group[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
        lanes = tl.reshape(lanes, (FEW,))
        given = tl.reshape(
            tl.broadcast_to((of_chosen < reaching)[:, None], (FEW // GROUP, GROUP)), (FEW,)
        )
        inside = given & (lanes < latents)
        found = _sort_keys(products, bias, row, lanes, inside, latents, STREAMS, SUM, KEY)
        reaches = (found >= floor) & inside
        place = count + tl.cumsum(reaches.to(tl.int32)) - 1
        tl.debug_barrier()  # all have read which groups were chosen
        tl.store(keys + place, found, mask=reaches)
        tl.store(candidates + place, lanes, mask=reaches)
        count += tl.sum(reaches.to(tl.int32))
    tl.debug_barrier()

    least, larger = _kth_largest_in_memory(keys, count, k, KEY, FEW)
    before, equal_before = 0, 0
    for first in range(0, count, FEW):
        lanes = first + tl.arange(0, FEW)
        found = tl.load(keys + lanes, mask=lanes < count, other=0)
        latents_of_keys = tl.load(candidates + lanes, mask=lanes < count, other=0)
        written, equal = _keep_largest(
            found,
            least,
            k - larger,
            latents_of_keys,
            lanes < count,
            before,
            equal_before,
            products,
            biases,
            indices,
            values,
            row,
            latents,
            k,
            STREAMS,
            SUM,
        )
        before += written
        equal_before += equal


# ------------------------------------------------------------------- decoding and its derivatives


@triton.jit
def _decode(
    indices,
    values,
    weight,
    row,
    columns,
    k,
    dim,
    VECTORS: tl.constexpr,  # noqa: N803
    VECTORS_POW2: tl.constexpr,  # noqa: N803
    BLOCK_TERMS: tl.constexpr,  # noqa: N803
    SUM: tl.constexpr,  # noqa: N803
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
def _errors(
    indices,
    values,
    weight,
    wanted,
    row,
    columns,
    k,
    dim,
    repeats,
    VECTORS: tl.constexpr,  # noqa: N803
    VECTORS_POW2: tl.constexpr,  # noqa: N803
    BLOCK_TERMS: tl.constexpr,  # noqa: N803
    SUM: tl.constexpr,  # noqa: N803
):
    """Some columns of decoded - wanted, shaped as by `_decode`; past the last vector, anything."""
    decoded = _decode(
        indices, values, weight, row, columns, k, dim, VECTORS, VECTORS_POW2, BLOCK_TERMS, SUM
    )
    columns = columns[None, None, :]
    target = tl.load(wanted + row // repeats * dim + columns, mask=columns < dim, other=0.0)
    return decoded - target.to(SUM)


@triton.jit
def _dot_products(
    indices,
    vectors,
    weight,
    row,
    terms,
    k,
    dim,
    VECTORS: tl.constexpr,  # noqa: N803
    VECTORS_POW2: tl.constexpr,  # noqa: N803
    BLOCK_DIM: tl.constexpr,  # noqa: N803
    SUM: tl.constexpr,  # noqa: N803
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
        along = tl.load(
            vectors + (row * VECTORS + lanes) * dim + columns,
            mask=(lanes < VECTORS) & (columns < dim),
            other=0.0,
        ).to(SUM)
        total += directions * along
    return tl.sum(total, axis=2)


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
    BLOCK_TERMS: tl.constexpr,  # noqa: N803
    BLOCK_DIM: tl.constexpr,  # noqa: N803
    SUM: tl.constexpr,  # noqa: N803
):
    """One index row, one part of the dimensions."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK_DIM + tl.arange(0, BLOCK_DIM)
    decoded = _decode(
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
    VECTORS: tl.constexpr,  # noqa: N803
    VECTORS_POW2: tl.constexpr,  # noqa: N803
    BLOCK_TERMS: tl.constexpr,  # noqa: N803
    BLOCK_DIM: tl.constexpr,  # noqa: N803
    SUM: tl.constexpr,  # noqa: N803
):
    """One index row, some of its latents."""
    row = tl.program_id(0).to(tl.int64)
    terms = tl.program_id(1) * BLOCK_TERMS + tl.arange(0, BLOCK_TERMS)
    products = _dot_products(
        indices, vectors, weight, row, terms, k, dim, VECTORS, VECTORS_POW2, BLOCK_DIM, SUM
    )
    lanes = tl.arange(0, VECTORS_POW2)[:, None]
    terms = terms[None, :]
    where = out + (row * VECTORS + lanes) * k + terms
    tl.store(where, products.to(out.dtype.element_ty), mask=(lanes < VECTORS) & (terms < k))


@triton.jit
def square_errors_kernel(
    indices,
    values,
    weight,
    wanted,
    square_errors,
    k,
    dim,
    repeats,
    VECTORS: tl.constexpr,  # noqa: N803
    VECTORS_POW2: tl.constexpr,  # noqa: N803
    DECODE_TERMS: tl.constexpr,  # noqa: N803
    DECODE_DIM: tl.constexpr,  # noqa: N803
    SUM: tl.constexpr,  # noqa: N803
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
            wanted,
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
    wanted,
    scales,
    square_errors,
    residuals,
    products,
    k,
    dim,
    repeats,
    VECTORS: tl.constexpr,  # noqa: N803
    VECTORS_POW2: tl.constexpr,  # noqa: N803
    DECODE_TERMS: tl.constexpr,  # noqa: N803
    DECODE_DIM: tl.constexpr,  # noqa: N803
    PRODUCT_TERMS: tl.constexpr,  # noqa: N803
    PRODUCT_DIM: tl.constexpr,  # noqa: N803
    SUM: tl.constexpr,  # noqa: N803
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
            wanted,
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
        product = _dot_products(
            indices, residuals, weight, row, terms, k, dim, VECTORS, VECTORS_POW2, PRODUCT_DIM, SUM
        )
        terms = terms[None, :]
        where = products + (row * VECTORS + vectors) * k + terms
        mask = (vectors < VECTORS) & (terms < k)
        tl.store(where, product.to(products.dtype.element_ty), mask=mask)


# ------------------------------------------------------------------ weight gradients and the step


@triton.jit
def _bag_sum(
    rows,
    values,
    offsets,
    vectors,
    latent,
    columns,
    dim,
    BLOCK_TERMS: tl.constexpr,  # noqa: N803
    SUM: tl.constexpr,  # noqa: N803
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
    BLOCK_TERMS: tl.constexpr,  # noqa: N803
    BLOCK_DIM: tl.constexpr,  # noqa: N803
    SUM: tl.constexpr,  # noqa: N803
):
    """One latent, one part of the dimensions: the sum over its bag.

    All latents of a part come before the next part: what is read of the vectors stays in the cache.
    """
    position = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK_DIM + tl.arange(0, BLOCK_DIM)
    total = _bag_sum(
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
    along,
    scale,
    factors,
    first_latent,
    dim,
    BETA1: tl.constexpr,  # noqa: N803
    BETA2: tl.constexpr,  # noqa: N803
    EPSILON: tl.constexpr,  # noqa: N803
    UNIT_ROWS: tl.constexpr,  # noqa: N803
    BLOCK_TERMS: tl.constexpr,  # noqa: N803
    BLOCK_DIM: tl.constexpr,  # noqa: N803
    SUM: tl.constexpr,  # noqa: N803
):
    """One latent: its gradient, Adam and the norm of its row, all dimensions in registers.

    `summed` are sums of bags, from `first_latent` on, where they were worked out before; then there
    are no `rows`, `values`, `offsets` and `vectors`. `added_latents` says by latent which row of
    `added_rows` is added to its gradient, below zero for none. It may be None, as may `along` and
    `scale`. `factors` are those of `AdamStep`.
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
        gradient = _bag_sum(rows, values, offsets, vectors, latent, columns, dim, BLOCK_TERMS, SUM)
    if added_latents is not None:
        place = tl.load(added_latents + latent)
        added = tl.load(added_rows + place * dim + columns, mask=in_dim & (place >= 0), other=0.0)
        gradient += added.to(SUM)
    if along is not None:
        gradient -= tl.load(along + latent).to(SUM) * moved
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


# --------------------------------------------------------------------------------------- launches


# Tiles are as large as they can be, for reads in flight, without a register being spilled. Of an
# operand with fewer elements than threads every thread loads what it needs itself; a larger one
# would go through shared memory in every turn of a loop.


def _decode_terms(vectors: int, warps: int) -> int:
    """Weight rows of a tile whose values are fewer than the threads."""
    lanes: int = triton.next_power_of_2(vectors)
    return max(1, min(8 if lanes <= 2 else 4, 16 * warps // lanes))


def _product_tile(vectors: int, warps: int) -> tuple[int, int]:
    """Weight rows and dimensions of a tile whose vectors have fewer elements than the threads."""
    lanes: int = triton.next_power_of_2(vectors)
    return 8 * warps, max(1, 16 * warps // lanes)


def select_blocks(latents: int) -> dict[str, int]:
    """Constants of `select_kernel`, a block having all latents, about speed alone."""
    block: int = triton.next_power_of_2(latents)
    return {"BLOCK": block, "num_warps": max(1, min(4, block // 128))}


def select_from_many_blocks(latents: int, streams: int) -> dict[str, int]:
    """Constants of `select_from_many_kernel` that are about speed alone."""
    group: int = triton.next_power_of_2(triton.cdiv(latents, _GROUPS))
    return {
        "GROUP": group,
        "GROUPS": triton.next_power_of_2(triton.cdiv(latents, group)),
        "BLOCK": max(_BLOCK_LATENTS, group),
        "FEW": max(group, min(_BLOCK_LATENTS, 256)),
        "num_warps": 4 if streams > 1 else 2,
    }


def decode_blocks(vectors: int) -> dict[str, int]:
    """Constants of `decode_kernel` that are about speed alone."""
    return {"BLOCK_TERMS": _decode_terms(vectors, 4), "BLOCK_DIM": 512, "num_warps": 4}


def value_gradients_blocks(vectors: int) -> dict[str, int]:
    """Constants of `value_gradients_kernel` that are about speed alone."""
    terms, columns = _product_tile(vectors, 4)
    return {"BLOCK_TERMS": terms, "BLOCK_DIM": columns, "num_warps": 4}


def square_errors_blocks(vectors: int, dim: int) -> dict[str, int]:
    """Constants of `square_errors_kernel` that are about speed alone."""
    columns = min(1024, triton.next_power_of_2(dim), _TILE // triton.next_power_of_2(vectors))
    warps = 8 if columns > 512 else 4
    return {
        "DECODE_TERMS": _decode_terms(vectors, warps),
        "DECODE_DIM": columns,
        "num_warps": warps,
    }


def compare_blocks(vectors: int, dim: int) -> dict[str, int]:
    """Constants of `compare_kernel` that are about speed alone."""
    decoding = square_errors_blocks(vectors, dim)
    terms, columns = _product_tile(vectors, decoding["num_warps"])
    return {**decoding, "PRODUCT_TERMS": terms, "PRODUCT_DIM": columns}


def weight_gradient_blocks(dim: int, terms: int) -> dict[str, int]:
    """Constants of `weight_gradient_kernel` that are about speed alone.

    Args:
        dim: Width of the vectors.
        terms: Of a bag, on average.
    """
    # Of short bags a program sums many dimensions. Of long ones it sums a few: what all programs
    # read meanwhile stays in the second-level cache, and a single long bag is shared.
    most = 512 if terms < _LONG_BAG else 128
    columns: int = min(most, triton.next_power_of_2(dim))
    at_once = 8 if terms < _LONG_BAG else 16 if terms < 4 * _LONG_BAG else 32
    if columns < 64:  # such as of `latent_sums`
        at_once = min(256, 4 * at_once)
    return {"BLOCK_TERMS": at_once, "BLOCK_DIM": columns, "num_warps": 4 if columns >= 64 else 1}


def update_blocks(dim: int, terms: int) -> dict[str, int]:
    """Constants of `update_kernel`, a block having all dimensions, that are about speed alone.

    Args:
        dim: Width of the weight.
        terms: Of a bag, on average.
    """
    columns = triton.next_power_of_2(dim)
    warps = 4 if columns <= 512 else 8 if columns <= 4096 else 16
    if terms < 1 and columns <= 1024:
        return {"BLOCK_TERMS": 2, "BLOCK_DIM": columns, "num_warps": 4}
    # Fewer terms at once would do for the average bag, but the longest has many times more.
    at_once = max(1, min(8, _TILE // columns))
    return {"BLOCK_TERMS": at_once, "BLOCK_DIM": columns, "num_warps": warps}


class TritonKernels:
    """Implements `sparc.train.kernels.interface.Kernels`."""

    name = "triton"

    def select(
        self, products: Sequence[Tensor], biases: Sequence[Tensor], k: int
    ) -> tuple[Tensor, Tensor]:
        """See `Kernels.select`.

        Indices ascend; of equal sums those of the smallest latents are chosen. NaN counts as
        infinite, and its value is NaN: a run that diverged selects something, and its loss shows.
        """
        rows, latents = products[0].shape
        indices = products[0].new_empty(rows, k, dtype=torch.int64)
        values = biases[0].new_empty(rows, len(products), k)
        wide = products[0].dtype == torch.float64
        bias = biases[0].to(torch.float64 if wide else torch.float32)
        for each in biases[1:]:
            bias = bias + each
        read = (
            tuple(product.contiguous() for product in products),
            tuple(each.contiguous() for each in biases),
            bias,
        )
        constants = {
            "STREAMS": len(products),
            "SUM": _sum_type(products[0]),
            "KEY": tl.uint64 if wide else tl.uint32,
        }
        if latents <= _ROW_LATENTS:
            blocks = select_blocks(latents)
            select_kernel[(rows,)](*read, indices, values, latents, k, **constants, **blocks)
            return indices, values
        # Rarely more than the first few k of each row are ever touched.
        keys = indices.new_empty(rows, latents, dtype=torch.uint64 if wide else torch.uint32)
        candidates = indices.new_empty(rows, latents, dtype=torch.int32)
        select_from_many_kernel[(rows,)](
            *read,
            keys,
            candidates,
            indices,
            values,
            latents,
            k,
            **constants,
            **select_from_many_blocks(latents, len(products)),
        )
        return indices, values

    def compare(
        self, indices: Tensor, values: Tensor, weight: Tensor, wanted: Tensor, scales: Tensor
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
            wanted.contiguous(),
            scales.contiguous(),
            square_errors,
            residuals,
            products,
            k,
            dim,
            rows // len(wanted),
            **_vector_constants(vectors, weight),
            **compare_blocks(vectors, dim),
        )
        return Compared(square_errors, residuals, products)

    def square_errors(
        self, indices: Tensor, values: Tensor, weight: Tensor, wanted: Tensor
    ) -> Tensor:
        rows, vectors, k = values.shape
        dim = weight.shape[1]
        square_errors = weight.new_empty(rows, vectors)
        square_errors_kernel[(rows,)](
            indices.contiguous(),
            values.contiguous(),
            weight,
            wanted.contiguous(),
            square_errors,
            k,
            dim,
            rows // len(wanted),
            **_vector_constants(vectors, weight),
            **square_errors_blocks(vectors, dim),
        )
        return square_errors

    def decode(self, indices: Tensor, values: Tensor, weight: Tensor) -> Tensor:
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
            **_vector_constants(vectors, weight),
            **blocks,
        )
        return out

    def value_gradients(self, indices: Tensor, vectors: Tensor, weight: Tensor) -> Tensor:
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
            **_vector_constants(count, weight),
            **blocks,
        )
        return out

    def weight_gradient(self, bags: Bags, vectors: Tensor, first: int, last: int) -> Tensor:
        dim = vectors.shape[2]
        out = vectors.new_empty(last - first, dim)
        blocks = weight_gradient_blocks(dim, _terms_of_a_bag(bags))
        weight_gradient_kernel[(last - first, triton.cdiv(dim, blocks["BLOCK_DIM"]))](
            bags.rows,
            bags.values,
            bags.offsets,
            vectors.contiguous(),
            out,
            first,
            dim,
            SUM=_sum_type(vectors),
            **blocks,
        )
        return out

    def latent_sums(self, inverse: InverseIndex, values: Tensor) -> Tensor:
        table = side_by_side(values)
        ones = table.new_ones(len(table))
        bags = Bags(inverse.order, ones, inverse.offsets)
        sums = self.weight_gradient(bags, table.unsqueeze(1), 0, len(inverse.offsets) - 1)
        return sums.T.contiguous()

    def update(
        self,
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
        if _terms_of_a_bag(bags) >= _LONG_BAG:
            terms = (None,) * 4
            summed = self.weight_gradient(bags, vectors, rows.start, rows.stop)
        update_kernel[(rows.stop - rows.start,)](
            weight,
            moments.first,
            moments.second,
            *terms,
            summed,
            added_latents,
            gradient.added_rows,
            gradient.along,
            scale,
            step.factors,
            rows.start,
            dim,
            BETA1=BETA1,
            BETA2=BETA2,
            EPSILON=EPSILON,
            UNIT_ROWS=unit_rows,
            SUM=_sum_type(weight),
            **update_blocks(dim, _terms_of_a_bag(bags)),
        )

    def block_rows(self, weight: Tensor) -> int:
        return len(weight)

    def is_dense(self, latents: int, k: int) -> bool:
        return False

    def batch_rows(self, batch: Tensor) -> int:
        return len(batch)


def _terms_of_a_bag(bags: Bags) -> int:
    """How many, on average."""
    return len(bags.rows) // (len(bags.offsets) - 1)


def _vector_constants(vectors: int, weight: Tensor) -> dict[str, object]:
    return {
        "VECTORS": vectors,
        "VECTORS_POW2": triton.next_power_of_2(vectors),
        "SUM": _sum_type(weight),
    }


def _sum_type(tensor: Tensor) -> tl.dtype:
    return tl.float64 if tensor.dtype == torch.float64 else tl.float32
