"""Moments of a sample are those of its rows, of each pair of streams over the rows both have."""

import numpy as np
import pytest
import torch

from sparc.common.cache.arrays import write_arrays
from sparc.common.errors import CacheError
from sparc.train.config import ModelConfig, StreamShape
from sparc.train.data.moments import data_moments

CPU = torch.device("cpu")


def config(normalize="unit", **dims):
    streams = tuple(StreamShape(*item) for item in dims.items())
    return ModelConfig(streams=streams, latents=4, k=1, normalize=normalize)


@pytest.fixture
def features():
    """Two streams of which one has a large mean, each lacking some rows."""
    rng = np.random.default_rng(0)
    source = rng.standard_normal((500, 6))
    one = (source[:, :4] + 100).astype(np.float32)
    other = (source @ rng.standard_normal((6, 3))).astype(np.float32)
    one[::5] = 0
    other[::7] = 0
    return {"one": one, "other": other}


def test_covariances_of_the_rows_that_both_streams_have(tmp_path, features):
    cache = write_arrays(tmp_path, features, rows_per_chunk=64, dtype="float32")
    found = data_moments(cache, config("none", one=4, other=3), rows=10**6, seed=0, device=CPU)
    valid = {name: x.any(1) for name, x in features.items()}
    for s in features:
        expected = features[s][valid[s]].mean(0, dtype=np.float64)
        np.testing.assert_allclose(found.means[s], expected, rtol=1e-12)
        for t in features:
            both = valid[s] & valid[t]
            x, y = (features[name][both].astype(np.float64) for name in (s, t))
            expected = (x - x.mean(0)).T @ (y - y.mean(0)) / both.sum()
            np.testing.assert_allclose(found.covariance(s, t), expected, rtol=0, atol=1e-12)
    assert found.counts.tolist() == [[400, 343], [343, 428]]
    assert found.rows == 343


def test_chunks_are_added_until_every_pair_has_the_rows_wanted(tmp_path, features):
    cache = write_arrays(tmp_path, features, rows_per_chunk=20)
    shape = config(one=4, other=3)
    found = data_moments(cache, shape, rows=100, seed=0, device=CPU)
    assert 100 <= found.rows < 120
    again = data_moments(cache, shape, rows=100, seed=0, device=CPU)
    assert torch.equal(again.covariances, found.covariances)
    other = data_moments(cache, shape, rows=100, seed=1, device=CPU)
    assert not torch.equal(other.covariances, found.covariances)


def test_streams_without_a_common_row_and_constant_ones_are_refused(tmp_path, features):
    features["one"][::2] = features["other"][1::2] = 0
    cache = write_arrays(tmp_path / "apart", features)
    with pytest.raises(CacheError, match="streams one and other share no row"):
        data_moments(cache, config(one=4, other=3), rows=100, seed=0, device=CPU)
    features["one"] = np.ones_like(features["one"])
    cache = write_arrays(tmp_path / "flat", features)
    with pytest.raises(CacheError, match="stream one is constant over 500 sampled rows"):
        data_moments(cache, config(one=4, other=3), rows=100, seed=0, device=CPU)
