"""What features a cache may hold, and how they are stored: finite, not zero, rounded.

Faults are looked for in the bits rather than the values: NumPy is slow at comparing float16.
"""

import hashlib
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from numcodecs import BitRound

from sparc.common.errors import CacheError

LARGEST_FLOAT16 = 65_504.0

NOT_FINITE = "the feature is not finite"
"""The reason of a row whose feature holds NaN or infinity."""

_BLOCK_BYTES = 1 << 18
"""Bytes looked at in one go: what fits a processor's cache is several times faster."""


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
    same_image: npt.NDArray[np.bool_],
    valid: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:
    """Which rows do not have the feature of the row before, although they show the same image.

    Args:
        features: (rows, dim).
        same_image: (rows,) whether a row has the image of the row before.
        valid: (rows,) whether a row has a feature; others are not compared.
    """
    rows = np.flatnonzero(same_image[1:] & valid[1:] & valid[:-1]) + 1
    result = np.zeros(len(features), dtype=np.bool_)
    bits = features.view(f"u{features.itemsize}")
    result[rows] = (bits[rows] != bits[rows - 1]).any(axis=1)
    return result


def bad_features(
    features: npt.NDArray[Any], first_row: int, *, dtype: Literal["float16", "float32"]
) -> dict[int, str]:
    """Why features cannot be used, by row: those that hold NaN or infinity, or are zero as stored.

    Args:
        features: (rows, dim).
        first_row: The row of the cache that `features[0]` belongs to.
        dtype: Type to store, in which the smallest values become zero.
    """
    not_finite = find_faults(features).not_finite
    zero = find_faults(as_stored(features, np.dtype(dtype))).zero
    reasons = {int(i) + first_row: NOT_FINITE for i in np.flatnonzero(not_finite)}
    reasons |= {int(i) + first_row: "the feature is zero" for i in np.flatnonzero(zero)}
    return reasons


def require_storable(
    features: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    dtype: np.dtype[Any],
    *,
    stream: str,
    first_row: int,
    advice: str,
) -> None:
    """Refuse features that a cache may not hold.

    Args:
        features: (rows, dim).
        valid: (rows,) whether a row has a feature; the others hold zeros.
        dtype: Type to store.
        stream: Whose features these are, for the error message.
        first_row: The row of the cache that `features[0]` belongs to.
        advice: What to do about values beyond float16.

    Raises:
        CacheError: A value does not fit float16, or a valid feature is zero or not finite.
    """
    faults = find_faults(features)
    if faults.not_finite.any():
        row = first_row + int(np.flatnonzero(faults.not_finite)[0])
        raise CacheError(f"stream {stream}, row {row}: the feature is not finite")
    if (
        dtype == np.float16
        and (largest := float(np.abs(features).max(initial=0))) > LARGEST_FLOAT16
    ):
        raise CacheError(
            f"stream {stream}: the value {largest:g} does not fit float16 (at most "
            f"{LARGEST_FLOAT16:,.0f}); {advice}, under another name or into another folder"
        )
    stored = find_faults(as_stored(features, dtype))
    if stored.not_finite.any():
        row = first_row + int(np.flatnonzero(stored.not_finite)[0])
        raise CacheError(
            f"stream {stream}, row {row}: a value is too large for {dtype.name}: scale the features"
        )
    zero = valid & stored.zero
    if zero.any():
        row = first_row + int(np.flatnonzero(zero)[0])
        raise CacheError(f"stream {stream}, row {row}: the feature is zero")


def as_stored(features: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The features in the stored type; what does not fit becomes infinite without a warning."""
    with np.errstate(over="ignore"):
        return features.astype(dtype, copy=False)


def features_digest(
    features: npt.NDArray[Any], dtype: Literal["float16", "float32"], *, rows_at_once: int
) -> str:
    """SHA-256 of features as a cache stores them: little-endian, row by row, zero where not valid.

    Args:
        features: (rows, dim).
        dtype: Type to store.
        rows_at_once: Rows to convert in one go; the digest does not depend on it.

    Returns:
        The digest in lower-case hexadecimal.
    """
    digest = hashlib.sha256()
    for start in range(0, len(features), rows_at_once):
        part = features[start : start + rows_at_once]
        stored = np.array(as_stored(part, np.dtype(dtype)), dtype=np.dtype(dtype).newbyteorder("<"))
        stored[list(bad_features(part, 0, dtype=dtype))] = 0
        digest.update(stored.tobytes())
    return digest.hexdigest()


def rounded(values: npt.NDArray[Any], keep_bits: int | None) -> npt.NDArray[Any]:
    """The values with the first `keep_bits` mantissa bits, the rest zero; None keeps all.

    Same as numcodecs' BitRound filter. Not applied by Zarr, so that reading needs nothing beyond
    the Zarr specification.
    """
    if keep_bits is None:
        return values
    return np.asarray(BitRound(keepbits=keep_bits).encode(values)).view(values.dtype)
