"""Rows that lack streams: they train what they have, and nothing else of them has any influence."""

import pytest
import torch
from different_kernels import different_kernels

from sparc.common.errors import ConfigError
from sparc.train.config import TrainConfig
from sparc.train.reference import Reference, pairs
from sparc.train.run.metrics import describe
from sparc.train.step.learner import Learner
from sparc.train.step.noise import draw_noise
from sparc.train.step.schedule import mode_of_step
from sparc.train.step.terms.registry import TERMS, TermEntry
from sparc.train.step.terms.term import LossTerm

KERNELS = different_kernels(torch.device("cpu"))
CHEAP = {
    "recipe": "joint",
    "rows": "any",
    "terms": ("distill=0.4",),
    "balance": 1e-2,
    "noise": 0.2,
    "independent": 0.5,
    "alive_by": "both",
    "auxk": 4,
    "aux_weight": 0.5,
    "dead_after": 20,
}
STREAMS = ("s0", "s1", "s2")


@pytest.fixture
def draw(draw_batch):
    """A batch in which rows lack streams, and which each row has; the last row has all."""

    def draw(model, rows, seed=1, lost=()):
        streams = len(model.config.names)
        draws = torch.Generator().manual_seed(seed)
        present = torch.rand(rows, streams, generator=draws) < 0.6
        present[:, 0] |= ~present.any(1)
        present[-1] = True
        present[:, list(lost)] = False
        return draw_batch(model, rows, seed=seed), present

    return draw


def close(actual, expected, tolerance=1e-10):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


def with_placeholder(batch, present, number):
    columns = zip(batch.items(), present.unbind(1), strict=True)
    return {s: x.where(has[:, None], number) for (s, x), has in columns}


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("selection", ["global", "local", "batch"])
@pytest.mark.parametrize(
    "options", [{}, {"cross_weight": 0.0}, {"variances": (0.2, 0.9, 0.05)}, {"lost": (1,)}]
)
def test_losses_and_gradients(build_model, draw, kernels, selection, options):
    options = {"aux_weight": 0.5, "auxk": 5, **options}
    variances, lost = options.pop("variances", None), options.pop("lost", ())
    model = build_model(selection=selection)
    batch, present = draw(model, 13, lost=lost)
    error = "norm" if variances is None else "variance"
    settings = TrainConfig(
        **options, recipe="joint", rows="any", error=error, terms=("distill=0.4",), kernels=kernels
    )
    learner = Learner(model, settings, variances=variances or ())
    state = learner.state()
    dead = {s: torch.arange(40) < 9 for s in STREAMS}
    learner.load_state(state | {f"since_active.{s}": dead[s] * 10**9 for s in STREAMS})
    reference = Reference(model, **options, variances=variances)
    forward = reference.forward(batch, dead, present=present)
    (distill,) = (term for term in learner._objective.sparse if term.name == "distill")
    loss = reference.loss(forward) + 0.4 * distill.dense(forward).mean()
    loss.backward()
    for name, gradient in learner.gradients(batch, present=present).items():
        expected = model.get_parameter(name).grad
        close(gradient, torch.zeros_like(gradient) if expected is None else expected)
        if name.endswith("s1") and lost:
            assert not gradient.any()
    if selection == "batch":  # in use thresholds that were learned decide, not those of a batch
        return
    losses = learner.losses(batch, present=present)
    close(losses.total, loss.detach())
    of_pairs = (present[:, :, None] & present[:, None]).double().mean(0)
    by_norm = pairs(Reference(model).forward(batch, dead, present=present)).detach()
    close(losses.nmse, by_norm / of_pairs)  # NaN where no row has both
    of_streams = present.double().mean(0)
    close(losses.terms["distill"], distill.dense(forward).detach() / of_streams)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("alive_by", ["any", "both"])
def test_steps_are_those_of_the_reference(build_model, draw, kernels, alive_by):
    model, twin = build_model(), build_model()
    options = {"auxk": 4, "aux_weight": 0.5, "dead_after": 20, "alive_by": alive_by}
    settings = TrainConfig(
        **options, recipe="joint", rows="any", independent=0.5, noise=0.2, seed=5, kernels=kernels
    )
    learner, reference = Learner(model, settings), Reference(twin, **options, lr=1e-2)
    joint, local = (build_model(selection=name).config for name in ("global", "local"))
    dead = 0
    for step in range(1, 21):
        mode = mode_of_step(step, own="joint", independent=0.5, seed=5)
        twin.config = joint if mode == "joint" else local
        batch, present = draw(model, 10, seed=step, lost=(2,) if step % 7 == 0 else ())
        noise = draw_noise(batch, scale=0.2, seed=5, step=step)
        loss = reference.step(batch, noise, present)
        sums = learner.step(batch, 1e-2, present=present)
        close(sums.loss / sums.rows, loss, 1e-9)
        dead += sum(learner.dead_counts().values())
    assert dead
    for name, parameter in twin.named_parameters():
        close(model.get_parameter(name), parameter, 1e-9)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("selection", ["global", "local", "batch"])
@pytest.mark.parametrize("number", [0.0, 1e30, torch.nan, torch.inf])
def test_what_stands_in_for_a_missing_feature_has_no_influence(
    build_model, draw, kernels, selection, number
):
    def train(placeholder):
        model = build_model(selection=selection)
        learner = Learner(model, TrainConfig(**CHEAP, kernels=kernels))
        figures = []
        for step in range(8):
            batch, present = draw(model, 9, seed=step)
            batch = with_placeholder(batch, present, placeholder)
            figures += [learner.step(batch, 1e-2, present=present).flat()]
            figures += [learner.measure(batch, present=present).flat()]
        return [*figures, *learner.state().values(), *model.state_dict().values()]

    for one, other in zip(train(0.7), train(number), strict=True):
        assert torch.equal(one, other)
        assert one.isfinite().all()


@pytest.mark.parametrize("selection", ["global", "local", "batch"])
def test_complete_rows_are_what_they_are_without_a_mask(build_model, draw_batch, selection):
    def train(rows, present):
        model = build_model(selection=selection)
        learner = Learner(model, TrainConfig(**CHEAP | {"rows": rows}))
        for step in range(6):
            sums = learner.step(draw_batch(model, 9, seed=step), 1e-2, present=present)
        line = describe(sums, STREAMS, learner.dead_counts())
        return line, [*learner.state().values(), *model.state_dict().values()]

    line, expected = train("all", None)
    for present in (None, torch.ones(9, 3, dtype=torch.bool)):
        other, tensors = train("any", present)
        assert other == line
        assert all(map(torch.equal, tensors, expected))


@pytest.mark.parametrize("selection", ["global", "local", "batch"])
def test_two_processes_make_the_steps_of_one(build_model, draw, in_two_threads, selection):
    settings = TrainConfig(**CHEAP | {"noise": 0.0})
    whole = build_model(selection=selection)
    learner = Learner(whole, settings)
    batches = [draw(whole, 10, seed=step, lost=(0,) if step == 2 else ()) for step in range(6)]
    expected = [learner.step(batch, 1e-3, present=present) for batch, present in batches]

    def part(rank, gather):
        model = build_model(selection=selection)
        half = Learner(model, settings, gather=gather)
        rows = slice(5 * rank, 5 * rank + 5)
        parts = [({s: x[rows] for s, x in batch.items()}, m[rows]) for batch, m in batches]
        return model, [half.step(batch, 1e-3, present=present) for batch, present in parts]

    (first, sums), (second, others) = in_two_threads(part)
    for one, other, both in zip(sums, others, expected, strict=True):
        close((one + other).loss, both.loss)
        close((one + other).pair_rows, both.pair_rows)
    for name, parameter in whole.named_parameters():
        close(first.get_parameter(name), parameter, 1e-9)
        assert torch.equal(first.get_parameter(name), second.get_parameter(name))


def test_a_row_is_trained_as_in_a_model_of_the_streams_that_it_has(build_model, draw_batch):
    """One stream lacks in all rows: the losses are those of a model without it, up to weights."""
    model, smaller = build_model((7, 5, 6)), build_model((7, 5))
    with torch.no_grad():
        for name, parameter in smaller.named_parameters():
            parameter.copy_(model.get_parameter(name))
    batch = draw_batch(model, 9)
    present = torch.tensor([[True, True, False]]).expand(9, 3)
    learner = Learner(model, TrainConfig(recipe="joint", rows="any"))
    nmse = learner.losses(batch, present=present).nmse
    close(nmse[:2, :2], Learner(smaller, TrainConfig(recipe="joint")).losses(batch).nmse)
    assert nmse[2].isnan().all()
    assert nmse[:, 2].isnan().all()


def test_rows_of_one_stream_select_independently_and_distil_nothing(build_model, draw_batch):
    present = torch.eye(3, dtype=torch.bool).repeat(3, 1)
    settings = TrainConfig(recipe="joint", rows="any", terms=("distill=0.4",))
    joint, local = (build_model(selection=name) for name in ("global", "local"))
    batch = draw_batch(joint, 9)
    learner = Learner(joint, settings)
    assert not learner.losses(batch, present=present).terms["distill"].any()
    expected = Learner(local, TrainConfig(recipe="joint", rows="any")).gradients(
        batch, present=present
    )
    for name, gradient in learner.gradients(batch, present=present).items():
        close(gradient, expected[name])
        assert gradient.any()


def test_figures_are_means_over_the_rows_that_have_the_streams(build_model, draw):
    model = build_model()
    learner = Learner(model, TrainConfig(recipe="joint", rows="any"))
    batch, present = draw(model, 40)
    sums = learner.measure(batch, present=present)
    line = describe(sums, STREAMS, learner.dead_counts())
    rows = [
        learner.measure({s: x[i : i + 1] for s, x in batch.items()}, present=present[i : i + 1])
        for i in range(40)
    ]
    torch.testing.assert_close(sum(rows[1:], rows[0]).named(), sums.named())
    for t, target in enumerate(STREAMS):
        have = [row for row, has in zip(rows, present[:, t], strict=True) if has]
        assert line["l0"][target] == pytest.approx(
            sum(float(r.active[t]) for r in have) / len(have)
        )
        assert 0 < line["chosen_alone"][target] <= 1
        x = batch[target][present[:, t]]
        x = x / x.norm(dim=1, keepdim=True)
        variance = (x - x.mean(0)).square().sum(1).mean()
        for s, source in enumerate(STREAMS):
            both = [row for row, has in zip(rows, present, strict=True) if has[t] and has[s]]
            assert sums.pair_rows[t, s] == len(both)
            nmse = sum(float(row.nmse[t, s]) for row in both) / len(both)
            assert line["nmse"][target][source] == pytest.approx(nmse)
            explained = 1 - nmse / float(variance)  # |x| is 1
            assert line["explained_variance_pairs"][target][source] == pytest.approx(explained)
    assert line["rows"] == 40


def test_balance_counts_the_rows_that_have_a_stream(build_model, draw_batch):
    model = build_model(latents=12, k=3)
    learner = Learner(model, TrainConfig(recipe="joint", rows="any", balance=1e-9))
    batch = draw_batch(model, 4)
    present = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 0, 0], [1, 1, 0]]).bool()
    before = {name: mean.clone() for name, mean in learner._balance.state().items()}
    features = {s: model.normalize(s, x) for s, x in batch.items()}
    logits = [model.logits(s, x).detach() for s, x in features.items()]
    learner.step(batch, 0.0, present=present)
    frequency = {
        name: (mean - 0.97 * before[name]) / 0.03 for name, mean in learner._balance.state().items()
    }

    def used(scores):
        return torch.zeros_like(scores).scatter(1, scores.topk(3).indices, 1.0).mean(0)

    close(frequency["frequency.s0"], used(logits[0]))
    close(frequency["frequency.s1"], used(logits[1][[0, 3]]))
    close(frequency["frequency.s2"], before["frequency.s2"])
    close(frequency["joint_frequency"], used((logits[0] + logits[1])[[0, 3]]))


def test_thresholds_are_those_of_rows_with_the_same_streams(build_model, draw):
    model = build_model(selection="batch")
    learner = Learner(model, TrainConfig(recipe="joint", rows="any"))
    batch, present = draw(model, 200)
    sums = learner.step(batch, 0.0, present=present)
    assert sums.chosen.sum() > 0
    for has in present.unique(dim=0):
        alike = (present == has).all(1)
        part = {s: x[alike] for s, x in batch.items()}
        codes = learner._selection.in_training(learner._inputs(part, present[alike]), "joint")
        assert codes.kept.sum() == int(alike.sum()) * model.config.k
    whole = learner._selection.in_training(learner._inputs(batch, present), "joint")
    assert whole.kept.sum() == 200 * model.config.k
    # In use, thresholds follow from those learned.
    learned = learner._selection.in_use(learner._inputs(batch, present))
    assert int(learned.kept.sum()) == pytest.approx(200 * model.config.k, rel=0.25)


def test_a_term_that_knows_no_missing_streams_is_refused(monkeypatch, build_model, draw):
    class PullTogether(LossTerm):
        def dense(self, forward):
            return torch.stack(list(forward.codes.values())).std(0).mean()

    monkeypatch.setitem(TERMS, "pull", TermEntry("pulls", "unused:unused"))
    monkeypatch.setattr(TermEntry, "load", lambda _: PullTogether)
    monkeypatch.setattr("sparc.train.step.terms.term.TERMS", {"pull": TERMS["pull"]})
    model = build_model()
    with pytest.raises(ConfigError, match="pull needs all streams of a row: choose rows all"):
        Learner(model, TrainConfig(recipe="joint", rows="any", terms=("pull=0.1",)))
    batch, present = draw(model, 5)
    with pytest.raises(ConfigError, match="rows any only"):
        Learner(model, TrainConfig(recipe="joint")).step(batch, 0.1, present=present)
