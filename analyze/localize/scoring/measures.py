"""How well a map points at a mask. This module must not know what made either."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Map = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]

_BINS = 256
"""Bins of the histogram for Otsu's threshold."""


class MapScores(NamedTuple):
    """The scores of one map against one mask.

    Attributes:
        pointing: 1 if the map's largest value lies in the mask, else 0; where several places tie,
            the share of them in the mask.
        iou_best: Intersection over union at the best threshold.
        iou_otsu: Intersection over union at Otsu's threshold, which ignores the mask.
        average_precision: Of the pixels, ranked by the map.
    """

    pointing: float
    iou_best: float
    iou_otsu: float
    average_precision: float


def score(values: Map, mask: Mask) -> MapScores:
    """Score a map against a mask.

    Args:
        values: (height, width); NaN where the encoder sees nothing counts as the smallest value.
        mask: (height, width) bool, neither empty nor full.

    Returns:
        The scores. A constant map scores the mask's share of the image everywhere, which is chance.
    """
    filled = _filled(values)
    flat, wanted = filled.ravel(), mask.ravel()
    order = np.argsort(-flat, kind="stable")
    ranked = flat[order]
    hits = np.cumsum(wanted[order], dtype=np.float64)
    # Only the last of equal values is a threshold.
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    taken, right = last + 1.0, hits[last]
    total = hits[-1]
    precision = right / taken
    recall_gained = np.diff(right, prepend=0.0) / total
    return MapScores(
        pointing=float(wanted[flat == filled.max()].mean()),
        iou_best=float((right / (taken + total - right)).max()),
        iou_otsu=_iou(_above_otsu(filled), mask),
        average_precision=float(precision @ recall_gained),
    )


def otsu_threshold(values: Map) -> float:
    """The threshold that maximizes the variance between the two classes it separates.

    Otsu, IEEE Trans. Syst. Man Cybern. 9, 1979; on a histogram of 256 bins.
    """
    counts, edges = np.histogram(values, _BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = sums[:-1] / below - (sums[-1] - sums[:-1]) / above
        between = np.nan_to_num(below * above * distance**2)
    return float(edges[1 + int(between.argmax())])


def _filled(values: Map) -> Map:
    unseen = np.isnan(values)
    if not unseen.any():
        return values
    lowest = values[~unseen].min() if not unseen.all() else 0.0
    return np.where(unseen, lowest, values)


def _above_otsu(values: Map) -> Mask:
    """The places above Otsu's threshold; all of them in a constant map."""
    if values.min() == values.max():
        return np.ones(values.shape, np.bool_)
    above: Mask = values > otsu_threshold(values)
    return above


def _iou(predicted: Mask, wanted: Mask) -> float:
    either = np.count_nonzero(predicted | wanted)
    return np.count_nonzero(predicted & wanted) / either if either else 0.0
