"""Counts side by side at every depth, against dense counts."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import sparse

from sparc.analyze.maths.matched_counts import match

LIFTS = [np.arange(6), np.array([0, 0, 0, 3, 3, 5]), np.zeros(6, np.int64)]
"""Six classes in the order of their tree, from the deepest depth to the root."""


def draw(seed, most):
    generator = np.random.default_rng(seed)
    return generator.integers(0, most, (4, 6)) * (generator.random((4, 6)) < 0.5)


@given(seed=st.integers(0, 10_000), most=st.sampled_from([2, 4, 1 << 29]))
@example(seed=1973, most=1 << 29)  # a sum above 2^31
def test_counts_side_by_side(seed, most):
    dense = draw(seed, most), draw(seed + 1, most)
    matched = match(*(sparse.csr_matrix(x.astype(np.int64)) for x in dense), positions=True)
    for lift in LIFTS:
        matched = matched.lifted(lift)
        a, b = (np.stack([x[:, lift == c].sum(axis=1) for c in range(6)], axis=1) for x in dense)
        latent, classes = np.nonzero(a + b)
        assert np.repeat(np.arange(4), np.diff(matched.begins)).tolist() == latent.tolist()
        assert matched.classes.tolist() == classes.tolist()
        assert matched.a.tolist() == a[latent, classes].tolist()
        assert matched.b.tolist() == b[latent, classes].tolist()
        assert matched.distances().tolist() == np.abs(a - b).sum(axis=1).tolist()
        for counts, of in zip(dense, (matched.of_first, matched.of_second), strict=True):
            rows, deepest = np.nonzero(counts)
            assert latent[of].tolist() == rows.tolist()
            assert classes[of].tolist() == lift[deepest].tolist()
