"""How far a product in bfloat16 may lie from the float32 logit that it stands for.

Of a row x and an encoder row w, both float32 with d numbers, let

    x', w'   x and w rounded to bfloat16, to nearest
    low      <x', w'> as the CPU returns it: summed in float32, in any order, rounded to bfloat16
    exact    <x, w> summed in float32, in any order: the logit without its bias

    u = 2^-8 and e = 2^-24 (a number rounded to nearest with 8 and 24 significant bits moves by at
    most that share of itself), and gamma_n = n e / (1 - n e)

Then, with Euclidean norms,

    |exact - low| <= |x - x'| |w| + |x'| |w - w'| + 2.1 gamma_d |x| |w| + u |low| + 8 d 2^-126

since the true products differ by <x - x', w> + <x', w - w'>, to which Cauchy and Schwarz apply;
each of the two float32 sums of d products is off by at most gamma_d times the product of the norms
(Higham, *Accuracy and Stability of Numerical Algorithms*, section 3.1; products of bfloat16 numbers
are exact in float32, and |x'| |w'| <= (1 + u)^2 |x| |w|); low was rounded once; and instructions
that take subnormal numbers for zero lose less than 2^-126 for each number, product and sum.

The first two terms are not replaced by 2 u |x| |w|: the norms of what rounding lost are known, and
about 0.42 u as large as those of the vectors. A logit has its bias added, a score is the sum of the
logits of S streams, and the bound itself is worked out in float32: `_SLACK` of these roundings are
added to gamma_d, more than there are.

The only assumption is that of the sums in float32; the tests try it against float64.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

UNIT = 2.0**-8
"""Largest relative error of rounding to bfloat16."""
_SMALLEST = 2.0**-126
"""Smallest normal number, of float32 and of bfloat16."""
_SLACK = 256
"""Roundings of float32 beside those of the products."""


class RowTerms(NamedTuple):
    """What the bound needs to know of rows.

    Attributes:
        rounded: The rows in bfloat16, (rows, dim).
        by_norm: What |w| is multiplied by, (rows,).
        by_lost: What |w - w'| is multiplied by, (rows,).
    """

    rounded: Tensor
    by_norm: Tensor
    by_lost: Tensor


def row_terms(read: Tensor) -> RowTerms:
    """Round rows, (rows, dim) float32."""
    rounded, dim = read.bfloat16(), read.shape[1]
    norms = at_least(torch.linalg.vector_norm(read, dim=1), dim)
    lost = at_least(torch.linalg.vector_norm(read - rounded, dim=1), dim)
    return RowTerms(rounded, lost + norms * _of_sums(dim), norms * (1 + UNIT))


def exact_term(read: Tensor) -> Tensor:
    """What |w| is multiplied by where the low product is rounded to float32 alone, (rows,)."""
    dim = read.shape[1]
    return at_least(torch.linalg.vector_norm(read, dim=1), dim) * _of_sums(dim)


def at_least(norms: Tensor, dim: int) -> Tensor:
    """Norms of vectors of that width as float32 computed them, increased by what they may lack.

    Squares below the smallest normal number may count as zero in a norm, and products take
    subnormal numbers for zero.
    """
    return norms * (1 + gamma(dim + 8)) + 2 * math.sqrt(dim * _SMALLEST)


def bias_bounds(bias: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The highest and the lowest bias, (latents,), with what a product may lose to zero."""
    slack = bias.abs() * gamma(_SLACK) + 8 * dim * _SMALLEST
    return bias + slack, bias - slack


def gamma(n: int) -> float:
    """Relative error of n roundings of float32."""
    return n * 2.0**-24 / (1 - n * 2.0**-24)


def _of_sums(dim: int) -> float:
    return 2.1 * gamma(dim) + 2 * gamma(_SLACK)
