"""Streams that select independently agree on shared concepts, and keep private ones to themselves.

Three streams are linear images of one sparse source: one is wider and has concepts of its own, one
has a large mean. What a latent stands for is known, so no figure here is a model's own opinion.
Measured with seeds 0, 1 and 2: see train/RECIPES.md.
"""

import numpy as np
import pytest
import torch

from sparc.common.cache.arrays import write_arrays
from sparc.train import load
from sparc.train.data.planted import detection, plant

TRAINING, HELD_OUT = 4096, slice(4096, 5120)
SIZE = ("--latents=72", "--k=5", "--seed=42", "--order-seed=42", "--device=cpu")
STEPS = ("--steps=400", "--batch-size=128", "--lr=3e-3")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def planted():
    """Every row has four of the 48 shared concepts, and in `wide` one of 12 private ones."""
    return plant(
        {"near": 72, "wide": 96, "far": 72},
        rows=HELD_OUT.stop,
        shared=48,
        private={"near": 0, "wide": 12, "far": 0},
        active=5,
        counts="fixed",
        private_scale=2,
        means={"far": 3},
    )


@pytest.fixture(scope="module")
def cache(planted, tmp_path_factory):
    features = {name: x[:TRAINING] for name, x in planted.features.items()}
    return write_arrays(tmp_path_factory.mktemp("planted") / "cache", features).folder.location


@pytest.fixture(scope="module")
def train(cache, planted, call, tmp_path_factory):
    def train(*options):
        run = tmp_path_factory.mktemp("run") / "run"
        done = call("train", "run", cache, run, *SIZE, *STEPS, *options)
        assert done.returncode == 0, done.stderr
        return detection(load(run), planted, HELD_OUT)

    return train


@pytest.fixture(scope="module")
def aligned(train):
    """What the default recipe gives."""
    return train()


@pytest.fixture(scope="module")
def joint(train):
    """What joint batches alone give."""
    return train("--recipe=joint", "--schedule=tail", "--dead-after=5120")


def test_shared_concepts_are_on_one_latent_that_all_streams_use_alike(aligned, joint):
    assert min(aligned.f1.values()) > 0.9
    assert aligned.same_latent > 0.95
    assert aligned.row_overlap > 0.9
    assert joint.row_overlap < 0.8
    assert min(joint.f1.values()) < 0.85


def test_private_concepts_stay_in_their_stream(aligned):
    assert aligned.private_f1["wide"] > 0.7
    assert aligned.private_overlap < 0.25


def test_distillation_of_a_large_weight_gives_private_latents_to_all_streams(train, aligned):
    distilled = train("--term=distill=0.15")
    assert distilled.row_overlap > 0.9
    assert distilled.private_f1["wide"] < 0.5 < aligned.private_f1["wide"]
    assert distilled.private_overlap > 0.35


def test_align_alone_makes_a_random_dictionary_agree(cache, planted, call, tmp_path):
    untrained, out = tmp_path / "untrained", tmp_path / "aligned"
    options = ("--recipe=joint", "--steps=1", "--lr=1e-12", "--batch-size=128")
    assert call("train", "run", cache, untrained, *SIZE, *options).returncode == 0
    assert call("train", "align", untrained, cache, out, "--device=cpu").returncode == 0
    before, after = (latents_in_common(load(run), planted) for run in (untrained, out))
    assert before < 0.1
    assert after > 0.55


def latents_in_common(model, planted):
    """The mean Jaccard index of a row's latents in two streams, over held-out rows and pairs."""
    features = {n: torch.from_numpy(x[HELD_OUT]) for n, x in planted.features.items()}
    sets = [
        [set(row[values > 0]) for row, values in zip(*map(np.asarray, codes), strict=True)]
        for codes in model.encode(features, "independent").values()
    ]
    pairs = [(0, 1), (0, 2), (1, 2)]
    return np.mean(
        [len(a & b) / len(a | b) for i, j in pairs for a, b in zip(sets[i], sets[j], strict=True)]
    )
