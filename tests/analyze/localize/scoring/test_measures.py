"""Scores against plain arithmetic, and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from sparc.analyze.localize.scoring.measures import otsu_threshold, score


def test_a_perfect_map_scores_one():
    mask = np.zeros((6, 5), bool)
    mask[1:3, 2:4] = True
    assert score(np.where(mask, 2.0, -1.0), mask) == (1, 1, 1, 1)


@pytest.mark.parametrize("value", [0.3, 0.0, -2.0, 1e30, np.nan])
def test_a_constant_map_scores_the_share_of_the_mask(value):
    mask = np.zeros((4, 4), bool)
    mask[0, :2] = True
    assert score(np.full((4, 4), value), mask) == pytest.approx((2 / 16,) * 4)


def test_nan_counts_as_the_smallest_value():
    mask = np.array([[True, False, False]])
    values = np.array([[np.nan, 5.0, 1.0]])
    assert score(values, mask) == score(np.array([[1.0, 5.0, 1.0]]), mask)
    assert score(values, mask).pointing == 0


@pytest.mark.parametrize("corner", [np.s_[:2, :2], np.s_[2:, 2:]])
def test_tied_largest_places_share_the_pointing(corner):
    values, mask = np.zeros((4, 4)), np.zeros((4, 4), bool)
    values[1:3, 1:3] = 1
    mask[corner] = True  # wherever it lies
    assert score(values, mask).pointing == 0.25


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_scores_agree_with_their_definitions(seed, levels):
    generator = np.random.default_rng(seed)
    values = generator.integers(0, levels, (7, 6)).astype(float)
    values[0, 0] += 0.5
    mask = generator.random((7, 6)) < 0.3
    mask[3, 3], mask[4, 4] = True, False
    scores = score(values, mask)
    expected = average_precision_score(mask.ravel(), values.ravel())
    assert scores.average_precision == pytest.approx(expected)
    ious = [(mask & (values >= t)).sum() / (mask | (values >= t)).sum() for t in np.unique(values)]
    assert scores.iou_best == pytest.approx(max(ious))
    assert scores.iou_best >= scores.iou_otsu
    assert scores.pointing == pytest.approx(mask[values == values.max()].mean())


def test_otsu_separates_two_modes():
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.normal(0, 0.1, 900), generator.normal(3, 0.1, 100)])
    assert (values > otsu_threshold(values)).sum() == 100
