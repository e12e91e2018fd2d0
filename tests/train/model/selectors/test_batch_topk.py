"""BatchTopK against dense float64 arithmetic, in training and in use."""

import json

import pytest
import torch

from sparc.common.errors import ConfigError
from sparc.train import load
from sparc.train.config import ModelConfig, StreamShape, TrainConfig
from sparc.train.step.learner import Learner


@pytest.fixture
def model(build_model):
    return build_model(selection="batch")


def dense(codes, latents=40):
    zeros = torch.zeros(len(codes.indices), latents, dtype=codes.values.dtype)
    return zeros.scatter(1, codes.indices, codes.values)


def all_logits(model, batch):
    with torch.no_grad():
        return {n: model.logits(n, model.normalize(n, x)) for n, x in batch.items()}


def smallest_kept(scores, k=6):
    return scores.flatten().sort(descending=True).values[len(scores) * k - 1]


def scores_of_all_sums(model, batch):
    logits = all_logits(model, batch)
    return [sum(logits.values()), *logits.values()]


def test_the_first_batch_sets_thresholds_and_later_ones_move_them(model, draw_batch):
    learner = Learner(model, TrainConfig(recipe="joint"))
    expected = None
    for seed in range(4):
        batch = draw_batch(model, 9, seed=seed)
        smallest = [smallest_kept(scores) for scores in scores_of_all_sums(model, batch)]
        smallest = torch.stack(smallest)
        expected = smallest if expected is None else 0.9 * expected + 0.1 * smallest
        learner.step(batch, 1e-2)
        torch.testing.assert_close(model.thresholds, expected, rtol=1e-9, atol=1e-9)


def test_a_row_is_cut_at_the_largest_number_of_latents(build_model, draw_batch):
    model = build_model(selection="batch", k=2)
    assert model.config.k_max == model.config.width == 8
    batch = draw_batch(model, 5)
    with torch.no_grad():
        for name in batch:  # one row has all of the largest logits
            batch[name][0] = model.encoder[name].sum(0)
            model.pre_bias[name].zero_()
            model.latent_bias[name].copy_(model.encoder[name] @ batch[name][0])
    learner = Learner(model, TrainConfig(recipe="joint"))
    sums = learner.step({name: x[:1].repeat(5, 1) for name, x in batch.items()}, 0.0)
    assert (sums.active <= 5 * 8).all()  # ties: more than B k, and never more than the width
    assert (sums.active >= 5 * 2).all()


def learned(model, draw_batch):
    learner = Learner(model, TrainConfig(recipe="joint"))
    for seed in range(3):
        learner.step(draw_batch(model, 12, seed=seed), 1e-2)
    return learner


def test_codes_in_use_are_those_above_the_learned_thresholds(model, draw_batch):
    learned(model, draw_batch)
    batch = draw_batch(model, 50, seed=9)
    joint, independent = model.encode_both(batch)
    logits = all_logits(model, batch)
    total = sum(logits.values())
    counts = (total >= model.thresholds[0]).sum(1)
    assert counts.min() < 6 < counts.max() < model.config.width
    for position, (name, of_stream) in enumerate(logits.items()):
        assert joint[name].values.shape == (50, 24)
        kept = of_stream.relu() * (total >= model.thresholds[0])
        torch.testing.assert_close(dense(joint[name]), kept)
        own = of_stream.relu() * (of_stream >= model.thresholds[1 + position])
        torch.testing.assert_close(dense(independent[name]), own)


def test_a_row_has_the_same_code_in_every_batch(model, draw_batch):
    learned(model, draw_batch)
    batch = draw_batch(model, 20, seed=9)
    whole = model.encode(batch)["s1"]
    alone = model.encode({name: x[7:8] for name, x in batch.items()})["s1"]
    torch.testing.assert_close(dense(alone), dense(whole)[7:8])


def test_streams_may_be_missing(model, draw_batch):
    learned(model, draw_batch)
    batch = draw_batch(model, 20, seed=9)
    for name, x in batch.items():  # one stream by itself has its own threshold in both modes
        one, other = model.encode({name: x}, "joint"), model.encode(batch, "independent")
        torch.testing.assert_close(dense(one[name]), dense(other[name]))
    two = model.encode({name: batch[name] for name in ("s0", "s2")}, "joint")
    logits = all_logits(model, batch)
    total, (every, first, second, third) = logits["s0"] + logits["s2"], model.thresholds
    limit = first + third - (first + second + third - every) / 3
    torch.testing.assert_close(dense(two["s0"]), logits["s0"].relu() * (total >= limit))


def test_before_training_every_row_uses_its_k_largest(model, build_model, draw_batch):
    batch, twin = draw_batch(model, 20), build_model(selection="global")
    for mode in ("joint", "independent"):
        codes, expected = model.encode(batch, mode), twin.encode(batch, mode)
        for name in batch:
            torch.testing.assert_close(dense(codes[name]), dense(expected[name]))


def test_measuring_selects_as_in_use(model, draw_batch):
    learner = learned(model, draw_batch)
    batch = draw_batch(model, 30, seed=9)
    sums = learner.measure(batch)
    codes = model.encode(batch)
    active = [int((codes[name].values > 0).sum()) for name in batch]
    assert sums.active.tolist() == active
    logits = all_logits(model, batch)
    chosen = sum(logits.values()) >= model.thresholds[0]
    assert sums.chosen == chosen.sum()
    for position, of_stream in enumerate(logits.values()):
        also = chosen & (of_stream >= model.thresholds[1 + position])
        assert sums.chosen_alone[position] == also.sum()


def test_thresholds_are_saved_with_the_model(build_model, draw_batch, tmp_path):
    model = build_model(selection="batch").float()
    learned(model.double(), draw_batch)
    model = model.float()
    model.save(tmp_path)
    loaded = load(tmp_path)
    assert torch.equal(loaded.thresholds, model.thresholds)
    table = json.loads((tmp_path / "config.json").read_text())["model"]
    assert (table["k"], table["k_max"]) == (6, 24)


def test_a_model_of_topk_is_saved_as_before(build_model, tmp_path):
    build_model().float().save(tmp_path)
    table = json.loads((tmp_path / "config.json").read_text())["model"]
    assert list(table) == ["streams", "latents", "k", "selection", "normalize"]
    assert "thresholds" not in load(tmp_path).state_dict()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"selection": "global", "k_max": 12}, "rows use at most k: leave k_max out"),
        ({"selection": "batch", "k_max": 5}, "k_max must be from k, 6, to latents, 40"),
        ({"selection": "batch", "k_max": 41}, "k_max must be from k, 6, to latents, 40"),
    ],
)
def test_a_width_that_does_not_fit_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(streams=(StreamShape("a", 3),), latents=40, k=6, **settings)
