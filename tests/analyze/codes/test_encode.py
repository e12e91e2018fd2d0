"""Codes made batch by batch and block by block, against the model's own."""

import numpy as np
import pytest
import torch

from sparc.analyze.codes import batch_codes
from sparc.analyze.codes.batch_codes import batch_encoder
from sparc.analyze.codes.encode import encode_both, encode_jointly
from sparc.common import processor
from sparc.train.config import ModelConfig, StreamShape
from sparc.train.model.initialize import create_model

DIMS = {"dino": 24, "clip_image": 16, "clip_text": 16}


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def features():
    generator = np.random.default_rng(0)
    return {s: generator.normal(size=(331, d)).astype(np.float32) for s, d in DIMS.items()}


def same(a, b):
    return all(
        np.array_equal(a.indices[s], b.indices[s]) and np.array_equal(a.values[s], b.values[s])
        for s in DIMS
    )


@pytest.mark.parametrize("batch_size", [1, 100, 128, 1000])
def test_codes_are_those_of_the_model(model, features, batch_size):
    rows = 7 + np.arange(331)
    both = encode_both(model, features, rows, batch_size=batch_size)
    with torch.no_grad():
        expected = model.encode_both({s: torch.from_numpy(x) for s, x in features.items()})
    for codes, wanted in zip(both, expected, strict=True):
        assert np.array_equal(codes.rows, rows)
        for stream in DIMS:
            order = wanted[stream].indices.argsort(dim=1)
            indices = wanted[stream].indices.gather(1, order).numpy()
            assert np.array_equal(codes.indices[stream], indices)
            values = wanted[stream].values.gather(1, order).numpy()
            np.testing.assert_allclose(codes.values[stream], values, atol=1e-6)
    joint = both[0]
    assert joint.indices["dino"] is joint.indices["clip_text"]
    assert same(encode_jointly(model, features, rows, batch_size=batch_size), joint)


def test_codes_do_not_depend_on_the_number_of_threads(model, features, threads):
    rows = np.arange(331)
    results = []
    for count in (1, 2, 5):
        threads(count)
        results.append(encode_both(model, features, rows, batch_size=32))
        assert torch.get_num_threads() == count
    for other in results[1:]:
        assert all(same(a, b) for a, b in zip(results[0], other, strict=True))


def test_screened_codes_are_the_largest_logits(monkeypatch):
    """Whatever batch a row comes in; latents whose logits float32 cannot tell apart may differ."""
    pytest.importorskip("numba")
    for function in ("multiplies_bfloat16", "bfloat16_is_fast"):
        monkeypatch.setattr(processor, function, lambda: True)
    streams = tuple(StreamShape(name, dim) for name, dim in DIMS.items())
    model = create_model(ModelConfig(streams=streams, latents=2048, k=16), seed=0)
    generator = np.random.default_rng(1)
    features = {s: generator.normal(size=(150, d)).astype(np.float32) for s, d in DIMS.items()}
    assert isinstance(batch_encoder(model, list(DIMS), 150), batch_codes._Screened)
    rows = np.arange(150)
    both = encode_both(model, features, rows, batch_size=150)
    for a, b in zip(both, encode_both(model, features, rows, batch_size=64), strict=True):
        assert same(a, b)
    assert same(encode_jointly(model, features, rows, batch_size=64), both[0])
    assert both[0].indices["dino"] is both[0].indices["clip_text"]
    exact = model.double()
    with torch.no_grad():
        logits = {
            s: exact.logits(s, exact.normalize(s, torch.from_numpy(x))).numpy()
            for s, x in features.items()
        }
    for codes, joint in zip(both, (True, False), strict=True):
        for stream in DIMS:
            scores = sum(logits.values()) if joint else logits[stream]
            chosen = np.take_along_axis(scores, codes.indices[stream].astype(np.int64), axis=1)
            assert (chosen.min(axis=1) > np.sort(scores, axis=1)[:, -16] - 1e-5).all()
            assert (np.diff(codes.indices[stream].astype(np.int64), axis=1) > 0).all()
            own = np.take_along_axis(logits[stream], codes.indices[stream].astype(np.int64), axis=1)
            np.testing.assert_allclose(codes.values[stream], np.maximum(own, 0), atol=1e-5)
