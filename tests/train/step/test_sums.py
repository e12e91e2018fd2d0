import torch

from sparc.train.config import TrainConfig
from sparc.train.step.learner import Learner


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11)


def test_sums_add_up(build_model, draw_batch):
    model = build_model()
    learner = Learner(model, TrainConfig(recipe="joint"))
    batch = draw_batch(model, 10)
    parts = [
        learner.measure({n: x[part] for n, x in batch.items()})
        for part in (slice(0, 3), slice(3, 10))
    ]
    whole, joined = learner.measure(batch), parts[0] + parts[1]
    torch.testing.assert_close(joined.named(), whole.named())
    assert all(t.dtype == torch.float64 for t in (*whole.feature_sum, whole.loss, whole.active))
    codes = model.encode(batch)
    for position, name in enumerate(model.config.names):
        assert whole.active[position] == (codes[name].values > 0).sum()
        unit = batch[name] / batch[name].norm(dim=1, keepdim=True)
        close(whole.feature_sum[position], unit.sum(0))
        close(whole.feature_square_sum[position], torch.tensor(10.0).double())


def test_share_that_each_stream_would_have_chosen(build_model, draw_batch):
    model = build_model()
    batch = draw_batch(model, 10)
    sums = Learner(model, TrainConfig(recipe="joint")).measure(batch)
    joint, independent = model.encode_both(batch)
    for position, name in enumerate(model.config.names):
        pairs = zip(joint[name].indices.tolist(), independent[name].indices.tolist(), strict=True)
        assert sums.chosen_alone[position] == sum(len(set(a) & set(b)) for a, b in pairs)
    assert sums.chosen == 10 * model.config.k


def test_without_cross_loss_a_step_leaves_pairs_out(build_model, draw_batch):
    model = build_model()
    learner = Learner(model, TrainConfig(recipe="joint", cross_weight=0.0))
    assert learner.measure(draw_batch(model, 4)).nmse.isfinite().all()
    sums = learner.step(draw_batch(model, 4), 1e-3)
    assert torch.equal(sums.nmse.isnan(), ~torch.eye(3, dtype=torch.bool))
    assert sums.loss.isfinite()


def test_loss_that_is_not_finite_shows_in_the_sums(build_model, draw_batch):
    model = build_model()
    learner = Learner(model, TrainConfig(recipe="joint"))
    batch = draw_batch(model, 4)
    good = learner.measure(batch)
    with torch.no_grad():
        model.pre_bias["s0"][0] = torch.nan
    assert not (good + learner.measure(batch)).loss.isfinite()
