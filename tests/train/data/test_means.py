import numpy as np
import pytest
import torch

from sparc.common.cache.arrays import write_arrays
from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import CacheError
from sparc.train.config import ModelConfig, StreamShape
from sparc.train.data import means
from sparc.train.data.means import data_statistics


def config(**dims):
    return ModelConfig(streams=tuple(StreamShape(*item) for item in dims.items()), latents=4, k=1)


def test_statistics_of_normalized_features_over_rows_valid_in_all_streams(small_cache):
    cache = ActivationCache(small_cache)
    names = ("dino", "clip_text")
    means, variances = data_statistics(cache, config(dino=24, clip_text=12), seed=0)
    valid = cache.valid_rows(names)
    for name, variance in zip(names, variances, strict=True):
        chunks = [cache.features(name, c) for c in range(cache.info.chunks)]
        rows = np.concatenate(chunks)[valid].astype(np.float64)
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        expected = unit.mean(0)
        assert means[name].numpy() == pytest.approx(expected, abs=1e-6)
        assert means[name].dtype == torch.float32
        assert variance == pytest.approx(unit.var(0).sum(), rel=1e-5)


def test_with_rows_any_each_stream_is_taken_over_the_rows_that_have_it(small_cache):
    cache = ActivationCache(small_cache)
    means, variances = data_statistics(cache, config(dino=24, clip_text=12), seed=0, rows="any")
    for name, variance in zip(("dino", "clip_text"), variances, strict=True):
        of_stream, (other,) = data_statistics(cache, config(**{name: len(means[name])}), seed=0)
        assert torch.equal(means[name], of_stream[name])
        assert variance == other
    assert variances != data_statistics(cache, config(dino=24, clip_text=12), seed=0).variances


def test_chunks_are_sampled_from_the_whole_cache(tmp_path, monkeypatch):
    """The first half points one way and the second another: the sample must see both."""
    monkeypatch.setattr(means, "SAMPLED_CHUNKS", 12)
    features = np.zeros((640, 2), np.float32)
    features[:320, 0] = features[320:, 1] = 1
    cache = write_arrays(tmp_path / "cache", {"a": features}, rows_per_chunk=16)
    mean = data_statistics(cache, config(a=2), seed=0).means["a"]
    assert 0.2 < mean[0] < 0.8
    assert mean.sum() == pytest.approx(1)
    assert torch.equal(data_statistics(cache, config(a=2), seed=0).means["a"], mean)


def test_a_constant_stream_is_refused(tmp_path):
    direction = np.float32([3, 4, 12])
    lengths = np.linspace(1, 2, 100, dtype=np.float32)[:, None]
    varied = np.random.default_rng(0).standard_normal((100, 3)).astype(np.float32)
    cache = write_arrays(tmp_path / "cache", {"good": varied, "flat": lengths * direction})
    with pytest.raises(CacheError, match="stream flat is constant over 100 sampled rows"):
        data_statistics(cache, config(good=3, flat=3), seed=0)


@pytest.mark.parametrize("size", [1e30, 1e-30, 1e-44])
def test_values_whose_squares_are_beyond_float32_are_named(tmp_path, size):
    values = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    values[7] = size
    cache = write_arrays(tmp_path, {"a": values}, rows_per_chunk=8, dtype="float32")
    config = ModelConfig(streams=(StreamShape("a", 4),), latents=4, k=2)
    with pytest.raises(CacheError, match=r"stream a, row 7: the squares .* are beyond float32"):
        data_statistics(cache, config, seed=0)
