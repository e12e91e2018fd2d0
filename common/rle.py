"""Run-length encoding of masks, as COCO has it.

A mask is a list of run lengths, of zeros and ones in turn and beginning with zeros, over its pixels
column by column. `tables.MASKS` keeps them as numbers; COCO's files also as a string, in which each
run but the first three is its difference from the run two before, in digits of five bits.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_LONGEST_NUMBER = 7
"""Digits of the largest 32-bit run; a longer number is no run length."""


Counts = npt.NDArray[np.int32]
"""Run lengths."""


def encode(mask: npt.NDArray[np.bool_]) -> Counts:
    """Run lengths of a (height, width) mask."""
    return encode_pixels(np.flatnonzero(mask.T), mask.size)


def encode_pixels(pixels: npt.NDArray[np.int64], size: int) -> Counts:
    """Run lengths of a mask given by which of its pixels are set.

    Args:
        pixels: Ascending positions, counted column by column (`column * height + row`).
        size: Pixels of the whole mask.
    """
    if not len(pixels):
        return np.array([size], np.int32)
    breaks = np.flatnonzero(np.diff(pixels) != 1)
    starts = pixels[np.concatenate([[0], breaks + 1])]
    ends = pixels[np.concatenate([breaks, [len(pixels) - 1]])] + 1
    edges = np.stack([starts, ends], axis=1).ravel()
    counts = np.diff(edges, prepend=0)
    if edges[-1] < size:
        counts = np.append(counts, size - edges[-1])
    return counts.astype(np.int32)


def decode(counts: Sequence[int] | Counts, height: int, width: int) -> npt.NDArray[np.bool_]:
    """The (height, width) mask of run lengths.

    Raises:
        ValueError: A run is negative, or together they are not `height * width` pixels.
    """
    runs = checked(counts, height, width)
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def checked(counts: Sequence[int] | Counts, height: int, width: int) -> Counts:
    """The run lengths of a (height, width) mask, held to be such.

    Raises:
        ValueError: They are not whole numbers of 32 bits, one is negative, or together they are
            not `height * width` pixels.
    """
    runs = np.asarray(counts)
    if runs.ndim != 1 or runs.dtype.kind not in "iu":
        raise ValueError("run lengths must be whole numbers")
    if (runs < 0).any() or (runs > height * width).any() or runs.sum() != height * width:
        raise ValueError(f"the runs do not fill {height} x {width} pixels")
    return runs.astype(np.int32)


def compress(counts: Sequence[int] | Counts) -> str:
    """Run lengths as COCO's string."""
    text = []
    runs = [int(count) for count in counts]
    for position, count in enumerate(runs):
        number = count - runs[position - 2] if position > 2 else count
        more = True
        while more:
            digit = number & 0x1F
            number >>= 5
            more = number != (-1 if digit & 0x10 else 0)
            text.append(chr((digit | 0x20 if more else digit) + 48))
    return "".join(text)


def decompress(text: str) -> list[int]:
    """Run lengths from COCO's string.

    Raises:
        ValueError: It is not such a string.
    """
    counts: list[int] = []
    number = digits = 0
    for character in text:
        digit = ord(character) - 48
        if not 0 <= digit < 64 or digits == _LONGEST_NUMBER:
            raise ValueError("not a compressed run-length encoding")
        number |= (digit & 0x1F) << (5 * digits)
        digits += 1
        if digit & 0x20:
            continue
        if digit & 0x10:
            number -= 1 << (5 * digits)
        if len(counts) > 2:
            number += counts[-2]
        counts.append(number)
        number = digits = 0
    if digits:
        raise ValueError("a compressed run-length encoding that was cut off")
    return counts
