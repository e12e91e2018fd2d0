"""TopK of the sums of the streams' logits."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# A kernel's parameters are pointers and numbers that only Triton's compiler gives types.

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparc.train.kernels.triton.tiles import sum_type

_ROW_LATENTS = 1024
"""Most latents of a row that a program of `select` keeps in registers."""
_GROUPS = 1024
"""Most groups that a longer row is divided into."""
_BLOCK_LATENTS = 2048
"""Latents of a longer row that are read at once."""


@triton.jit
def _sort_keys(
    products,
    bias,
    row,
    lanes,
    inside,
    latents,
    STREAMS: tl.constexpr,
    SUM: tl.constexpr,
    KEY: tl.constexpr,
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
def _kth_largest(keys, k, KEY: tl.constexpr):
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
def _kth_largest_in_memory(keys, length, k, KEY: tl.constexpr, BLOCK: tl.constexpr):
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
    keys,
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
    STREAMS: tl.constexpr,
    SUM: tl.constexpr,
):
    """Write those of some keys that are among the k largest, and the logits of their latents.

    `before` of the row are written already, and of all keys that equal the least `room` may be.
    Returns how many were written, and how many equal the least.
    """
    equal = ((keys == least) & inside).to(tl.int32)
    in_time = equal_before + tl.cumsum(equal) <= room
    chosen = inside & ((keys > least) | ((keys == least) & in_time))
    place = before + tl.cumsum(chosen.to(tl.int32)) - 1
    tl.store(indices + row * k + place, latents_of_keys.to(tl.int64), mask=chosen)
    for stream in tl.static_range(STREAMS):
        own = products[stream] + row * latents
        logit = tl.load(own + latents_of_keys, mask=chosen, other=0.0)
        bias = tl.load(biases[stream] + latents_of_keys, mask=chosen, other=0.0)
        value = logit.to(SUM) + bias.to(SUM)
        value = tl.where(value < 0.0, 0.0, value)  # NaN stays, so that the loss shows it
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
    STREAMS: tl.constexpr,
    BLOCK: tl.constexpr,
    SUM: tl.constexpr,
    KEY: tl.constexpr,
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
    STREAMS: tl.constexpr,
    GROUP: tl.constexpr,
    GROUPS: tl.constexpr,
    BLOCK: tl.constexpr,
    FEW: tl.constexpr,
    SUM: tl.constexpr,
    KEY: tl.constexpr,
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
        block_keys = _sort_keys(products, bias, row, lanes, inside, latents, STREAMS, SUM, KEY)
        tl.store(keys + groups, tl.max(block_keys, axis=1), mask=groups * GROUP < latents)
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
        block_keys = _sort_keys(products, bias, row, lanes, inside, latents, STREAMS, SUM, KEY)
        reaches = (block_keys >= floor) & inside
        place = count + tl.cumsum(reaches.to(tl.int32)) - 1
        tl.debug_barrier()  # all have read which groups were chosen
        tl.store(keys + place, block_keys, mask=reaches)
        tl.store(candidates + place, lanes, mask=reaches)
        count += tl.sum(reaches.to(tl.int32))
    tl.debug_barrier()

    least, larger = _kth_largest_in_memory(keys, count, k, KEY, FEW)
    before, equal_before = 0, 0
    for first in range(0, count, FEW):
        lanes = first + tl.arange(0, FEW)
        block_keys = tl.load(keys + lanes, mask=lanes < count, other=0)
        latents_of_keys = tl.load(candidates + lanes, mask=lanes < count, other=0)
        written, equal = _keep_largest(
            block_keys,
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


def select_blocks(latents: int) -> dict[str, int]:
    """Block size and warps of `select_kernel`: a block has all latents."""
    block: int = triton.next_power_of_2(latents)
    return {"BLOCK": block, "num_warps": max(1, min(4, block // 128))}


def select_from_many_blocks(latents: int, streams: int) -> dict[str, int]:
    """Tile sizes and warps of `select_from_many_kernel`, which change its speed only."""
    group: int = triton.next_power_of_2(triton.cdiv(latents, _GROUPS))
    return {
        "GROUP": group,
        "GROUPS": triton.next_power_of_2(triton.cdiv(latents, group)),
        "BLOCK": max(_BLOCK_LATENTS, group),
        "FEW": max(group, min(_BLOCK_LATENTS, 256)),
        "num_warps": 4 if streams > 1 else 2,
    }


def select(products: Sequence[Tensor], biases: Sequence[Tensor], k: int) -> tuple[Tensor, Tensor]:
    """`Kernels.select`; of equal sums those of the smallest latents are selected.

    Indices ascend. NaN counts as infinite, and its value is NaN: a run that diverged selects
    something, and its loss shows.
    """
    rows, latents = products[0].shape
    indices = products[0].new_empty(rows, k, dtype=torch.int64)
    values = biases[0].new_empty(rows, len(products), k)
    wide = products[0].dtype == torch.float64
    bias = biases[0].to(torch.float64 if wide else torch.float32)
    for other in biases[1:]:
        bias = bias + other
    read = (
        tuple(product.contiguous() for product in products),
        tuple(of_stream.contiguous() for of_stream in biases),
        bias,
    )
    constants = {
        "STREAMS": len(products),
        "SUM": sum_type(products[0]),
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
