"""Tables that state a test find nothing where nothing is there, and something where it is.

The simulations are those of `tests/benchmarks/bench_nulls.py`, which has more runs and all shapes.
"""

import importlib.util
import sys
from pathlib import Path

import pytest
from scipy import stats

_FILE = Path(__file__).parents[2] / "benchmarks" / "bench_nulls.py"
_SPEC = importlib.util.spec_from_file_location("bench_nulls", _FILE)
assert _SPEC is not None
assert _SPEC.loader is not None
bench = importlib.util.module_from_spec(_SPEC)
sys.modules["bench_nulls"] = bench
_SPEC.loader.exec_module(bench)

RUNS = 6


def most_runs(claimed):
    """Runs with a finding that one in two hundred such tests would exceed."""
    return stats.binom.ppf(0.995, RUNS, claimed) / RUNS


@pytest.mark.parametrize("shape", ["1 to 6 captions", "few images"])
@pytest.mark.parametrize("null", [bench.null_associations, bench.null_pairs])
def test_an_independent_attribute_has_no_associations(null, shape):
    actual = bench.share_of_runs(null, bench.SHAPES[shape], RUNS, seed=7)
    assert len(actual) >= 1
    for kind, share in actual.items():
        assert share <= most_runs(bench.RATE), kind


@pytest.mark.parametrize("shape", ["10% have 12 captions", "1 to 6 captions", "few images"])
@pytest.mark.parametrize("null", [bench.null_names, bench.null_meetings])
def test_by_chance_no_latent_is_named_and_no_pair_listed(null, shape):
    for kind, share in bench.share_of_runs(null, bench.SHAPES[shape], RUNS, seed=7).items():
        assert share <= most_runs(bench.CLAIMED[kind]), kind


@pytest.mark.parametrize(("name", "find", "strengths"), bench.STRENGTHS)
def test_strong_planted_effects_are_detected(name, find, strengths):
    assert bench.power(find, strengths[-1], 2, seed=7) == 1, name


@pytest.mark.parametrize("share", bench.AGREEING)
def test_the_excess_of_agreement_is_the_share_of_latents_that_mean_the_same(share):
    clean = [bench.excess(share, seed, missed=0) for seed in range(2)]
    assert clean == pytest.approx([share, share], abs=0.05)
    # Codes that miss rows, in each stream others, agree less.
    blurred = bench.excess(share, 0, missed=0.3)
    assert -0.05 < blurred < share + 0.05
    if share:
        assert share / 2 < blurred
