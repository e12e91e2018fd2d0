"""The figures that follow from sums: identities, and independence of the batch size."""

import numpy as np
import pytest
import torch

from sparc.common.errors import RunError
from sparc.train.config import ModelConfig, StreamShape, TrainConfig
from sparc.train.model.initialize import initial_model
from sparc.train.run.metrics import (
    describe,
    explained_variances,
    self_and_cross,
    sums_from_tensors,
    sums_to_tensors,
)
from sparc.train.step.learner import Learner
from sparc.train.step.noise import Share


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    return {n: torch.randn(240, d, generator=generator) + 1 for n, d in (("a", 8), ("b", 6))}


def build(cross_weight=1.0, latents=20, k=3):
    config = ModelConfig(streams=(StreamShape("a", 8), StreamShape("b", 6)), latents=latents, k=k)
    model = initial_model(config, seed=0, means=None)
    return Learner(model, TrainConfig(recipe="joint", cross_weight=cross_weight))


def measured(learner, features, size):
    parts = range(0, len(features["a"]), size)
    sums = [learner.measure({n: x[i : i + size] for n, x in features.items()}) for i in parts]
    total = sums[0]
    for further in sums[1:]:
        total = total + further
    return total


def test_figures_do_not_depend_on_the_batch_size(features):
    learner = build()
    lines = [
        describe(measured(learner, features, size), ("a", "b"), learner.dead_counts())
        for size in (240, 24, 7)
    ]
    for line in lines[1:]:
        assert line["rows"] == 240
        assert line["loss"] == pytest.approx(lines[0]["loss"], rel=1e-6)
        for key in ("explained_variance", "l0"):
            assert line[key] == pytest.approx(lines[0][key], rel=1e-5)


def test_predicting_the_mean_explains_nothing(features):
    learner = build()
    model = learner.model
    with torch.no_grad():
        for name, x in features.items():
            model.pre_bias[name].copy_(torch.nn.functional.normalize(x).mean(0))
            model.latent_bias[name].fill_(-1e3)  # no value is above zero: only the bias is left
    sums = measured(learner, features, 60)
    assert np.array(explained_variances(sums)) == pytest.approx(np.zeros((2, 2)), abs=1e-5)
    assert describe(sums, ("a", "b"), {"a": 0, "b": 0})["l0"] == {"a": 0, "b": 0}


def test_explained_variance_is_that_of_the_formula(features):
    learner = build()
    line = describe(measured(learner, features, 240), ("a", "b"), {"a": 0, "b": 0})
    for name in ("a", "b"):
        x = torch.nn.functional.normalize(features[name]).double().numpy()
        for source in ("a", "b"):
            with torch.no_grad():
                r = learner.model.reconstruct(features, source, name).double().numpy()
            explained = 1 - ((r - x) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()
            pair = line["explained_variance_pairs"][name][source]
            assert pair == pytest.approx(explained, abs=1e-5)
            rows = ((r - x) ** 2).sum(1) / (x**2).sum(1)
            assert line["nmse"][name][source] == pytest.approx(rows.mean(), rel=1e-5)
        assert line["explained_variance"][name] == line["explained_variance_pairs"][name][name]


def test_rows_that_do_not_vary_have_no_explained_variance(features):
    same = {name: x[:1].expand(50, -1).contiguous() for name, x in features.items()}
    line = describe(measured(build(), same, 50), ("a", "b"), {"a": 0, "b": 0})
    assert line["explained_variance"] == {"a": None, "b": None}


def test_pairs_that_are_not_trained_are_null(features):
    learner = build(cross_weight=0.0)
    line = describe(learner.step(features, 1e-3), ("a", "b"), learner.dead_counts())
    assert line["nmse"]["a"]["b"] is line["explained_variance_pairs"]["a"]["b"] is None
    assert line["nmse"]["a"]["a"] > 0
    own, cross = self_and_cross(line["nmse"])
    assert own > 0
    assert np.isnan(cross)


def test_sums_survive_a_checkpoint(features):
    sums = measured(build(), features, 100)
    zeros = build().no_sums
    again = sums_from_tensors(sums_to_tensors([sums]), zeros)
    assert describe(again, ("a", "b"), {"a": 0, "b": 0}) == describe(
        sums, ("a", "b"), {"a": 0, "b": 0}
    )
    assert sums_from_tensors(sums_to_tensors([]), zeros) is None


def test_every_process_continues_with_its_own_sums(features):
    """So that last bits do not depend on when a run was interrupted; or the first one with all."""
    windows = [measured(build(), features, rows) for rows in (100, 60)]
    zeros, named = build().no_sums, sums_to_tensors(windows)
    for rank, sums in enumerate(windows):
        again = sums_from_tensors(named, zeros, Share(rank, 2))
        assert torch.equal(again.flat(), sums.flat())
    both = windows[0] + windows[1]
    assert torch.equal(sums_from_tensors(named, zeros).flat(), both.flat())
    of_three = [sums_from_tensors(named, zeros, Share(rank, 3)) for rank in range(3)]
    assert torch.equal(of_three[0].flat(), both.flat())
    assert of_three[1:] == [None, None]
    # As earlier versions wrote them.
    del named["by_process"]
    of_two = [sums_from_tensors(named, zeros, Share(rank, 2)) for rank in range(2)]
    assert torch.equal(of_two[0].flat(), both.flat())
    assert of_two[1] is None


def test_sums_of_another_version_are_refused(features):
    named = sums_to_tensors([measured(build(), features, 100)])
    for other in (
        {**named, "surprise\x1b[1m": named["rows"]},
        {name: tensor for name, tensor in named.items() if name != "active"},
        {name: tensor for name, tensor in named.items() if "feature_sum" not in name},
    ):
        with pytest.raises(RunError, match="made by another version") as error:
            sums_from_tensors(other, build().no_sums)
        assert "\x1b" not in str(error.value)


def test_a_loss_term_that_an_earlier_version_did_not_have_is_zero(features):
    sums = measured(build(), features, 100)
    named = {name: tensor for name, tensor in sums_to_tensors([sums]).items() if name != "aux"}
    again = sums_from_tensors(named, build().no_sums)
    assert again.terms["aux"].tolist() == [0, 0]
    assert torch.equal(again.nmse, sums.nmse)


@pytest.mark.parametrize("name", ["rows", "nmse", "active", "feature_sum.1"])
def test_sums_of_another_shape_or_type_are_refused(features, name):
    named = sums_to_tensors([measured(build(), features, 100)])
    for other in (
        named[name].reshape(-1)[:1].expand(2, 3),
        named[name].float(),
        named[name].to(torch.bool),
    ):
        with pytest.raises(RunError, match=f"do not fit the model: {name} is"):
            sums_from_tensors({**named, name: other}, build().no_sums)
