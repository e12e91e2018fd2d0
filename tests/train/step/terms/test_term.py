import pytest

from sparc.train.config import TrainConfig
from sparc.train.step.terms.term import build_terms, pair_weights


def test_weights_of_pairs():
    def weights(streams, cross_weight):
        terms = build_terms(TrainConfig(recipe="joint", cross_weight=cross_weight))
        return pair_weights(terms, streams)

    assert weights(1, 3.0).tolist() == [[1.0]]
    assert weights(2, 0.5).tolist() == [[0.5, 0.25], [0.25, 0.5]]
    assert weights(3, 1.0).sum() == pytest.approx(2.0)
