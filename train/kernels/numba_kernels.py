"""The sparse mathematics compiled by Numba, for CPUs: an optional extra.

What PyTorch does in several passes over memory is done in one, while the numbers are in a register
or a cache: a row is decoded, compared and differentiated at once, and a row of a weight is read and
written once a step. The functions hold no lock of Python, so the workers run them side by side.
Machine code is kept beside this file, or in Numba's own folder, after the first use.

Sums may be reordered to fill vector registers; NaN and infinity keep their meaning.
"""

# mypy: disable-error-code="no-untyped-def"
# The compiled functions take arrays of any floating-point type.

import math

import numpy as np
import torch
from torch import Tensor

from sparc.train.kernels.adam import BETA1, BETA2, EPSILON, AdamStep, Moments
from sparc.train.kernels.compiled import arrays, compiled
from sparc.train.kernels.interface import Bags, Compared, WeightGradient
from sparc.train.kernels.torch_kernels import TorchKernels

_BLOCK_ROWS = 2048
"""Weight rows per piece of work: enough to hide its overhead, few enough to balance threads."""
_BATCH_ROWS = 256
"""Rows of a batch per piece of work: with fewer, calls take longer than caches save."""


@compiled
def _add_rows(total, scales, rows, table):
    """Adds scales[j] * table[rows[j]] to `total`, for all j."""
    dim = total.shape[0]
    whole = len(rows) // 4 * 4
    for j in range(0, whole, 4):
        a, b, c, d = scales[j], scales[j + 1], scales[j + 2], scales[j + 3]
        row_a, row_b = table[rows[j]], table[rows[j + 1]]
        row_c, row_d = table[rows[j + 2]], table[rows[j + 3]]
        for i in range(dim):
            total[i] += a * row_a[i] + b * row_b[i] + c * row_c[i] + d * row_d[i]
    for j in range(whole, len(rows)):
        scale, row = scales[j], table[rows[j]]
        for i in range(dim):
            total[i] += scale * row[i]


@compiled
def _add_rows_to_three(totals, scales, rows, table):
    """As `_add_rows`, to three vectors with their own scales: a row is read once for all."""
    first, second, third = totals[0], totals[1], totals[2]
    dim = totals.shape[1]
    whole = len(rows) // 4 * 4
    for j in range(0, whole, 4):
        a1, b1, c1, d1 = scales[0, j], scales[0, j + 1], scales[0, j + 2], scales[0, j + 3]
        a2, b2, c2, d2 = scales[1, j], scales[1, j + 1], scales[1, j + 2], scales[1, j + 3]
        a3, b3, c3, d3 = scales[2, j], scales[2, j + 1], scales[2, j + 2], scales[2, j + 3]
        row_a, row_b = table[rows[j]], table[rows[j + 1]]
        row_c, row_d = table[rows[j + 2]], table[rows[j + 3]]
        for i in range(dim):
            a, b, c, d = row_a[i], row_b[i], row_c[i], row_d[i]
            first[i] += a1 * a + b1 * b + c1 * c + d1 * d
            second[i] += a2 * a + b2 * b + c2 * c + d2 * d
            third[i] += a3 * a + b3 * b + c3 * c + d3 * d
    for vector in range(3):
        _add_rows(totals[vector], scales[vector, whole:], rows[whole:], table)


@compiled
def _add_rows_to_each(totals, scales, rows, table):
    """Adds scales[v, j] * table[rows[j]] to totals[v], for all v and j."""
    threes = len(totals) // 3 * 3
    for vector in range(0, threes, 3):
        _add_rows_to_three(totals[vector:], scales[vector:], rows, table)
    for vector in range(threes, len(totals)):
        _add_rows(totals[vector], scales[vector], rows, table)


@compiled
def _multiply_rows(products, vector, rows, table):
    """Products of a vector with table[rows[j]], for all j."""
    dim = vector.shape[0]
    whole = len(rows) // 4 * 4
    for j in range(0, whole, 4):
        row_a, row_b = table[rows[j]], table[rows[j + 1]]
        row_c, row_d = table[rows[j + 2]], table[rows[j + 3]]
        a = b = c = d = vector.dtype.type(0)
        for i in range(dim):
            a += vector[i] * row_a[i]
            b += vector[i] * row_b[i]
            c += vector[i] * row_c[i]
            d += vector[i] * row_d[i]
        products[j], products[j + 1], products[j + 2], products[j + 3] = a, b, c, d
    for j in range(whole, len(rows)):
        row = table[rows[j]]
        a = vector.dtype.type(0)
        for i in range(dim):
            a += vector[i] * row[i]
        products[j] = a


@compiled
def _multiply_rows_by_three(products, vectors, rows, table):
    """As `_multiply_rows` by three vectors: a row is read once for all."""
    first, second, third = vectors[0], vectors[1], vectors[2]
    dim = vectors.shape[1]
    whole = len(rows) // 2 * 2
    for j in range(0, whole, 2):
        row_a, row_b = table[rows[j]], table[rows[j + 1]]
        a1 = a2 = a3 = b1 = b2 = b3 = vectors.dtype.type(0)
        for i in range(dim):
            a, b = row_a[i], row_b[i]
            a1 += first[i] * a
            b1 += first[i] * b
            a2 += second[i] * a
            b2 += second[i] * b
            a3 += third[i] * a
            b3 += third[i] * b
        products[0, j], products[1, j], products[2, j] = a1, a2, a3
        products[0, j + 1], products[1, j + 1], products[2, j + 1] = b1, b2, b3
    for vector in range(3):
        _multiply_rows(products[vector, whole:], vectors[vector], rows[whole:], table)


@compiled
def _multiply_rows_by_each(products, vectors, rows, table):
    """products[v, j] becomes the product of vectors[v] with table[rows[j]], for all v and j."""
    threes = len(vectors) // 3 * 3
    for vector in range(0, threes, 3):
        _multiply_rows_by_three(products[vector:], vectors[vector:], rows, table)
    for vector in range(threes, len(vectors)):
        _multiply_rows(products[vector], vectors[vector], rows, table)


@compiled
def _compare(indices, values, weight, targets, scales, square_errors, residuals, products):
    """Row by row: the weight rows that are decoded are multiplied while they are in a cache."""
    rows, vectors, _ = values.shape
    repeat = rows // len(targets)
    for row in range(rows):
        for vector in range(vectors):
            residuals[row, vector] = -targets[row // repeat]
        _add_rows_to_each(residuals[row], values[row], indices[row], weight)
        for vector in range(vectors):
            errors = residuals[row, vector]
            square = weight.dtype.type(0)
            scale = scales[row, vector]
            for i in range(len(errors)):
                square += errors[i] * errors[i]
                errors[i] *= scale
            square_errors[row, vector] = square
        _multiply_rows_by_each(products[row], residuals[row], indices[row], weight)


@compiled
def _square_errors(indices, values, weight, targets, square_errors):
    rows, vectors, _ = values.shape
    repeat = rows // len(targets)
    errors = np.empty((vectors, weight.shape[1]), weight.dtype)
    for row in range(rows):
        errors[:] = -targets[row // repeat]
        _add_rows_to_each(errors, values[row], indices[row], weight)
        for vector in range(vectors):
            square_errors[row, vector] = (errors[vector] * errors[vector]).sum()


@compiled
def _decode(indices, values, weight, decoded):
    decoded[:] = 0
    for row in range(len(values)):
        _add_rows_to_each(decoded[row], values[row], indices[row], weight)


@compiled
def _value_gradients(indices, vectors, weight, products):
    for row in range(len(vectors)):
        _multiply_rows_by_each(products[row], vectors[row], indices[row], weight)


@compiled
def _weight_gradient(rows, values, offsets, table, first, gradient):
    for position in range(len(gradient)):
        begin, end = offsets[first + position], offsets[first + position + 1]
        gradient[position] = 0
        _add_rows(gradient[position], values[begin:end], rows[begin:end], table)


@compiled
def _update(
    rows,
    values,
    offsets,
    table,
    added_latents,
    added_rows,
    parallel,
    weight,
    first_moment,
    second_moment,
    first,
    last,
    scale,
    step_size,
    correction,
    unit_rows,
):
    """Latent by latent: the gradient of a row never leaves the cache."""
    number = weight.dtype.type
    beta1, beta2, epsilon = number(BETA1), number(BETA2), number(EPSILON)
    one = number(1)
    dim = weight.shape[1]
    gradient = np.empty(dim, weight.dtype)
    next_added = np.searchsorted(added_latents, first)
    for latent in range(first, last):
        # Loops, since Numba keeps what an expression of arrays gives in a new array; and no views
        # of rows, since it counts who refers to them.
        own_share = parallel[latent] if len(parallel) else number(0)
        for i in range(dim):
            gradient[i] = -own_share * weight[latent, i]
        begin, end = offsets[latent], offsets[latent + 1]
        _add_rows(gradient, values[begin:end], rows[begin:end], table)
        if next_added < len(added_latents) and added_latents[next_added] == latent:
            for i in range(dim):
                gradient[i] += added_rows[next_added, i]
            next_added += 1
        norm = number(0)
        for i in range(dim):
            slope = gradient[i] * scale
            mean = beta1 * first_moment[latent, i] + (one - beta1) * slope
            square = beta2 * second_moment[latent, i] + (one - beta2) * slope * slope
            first_moment[latent, i], second_moment[latent, i] = mean, square
            moved = weight[latent, i] - step_size * mean / (
                math.sqrt(square) * correction + epsilon
            )
            weight[latent, i] = moved
            norm += moved * moved
        if unit_rows:
            length = one / math.sqrt(norm)
            for i in range(dim):
                weight[latent, i] *= length


class NumbaKernels(TorchKernels):
    """Implements `sparc.train.kernels.interface.Kernels` on a CPU; the rest is PyTorch's."""

    name = "numba"

    def compare(
        self, indices: Tensor, values: Tensor, weight: Tensor, targets: Tensor, scales: Tensor
    ) -> Compared:
        rows, vectors, _ = values.shape
        compared = Compared(
            values.new_empty(rows, vectors),
            values.new_empty(rows, vectors, weight.shape[1]),
            values.new_empty(values.shape),
        )
        _compare(*arrays(indices, values, weight, targets, scales, *compared))
        return compared

    def square_errors(
        self, indices: Tensor, values: Tensor, weight: Tensor, targets: Tensor
    ) -> Tensor:
        square_errors = values.new_empty(values.shape[:2])
        _square_errors(*arrays(indices, values, weight, targets, square_errors))
        return square_errors

    def decode(self, indices: Tensor, values: Tensor, weight: Tensor) -> Tensor:
        decoded = values.new_empty(*values.shape[:2], weight.shape[1])
        _decode(*arrays(indices, values, weight, decoded))
        return decoded

    def value_gradients(self, indices: Tensor, vectors: Tensor, weight: Tensor) -> Tensor:
        products = vectors.new_empty(*vectors.shape[:2], indices.shape[1])
        _value_gradients(*arrays(indices, vectors, weight, products))
        return products

    def weight_gradient(self, bags: Bags, vectors: Tensor, first: int, last: int) -> Tensor:
        table = vectors.reshape(-1, vectors.shape[2])
        gradient = table.new_empty(last - first, table.shape[1])
        rows, values, offsets, table_, gradient_ = arrays(
            bags.rows, bags.values, bags.offsets, table, gradient
        )
        _weight_gradient(rows, values, offsets, table_, first, gradient_)
        return gradient

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
        nothing = weight.new_empty(0)
        added_latents, added_rows = gradient.added_latents, gradient.added_rows
        if added_latents is None or added_rows is None:
            added_latents, added_rows = torch.empty(0, dtype=torch.int64), nothing.view(0, 0)
        number = nothing.numpy().dtype.type
        _update(
            *arrays(
                gradient.bags.rows,
                gradient.bags.values,
                gradient.bags.offsets,
                gradient.vectors.reshape(-1, weight.shape[1]),
                added_latents,
                added_rows,
                nothing if gradient.parallel is None else gradient.parallel,
                weight,
                *moments,
            ),
            rows.start,
            rows.stop,
            number(1 if scale is None else scale.item()),
            number(step.step_size),
            number(1 / step.second_correction),
            unit_rows,
        )

    def block_rows(self, weight: Tensor) -> int:
        return _BLOCK_ROWS

    def batch_rows(self, batch: Tensor) -> int:
        return _BATCH_ROWS
