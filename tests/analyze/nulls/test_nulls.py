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
def test_nothing_goes_with_an_attribute_that_has_nothing_to_do_with_it(null, shape):
    found = bench.share_of_runs(null, bench.SHAPES[shape], RUNS, seed=7)
    assert len(found) >= 1
    for kind, share in found.items():
        assert share <= most_runs(bench.RATE), kind


@pytest.mark.parametrize("shape", ["10% have 12 captions", "1 to 6 captions", "few images"])
@pytest.mark.parametrize("null", [bench.null_names, bench.null_meetings])
def test_no_latent_is_named_and_no_two_meet_by_chance(null, shape):
    for kind, share in bench.share_of_runs(null, bench.SHAPES[shape], RUNS, seed=7).items():
        assert share <= most_runs(bench.CLAIMED[kind]), kind


@pytest.mark.parametrize(("name", "find", "strengths"), bench.STRENGTHS)
def test_what_was_planted_strongly_is_found(name, find, strengths):
    assert bench.power(find, strengths[-1], 2, seed=7) == 1, name
