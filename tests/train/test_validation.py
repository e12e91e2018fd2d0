"""Measuring on a second cache agrees with measuring by hand and changes nothing."""

import dataclasses

import pytest
import torch

from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import CacheError
from sparc.common.streams.origin import StreamOrigin
from sparc.train.config import ModelConfig, StreamShape, TrainConfig
from sparc.train.model.initialize import initial_model
from sparc.train.step.learner import Learner
from sparc.train.validation import check, measure

STREAMS = ("dino", "clip_image", "clip_text")


@pytest.fixture
def learners():
    shapes = tuple(StreamShape(*x) for x in (("dino", 24), ("clip_image", 16), ("clip_text", 12)))
    config = ModelConfig(streams=shapes, latents=32, k=3)
    models = [initial_model(config, seed=s, means=None) for s in (1, 2)]
    return [Learner(model, TrainConfig(recipe="joint")) for model in models]


def test_the_same_encoder_whose_weights_were_moved_is_accepted(small_cache):
    cache = ActivationCache(small_cache)

    def extracted(spec, **more):
        origin = StreamOrigin(spec=spec, weights_sha256="12ab", **more)
        return dataclasses.replace(cache.streams["dino"], origin=origin)

    cache.streams = {"dino": extracted("timm:vit@/old/vit.pth")}
    moved = dataclasses.replace(extracted("timm:vit@/new/vit.pth"), dtype="float32")
    check(cache, [moved])
    with pytest.raises(CacheError, match=r"stream dino was made by another encoder \(spec: 'timm"):
        check(cache, [extracted("timm:other@/old/vit.pth")])
    gelu, quick = (extracted("open_clip:local-dir:/a#image", definition_sha256=d) for d in "ab")
    cache.streams = {"dino": gelu}
    check(cache, [gelu])
    with pytest.raises(CacheError, match=r"\(definition_sha256: \S+ \(a\), not \S+ \(b\)"):
        check(cache, [quick])


@pytest.mark.parametrize("batch_size", [7, 64, 5000])
def test_every_valid_row_is_measured_once(small_cache, learners, batch_size):
    cache = ActivationCache(small_cache)
    device = torch.device("cpu")
    found = measure(cache, STREAMS, learners, batch_size=batch_size, device=device)
    valid = torch.from_numpy(cache.valid_rows(STREAMS))
    batch = {
        name: torch.cat(
            [torch.from_numpy(cache.features(name, c)) for c in range(cache.info.chunks)]
        )[valid].float()
        for name in STREAMS
    }
    for sums, learner in zip(found, learners, strict=True):
        expected = learner.measure(batch)
        assert sums.rows == expected.rows == 913
        torch.testing.assert_close(sums.nmse, expected.nmse, rtol=1e-6, atol=0)
        torch.testing.assert_close(sums.squared_error, expected.squared_error, rtol=1e-6, atol=0)


def test_nothing_is_changed(small_cache, learners):
    (learner, _) = learners
    torch.manual_seed(3)
    random = torch.get_rng_state()
    state = {key: value.clone() for key, value in learner.state().items()}
    weights = {key: value.clone() for key, value in learner.model.state_dict().items()}
    cache = ActivationCache(small_cache)
    measure(cache, STREAMS, [learner], batch_size=50, device=torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, state[key]) for key, value in learner.state().items())
    assert all(torch.equal(v, weights[k]) for k, v in learner.model.state_dict().items())
