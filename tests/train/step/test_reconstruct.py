import pytest

from sparc.train.step.reconstruct import pair_weights


def test_weights_of_pairs():
    assert pair_weights(1, 3.0).tolist() == [[1.0]]
    assert pair_weights(2, 0.5).tolist() == [[0.5, 0.25], [0.25, 0.5]]
    assert pair_weights(3, 1.0).sum() == pytest.approx(2.0)
