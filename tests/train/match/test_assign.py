"""Matching by the correlation of codes, against dense formulas and planted permutations."""

import itertools

import numpy as np
import pytest
from scipy import sparse

from sparc.train.match.assign import correlations, match
from sparc.train.match.sample import SampledCodes


@pytest.fixture
def draw():
    rng = np.random.default_rng(0)

    def draw(rows, latents, density=0.2):
        active = rng.random((rows, latents)) < density
        return active * rng.uniform(0.5, 1.5, (rows, latents))

    return draw


def sampled(codes, valid=None):
    valid = np.ones(len(codes), dtype=bool) if valid is None else valid
    return SampledCodes(sparse.csr_array(codes * valid[:, None]), valid)


def permuted(codes, permutation):
    return codes[:, permutation]


def test_correlations_are_those_of_dense_codes(draw):
    first, second = draw(200, 700), draw(200, 30)
    second[:, :3] = first[:, 5:8] * 2
    first[:, 11] = 0
    second[:, 7] = 0.3
    valid = np.arange(200) % 5 > 0
    actual = correlations(sampled(first, valid), sampled(second))
    with np.errstate(invalid="ignore"):
        expected = np.corrcoef(first[valid].T, second[valid].T)[:700, 700:]
    expected[11] = expected[:, 7] = 0
    np.testing.assert_allclose(actual, expected, atol=1e-12)
    np.testing.assert_allclose(actual[5:8, :3].diagonal(), 1)


@pytest.mark.parametrize("streams", [2, 3, 4])
def test_planted_permutations_are_undone(draw, streams):
    """Streams of one source, each with concepts of its own; half of the rows lack a stream."""
    rng = np.random.default_rng(1)
    shared = draw(600, 40)
    sample, planted = {}, {}
    for number in range(streams):
        codes = np.concatenate([shared + 0.3 * draw(600, 40), draw(600, 10)], axis=1)
        planted[str(number)] = rng.permutation(50)
        valid = np.arange(600) % (2 * streams) != number
        sample[str(number)] = sampled(permuted(codes, planted[str(number)]), valid)
    matching = match(sample, rounds=2)
    assert np.array_equal(matching.permutations["0"], np.arange(50))
    concepts = [planted[name][order] for name, order in matching.permutations.items()]
    for one, other in itertools.combinations(concepts, 2):
        assert np.array_equal(one[planted["0"] < 40], other[planted["0"] < 40])
    assert matching.before < 0.1
    assert 0.6 < matching.after < 0.9


def test_two_streams_get_the_best_of_all_assignments(draw):
    first, second = draw(50, 6), draw(50, 6)
    matching = match({"a": sampled(first), "b": sampled(second)}, rounds=0)
    table = correlations(sampled(first), sampled(second))
    best = max(table[range(6), order].mean() for order in itertools.permutations(range(6)))
    assert matching.after == pytest.approx(best)
    assert matching.before == pytest.approx(table.diagonal().mean())


def test_rounds_never_make_it_worse(draw):
    sample = {name: sampled(draw(60, 30)) for name in "abcd"}
    after = [match(sample, rounds=rounds).after for rounds in (0, 1, 5)]
    assert after == sorted(after)
    assert after[0] < after[2]
    assert match(sample, rounds=50).after == match(sample, rounds=60).after  # it ends
