"""Training finds planted concepts, the same latent for the same concept in every stream."""

import numpy as np
import pytest
import torch

from sparc.common.cache.arrays import write_arrays
from sparc.train import job
from sparc.train.config import TrainConfig
from sparc.train.data.planted import plant, recovery
from sparc.train.loading import load_model, load_untrained

DIMS = {"dino": 48, "clip_image": 40, "clip_text": 32}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def planted():
    return plant(DIMS, rows=4096, shared=48, private=4, active=3)


@pytest.fixture(scope="module")
def train_on(tmp_path_factory, planted):
    folder = tmp_path_factory.mktemp("planted")
    write_arrays(folder / "cache", planted.features, rows_per_chunk=512, dtype="float16")

    def train(steps, **changes):
        settings = TrainConfig(
            recipe="joint",
            latents=64,
            k=4,
            auxk=16,
            dead_after=2000,
            batch_size=128,
            steps=steps,
            lr=5e-3,
            schedule="cosine",
            **changes,
        )
        run = folder / f"run-{len(list(folder.iterdir()))}"
        job.run(str(folder / "cache"), run, settings)
        return run

    return train


def test_sparc_recovers_shared_concepts_in_the_same_latents(planted, train_on):
    """Measured: cosines 0.995 to 0.996, every concept in the same latent of all streams."""
    run = train_on(600)
    found = recovery(load_model(run), planted)
    assert min(found.cosine.values()) > 0.97
    assert found.same_latent > 0.95
    untrained = recovery(load_untrained(run), planted)
    assert max(untrained.cosine.values()) < 0.6
    assert untrained.same_latent < 0.1


def test_batch_topk_recovers_them_too_and_rows_use_different_numbers(planted, train_on):
    """Measured: cosines 0.993 to 0.995; 3.9 latents a row in both modes, standard deviation 1.6."""
    model = load_model(train_on(600, selection="batch"))
    result = recovery(model, planted)
    assert min(result.cosine.values()) > 0.97
    assert result.same_latent > 0.95
    features = {name: torch.from_numpy(x[:1000]) for name, x in planted.features.items()}
    joint, independent = model.encode_both(features)
    for name in DIMS:
        assert (independent[name].values > 0).sum(1).double().mean() == pytest.approx(4, abs=0.4)
        used = (joint[name].values > 0).sum(1).double()
        assert used.mean() == pytest.approx(4, abs=0.4)
        assert used.std() > 1


def test_without_selecting_together_the_latents_are_not_the_same(planted, train_on):
    """The baseline finds the concepts of each stream, but each stream numbers them its own way."""
    found = recovery(load_model(train_on(400, selection="local", cross_weight=0.0)), planted)
    assert min(found.cosine.values()) > 0.9
    assert found.same_latent < 0.2


def test_what_is_planted_is_there(planted):
    for name, dim in DIMS.items():
        assert planted.features[name].shape == (4096, dim)
        assert np.linalg.norm(planted.shared[name], axis=1) == pytest.approx(1, abs=1e-5)
        assert np.linalg.norm(planted.features[name], axis=1).min() > 0
    again = plant(DIMS, rows=4096, shared=48, private=4, active=3)
    assert all(np.array_equal(again.features[n], planted.features[n]) for n in DIMS)
    other = plant(DIMS, rows=4096, shared=48, private=4, active=3, seed=1)
    assert not np.array_equal(other.features["dino"], planted.features["dino"])


def test_noise_has_the_asked_size():
    clean = plant({"a": 100}, rows=200, shared=10, private=0, active=2)
    noisy = plant({"a": 100}, rows=200, shared=10, private=0, active=2, noise=0.3)
    off = np.linalg.norm(noisy.features["a"] - clean.features["a"], axis=1)
    assert (off / np.linalg.norm(clean.features["a"], axis=1)).mean() == pytest.approx(0.3, rel=0.1)
