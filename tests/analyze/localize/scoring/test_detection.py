"""AUC of present against absent texts, against scikit-learn and by leaving images out by hand."""

import numpy as np
import pytest
from scipy.stats import norm, t
from sklearn.metrics import roc_auc_score

from sparc.analyze.localize.scoring.detection import ScoredText, auc
from sparc.analyze.maths.intervals import share_interval


def draw(images, strength, seed):
    generator = np.random.default_rng(seed)
    results = []
    for image in range(images):
        for present in [True] * generator.integers(1, 4) + [False] * 6:
            number = round(generator.normal() + strength * present, 1)
            results.append(ScoredText(image * 3, present, number))
    return results


def plain(judged):
    return roc_auc_score([j.present for j in judged], [j.score for j in judged])


def test_the_auc_and_its_interval_are_those_of_the_definitions():
    judged = draw(12, 1.0, 0)
    actual = auc(judged)
    assert actual.value == pytest.approx(plain(judged))
    without = [plain([j for j in judged if j.image != image]) for image in range(0, 36, 3)]
    variance = 11 / 12 * ((without - np.mean(without)) ** 2).sum()
    trials = (
        actual.value * (1 - actual.value) / variance * (norm.ppf(0.975) / t.ppf(0.975, 11)) ** 2
    )
    low, high = share_interval(actual.value, trials)
    assert actual.interval.low == pytest.approx(low)
    assert actual.interval.high == pytest.approx(high)


def test_random_scores_have_an_interval_around_a_half():
    held = 0
    for seed in range(100):
        low, high = auc(draw(40, 0.0, seed)).interval
        held += low <= 0.5 <= high
    assert held >= 90


@pytest.mark.parametrize("strength", [1.0, 2.5])
def test_intervals_near_1_have_their_coverage(strength):
    results = [auc(draw(15, strength, seed)) for seed in range(200)]
    truth = norm.cdf(strength / np.sqrt(2))
    held = [result.interval.low <= truth <= result.interval.high for result in results]
    assert np.mean(held) >= 0.92


def test_a_perfect_auc_is_not_certain():
    judged = [ScoredText(image, present, present) for image in range(10) for present in (0, 1)]
    actual = auc(judged)
    assert actual.value == actual.interval.high == 1
    assert actual.interval.low == pytest.approx(0.05 ** (1 / 10))


def test_without_present_or_absent_texts_there_is_no_auc():
    for judged in ([], draw(1, 0, 0)[-6:]):
        actual = auc(judged)
        assert np.isnan([actual.value, *actual.interval]).all()
