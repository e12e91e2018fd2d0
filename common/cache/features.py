"""Which features hold what no feature may hold: NaN, infinity, or nothing but zeros.

The bits are looked at rather than the values: NumPy has no fast comparison of float16.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_BLOCK_BYTES = 1 << 18
"""Looked at together: what fits a processor's cache is several times faster."""


class Faults(NamedTuple):
    """What is wrong with features, row by row.

    Attributes:
        not_finite: (rows,) whether the feature holds NaN or infinity.
        zero: (rows,) whether all of it is zero, of either sign.
    """

    not_finite: npt.NDArray[np.bool_]
    zero: npt.NDArray[np.bool_]


def find_faults(features: npt.NDArray[Any]) -> Faults:
    """Look through features.

    Args:
        features: (rows, dim), float16, float32 or float64.
    """
    kind = np.finfo(features.dtype)
    bits = features.view(f"u{kind.bits // 8}")
    without_sign = bits.dtype.type(np.iinfo(bits.dtype).max >> 1)
    infinity = np.array(np.inf, features.dtype).view(bits.dtype)
    largest = np.empty(len(bits), bits.dtype)
    block = max(1, _BLOCK_BYTES // max(1, bits.itemsize * bits.shape[1]))
    for start in range(0, len(bits), block):
        part = bits[start : start + block] & without_sign
        part.max(axis=1, out=largest[start : start + block], initial=0)
    return Faults(largest >= infinity, largest == 0)


def differing(
    features: npt.NDArray[Any],
    goes_on: npt.NDArray[np.bool_],
    valid: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:
    """Which rows have another feature than the row before, of the same image.

    Args:
        features: (rows, dim).
        goes_on: (rows,) whether a row goes on with the image of the row before.
        valid: (rows,) whether a row has a feature; others are not looked at.
    """
    rows = np.flatnonzero(goes_on[1:] & valid[1:] & valid[:-1]) + 1
    result = np.zeros(len(features), dtype=np.bool_)
    bits = features.view(f"u{features.itemsize}")
    result[rows] = (bits[rows] != bits[rows - 1]).any(axis=1)
    return result
