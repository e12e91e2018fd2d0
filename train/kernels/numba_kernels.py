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
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparc.train.kernels.interface import Bags, Compared, WeightGradient
from sparc.train.kernels.torch_kernels import TorchKernels
from sparc.train.optimizer import BETA1, BETA2, EPSILON, AdamStep, Moments

_BLOCK_ROWS = 2048
"""Weight rows of a piece of work: enough to forget what a piece costs, few enough to share out."""


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    decorate: Callable[..., Callable[..., Any]] = numba.njit(
        cache=True,
        nogil=True,
        error_model="numpy",
        fastmath={"reassoc", "contract", "nsz", "arcp"},
    )
    return decorate(function)


@_compiled
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


@_compiled
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


@_compiled
def _sink(best, chosen, place, number, position):
    """Put a number into a heap, from a place downwards, below whatever is worse."""
    while True:
        below = 2 * place + 1
        if below >= len(best):
            break
        right = below + 1
        if right < len(best) and (
            best[right] < best[below]
            or (best[right] == best[below] and chosen[right] > chosen[below])
        ):
            below = right
        if best[below] > number or (best[below] == number and chosen[below] < position):
            break
        best[place], chosen[place] = best[below], chosen[below]
        place = below
    best[place], chosen[place] = number, position


@_compiled
def _largest(numbers, best, chosen):
    """The positions of the largest numbers, as many as `chosen` holds, ascending.

    A heap holds the best so far, the worst on top. Of equal numbers the first is better, and NaN
    is better than any number, so that a model that diverged shows it. `best` is room to work in.
    """
    k = len(chosen)
    infinity = numbers.dtype.type(np.inf)
    for position in range(k):
        number = numbers[position]
        best[position] = infinity if math.isnan(number) else number
        chosen[position] = position
    for place in range(k // 2 - 1, -1, -1):
        _sink(best, chosen, place, best[place], chosen[place])
    for position in range(k, len(numbers)):
        number = numbers[position]
        if number <= best[0]:
            continue
        if math.isnan(number):
            if best[0] == infinity:
                continue
            number = infinity
        _sink(best, chosen, 0, number, position)
    chosen.sort()


@_compiled
def _select(products, biases, indices, values):
    """Row by row: the sum of a row's logits never leaves the cache."""
    total = np.empty(products[0].shape[1], products[0].dtype)
    best = np.empty(indices.shape[1], total.dtype)
    bias = np.zeros_like(total)
    for each in biases:
        bias += each
    for row in range(len(indices)):
        total[:] = 0
        for product in products:
            total += product[row]
        total += bias
        _largest(total, best, indices[row])
        for j in range(indices.shape[1]):
            latent = indices[row, j]
            for stream in range(len(products)):
                logit = products[stream][row, latent] + biases[stream][latent]
                values[row, stream, j] = 0 if logit <= 0 else logit


@_compiled
def _compare(indices, values, weight, wanted, scales, square_errors, residuals, products):
    """Row by row: the weight rows that are decoded are multiplied while they are in a cache."""
    rows, vectors, _ = values.shape
    repeat = rows // len(wanted)
    for row in range(rows):
        for vector in range(vectors):
            errors = residuals[row, vector]
            errors[:] = -wanted[row // repeat]
            _add_rows(errors, values[row, vector], indices[row], weight)
            square = weight.dtype.type(0)
            scale = scales[row, vector]
            for i in range(len(errors)):
                square += errors[i] * errors[i]
                errors[i] *= scale
            square_errors[row, vector] = square
        for vector in range(vectors):
            _multiply_rows(products[row, vector], residuals[row, vector], indices[row], weight)


@_compiled
def _square_errors(indices, values, weight, wanted, square_errors):
    rows, vectors, _ = values.shape
    repeat = rows // len(wanted)
    errors = np.empty(weight.shape[1], weight.dtype)
    for row in range(rows):
        for vector in range(vectors):
            errors[:] = -wanted[row // repeat]
            _add_rows(errors, values[row, vector], indices[row], weight)
            square_errors[row, vector] = (errors * errors).sum()


@_compiled
def _decode(indices, values, weight, decoded):
    rows, vectors, _ = values.shape
    for row in range(rows):
        for vector in range(vectors):
            decoded[row, vector] = 0
            _add_rows(decoded[row, vector], values[row, vector], indices[row], weight)


@_compiled
def _value_gradients(indices, vectors, weight, products):
    rows, count, _ = vectors.shape
    for row in range(rows):
        for vector in range(count):
            _multiply_rows(products[row, vector], vectors[row, vector], indices[row], weight)


@_compiled
def _weight_gradient(rows, values, offsets, table, first, gradient):
    for position in range(len(gradient)):
        begin, end = offsets[first + position], offsets[first + position + 1]
        gradient[position] = 0
        _add_rows(gradient[position], values[begin:end], rows[begin:end], table)


@_compiled
def _update(
    rows,
    values,
    offsets,
    table,
    revived,
    revival,
    along,
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
    gradient = np.empty(weight.shape[1], weight.dtype)
    next_revived = np.searchsorted(revived, first)
    for latent in range(first, last):
        row = weight[latent]
        gradient[:] = 0
        if len(along):
            gradient -= along[latent] * row
        begin, end = offsets[latent], offsets[latent + 1]
        _add_rows(gradient, values[begin:end], rows[begin:end], table)
        if next_revived < len(revived) and revived[next_revived] == latent:
            gradient += revival[next_revived]
            next_revived += 1
        means, squares = first_moment[latent], second_moment[latent]
        norm = number(0)
        for i in range(len(gradient)):
            slope = gradient[i] * scale
            mean = beta1 * means[i] + (one - beta1) * slope
            square = beta2 * squares[i] + (one - beta2) * slope * slope
            means[i], squares[i] = mean, square
            moved = row[i] - step_size * mean / (math.sqrt(square) * correction + epsilon)
            row[i] = moved
            norm += moved * moved
        if unit_rows:
            length = one / math.sqrt(norm)
            for i in range(len(gradient)):
                row[i] *= length


class NumbaKernels(TorchKernels):
    """Implements `sparc.train.kernels.interface.Kernels`, on a CPU; what is left is PyTorch's."""

    name = "numba"

    def select(
        self, products: Sequence[Tensor], biases: Sequence[Tensor], k: int
    ) -> tuple[Tensor, Tensor]:
        """See `Kernels.select`."""
        indices = torch.empty(len(products[0]), k, dtype=torch.int64)
        values = products[0].new_empty(len(products[0]), len(products), k)
        _select(_arrays(*products), _arrays(*biases), *_arrays(indices, values))
        return indices, values

    def compare(
        self, indices: Tensor, values: Tensor, weight: Tensor, wanted: Tensor, scales: Tensor
    ) -> Compared:
        """See `Kernels.compare`."""
        rows, vectors, _ = values.shape
        compared = Compared(
            values.new_empty(rows, vectors),
            values.new_empty(rows, vectors, weight.shape[1]),
            values.new_empty(values.shape),
        )
        _compare(*_arrays(indices, values, weight, wanted, scales, *compared))
        return compared

    def square_errors(
        self, indices: Tensor, values: Tensor, weight: Tensor, wanted: Tensor
    ) -> Tensor:
        """See `Kernels.square_errors`."""
        square_errors = values.new_empty(values.shape[:2])
        _square_errors(*_arrays(indices, values, weight, wanted, square_errors))
        return square_errors

    def decode(self, indices: Tensor, values: Tensor, weight: Tensor) -> Tensor:
        """See `Kernels.decode`."""
        decoded = values.new_empty(*values.shape[:2], weight.shape[1])
        _decode(*_arrays(indices, values, weight, decoded))
        return decoded

    def value_gradients(self, indices: Tensor, vectors: Tensor, weight: Tensor) -> Tensor:
        """See `Kernels.value_gradients`."""
        products = vectors.new_empty(*vectors.shape[:2], indices.shape[1])
        _value_gradients(*_arrays(indices, vectors, weight, products))
        return products

    def weight_gradient(self, bags: Bags, vectors: Tensor, first: int, last: int) -> Tensor:
        """See `Kernels.weight_gradient`."""
        table = vectors.reshape(-1, vectors.shape[2])
        gradient = table.new_empty(last - first, table.shape[1])
        rows, values, offsets, table_, gradient_ = _arrays(
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
        """See `Kernels.update`."""
        nothing = weight.new_empty(0)
        revived, revival = gradient.revived, gradient.revival
        if revived is None or revival is None:
            revived, revival = torch.empty(0, dtype=torch.int64), nothing.view(0, 0)
        number = nothing.numpy().dtype.type
        _update(
            *_arrays(
                gradient.bags.rows,
                gradient.bags.values,
                gradient.bags.offsets,
                gradient.vectors.reshape(-1, weight.shape[1]),
                revived,
                revival,
                nothing if gradient.along is None else gradient.along,
                weight,
                *moments,
            ),
            rows.start,
            rows.stop,
            number(1 if scale is None else scale.item()),
            number(step.rate),
            number(1 / step.spread),
            unit_rows,
        )

    def block_rows(self, weight: Tensor) -> int:  # noqa: ARG002
        """See `Kernels.block_rows`."""
        return _BLOCK_ROWS


def _arrays(*tensors: Tensor) -> tuple[NDArray[Any], ...]:
    """The tensors' memory, each row by row: the functions are compiled for that order alone.

    What is written to must lie so already.
    """
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)
