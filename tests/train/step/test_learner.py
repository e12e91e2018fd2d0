"""The training step against the dense reference with autograd, in float64."""

import functools

import pytest
import torch
from different_kernels import different_kernels
from hypothesis import given, settings
from hypothesis import strategies as st

from sparc.common.errors import ConfigError, RunError
from sparc.train.config import TrainConfig
from sparc.train.reference import Reference, aux, pairs
from sparc.train.step.learner import Learner

pytestmark = pytest.mark.usefixtures("one_thread")


KERNELS = different_kernels(torch.device("cpu"))


def close(actual, expected, tolerance=1e-11):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def kill(learner, dead):
    """Make some latents dead, by stream, through the state that a checkpoint holds."""
    state = learner.state()
    for stream, mask in dead.items():
        state[f"since_active.{stream}"] = torch.where(mask, 10**9, 0)
    learner.load_state(state)


def some_dead(model, count, seed=3):
    draws = torch.Generator().manual_seed(seed)
    latents = model.config.latents
    return {
        name: torch.zeros(latents, dtype=torch.bool).index_fill(
            0, torch.randperm(latents, generator=draws)[: count + position], True
        )
        for position, name in enumerate(model.config.names)
    }


def nothing_dead(model):
    return {name: torch.zeros(len(bias)).bool() for name, bias in model.latent_bias.items()}


def loss_and_gradients(reference, batch, dead):
    """The loss of the reference, and its gradient by name of parameter."""
    parameters = dict(reference.model.named_parameters())
    loss = reference.loss(reference.forward(batch, dead))
    gradients = torch.autograd.grad(
        loss, list(parameters.values()), allow_unused=True, materialize_grads=True
    )
    return loss.detach(), dict(zip(parameters, gradients, strict=True))


def check_against(reference, learner, batch, dead=None):
    dead = dead or nothing_dead(reference.model)
    total, expected = loss_and_gradients(reference, batch, dead)
    losses = learner.losses(batch)
    close(losses.total, total)
    with torch.no_grad():
        forward = reference.forward(batch, dead)
        close(losses.nmse, pairs(forward))
        close(losses.terms["aux"], aux(forward, reference.auxk))
    actual = learner.gradients(batch)
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        close(actual[name], gradient)


@pytest.mark.parametrize("selection", ["global", "local"])
@pytest.mark.parametrize("dims", [(7,), (7, 5), (7, 5, 6), (3, 9, 4, 8)])
@pytest.mark.parametrize("dead", [0, 2, 9, 40])
@pytest.mark.parametrize("cross_weight", [1.0, 0.0, 0.3])
def test_losses_and_gradients(build_model, draw_batch, selection, dims, dead, cross_weight):
    model = build_model(dims, selection=selection)
    options = {"cross_weight": cross_weight, "aux_weight": 0.5, "auxk": 5}
    learner = Learner(model, TrainConfig(recipe="joint", **options))
    masks = some_dead(model, dead) if dead else None
    if masks:
        kill(learner, masks)
    check_against(Reference(model, **options), learner, draw_batch(model, 11), masks)


@pytest.mark.parametrize("selection", ["global", "local", "batch"])
@pytest.mark.parametrize("cross_weight", [1.0, 0.0])
@pytest.mark.parametrize("recipe", ["joint", "published"])
@pytest.mark.parametrize("dead", [0, 9])
def test_errors_over_the_variance(build_model, draw_batch, selection, cross_weight, recipe, dead):
    model = build_model(selection=selection)
    options = {"cross_weight": cross_weight, "aux_weight": 0.5, "auxk": 5}
    variances = (0.2, 0.9, 0.05)
    learner = Learner(
        model, TrainConfig(**options, error="variance", recipe=recipe), variances=variances
    )
    masks, batch = some_dead(model, dead), draw_batch(model, 11)
    for mask in masks.values():
        mask &= dead > 0
    kill(learner, masks)
    options["aux_constant"] = recipe == "published"
    reference = Reference(model, **options, variances=variances)
    total, expected = loss_and_gradients(reference, batch, masks)
    by_norm, _ = loss_and_gradients(Reference(model, **options), batch, masks)
    assert total > 1.5 * by_norm
    if selection != "batch":  # whose thresholds in use are learned
        losses = learner.losses(batch)
        close(losses.total, total)
        with torch.no_grad():
            close(losses.nmse, pairs(Reference(model).forward(batch, masks)))
    actual = learner.gradients(batch)
    for name, gradient in expected.items():
        close(actual[name], gradient)


@pytest.mark.parametrize("variances", [(), (0.2, 0.9), (0.2, 0.9, 0.0)])
def test_variances_that_are_no_divisors_are_refused(build_model, variances):
    with pytest.raises(ConfigError, match="the variance of every stream"):
        Learner(build_model(), TrainConfig(recipe="joint", error="variance"), variances=variances)


@pytest.mark.parametrize("dims", [(7,), (7, 5), (3, 9, 4, 8)])
@pytest.mark.parametrize("kernels", KERNELS)
def test_gradients_with_a_varying_number_of_latents(build_model, draw_batch, dims, kernels):
    model = build_model(dims, selection="batch")
    options = {"cross_weight": 0.3, "aux_weight": 0.5, "auxk": 5}
    learner = Learner(model, TrainConfig(recipe="joint", **options, kernels=kernels))
    masks, batch = some_dead(model, 9), draw_batch(model, 11)
    kill(learner, masks)
    _, expected = loss_and_gradients(Reference(model, **options), batch, masks)
    for name, gradient in learner.gradients(batch).items():
        close(gradient, expected[name])


@pytest.mark.parametrize("k", [1, 40])
def test_smallest_and_largest_k(build_model, draw_batch, k):
    model = build_model(k=k)
    check_against(
        Reference(model), Learner(model, TrainConfig(recipe="joint")), draw_batch(model, 9)
    )


def test_rows_that_occur_twice(build_model, draw_batch):
    model = build_model()
    batch = {name: torch.cat([x, x, x[:1]]) for name, x in draw_batch(model, 5).items()}
    check_against(Reference(model), Learner(model, TrainConfig(recipe="joint")), batch)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_shape(build_model_once, draw_batch_once, data):
    latents = data.draw(st.integers(1, 30), "latents")
    model = build_model_once(
        tuple(data.draw(st.lists(st.integers(2, 9), min_size=1, max_size=4), "dims")),
        latents=latents,
        k=data.draw(st.integers(1, latents), "k"),
        selection=data.draw(st.sampled_from(["global", "local"]), "selection"),
        normalize=data.draw(st.sampled_from(["unit", "none"]), "normalize"),
        seed=data.draw(st.integers(0, 1000), "seed"),
    )
    auxk = data.draw(st.integers(1, latents), "auxk")
    learner = Learner(model, TrainConfig(recipe="joint", auxk=auxk))
    masks = some_dead(model, data.draw(st.integers(1, latents), "dead"))
    kill(learner, masks)
    batch = draw_batch_once(model, data.draw(st.integers(1, 12), "rows"))
    check_against(Reference(model, auxk=auxk), learner, batch, masks)


def test_measuring_changes_nothing(build_model, draw_batch):
    model = build_model()
    learner = Learner(model, TrainConfig(recipe="joint", dead_after=5, auxk=3))
    learner.step(draw_batch(model, 8), 1e-3)
    before = {k: v.clone() for k, v in {**learner.state(), **model.state_dict()}.items()}
    learner.measure(draw_batch(model, 8, seed=5))
    learner.losses(draw_batch(model, 8, seed=5))
    learner.gradients(draw_batch(model, 8, seed=5))
    after = {**learner.state(), **model.state_dict()}
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("selection", ["global", "local", "batch"])
@pytest.mark.parametrize("kernels", KERNELS)
def test_steps_are_those_of_the_reference(build_model, draw_batch, selection, kernels):
    """Twenty steps of the recipe `joint`, in which latents die."""
    model, twin = build_model(selection=selection), build_model(selection=selection)
    options = {"auxk": 4, "aux_weight": 0.5, "dead_after": 30}
    learner = Learner(model, TrainConfig(recipe="joint", **options, kernels=kernels))
    reference = Reference(twin, **options, lr=1e-2)
    steps_with_dead = 0
    for seed in range(20):
        batch = draw_batch(model, 10, seed=seed)
        loss, sums = reference.step(batch), learner.step(batch, 1e-2)
        close(sums.loss / sums.rows, loss, 1e-9)
        steps_with_dead += sum(learner.dead_counts().values()) > 0
    assert 5 < steps_with_dead < 20
    for name, rows in reference.unused.items():
        assert torch.equal(learner.state()[f"since_active.{name}"], rows)
        close(model.decoder[name].norm(dim=1), torch.ones(40).double())
    for name, parameter in twin.named_parameters():
        close(model.get_parameter(name), parameter, 1e-9)
        moments = reference.adam.state[parameter]
        close(learner.state()[f"first.{name}"], moments["exp_avg"], 1e-9)
        close(learner.state()[f"second.{name}"], moments["exp_avg_sq"], 1e-9)


def test_clipping_is_that_of_the_projected_gradient(build_model, draw_batch):
    model, twin = build_model(), build_model()
    learner = Learner(model, TrainConfig(recipe="joint", clip=0.05))
    optimizer = torch.optim.Adam(twin.parameters(), lr=1e-2)
    for seed in range(5):
        batch = draw_batch(model, 10, seed=seed)
        _, gradients = loss_and_gradients(Reference(twin), batch, nothing_dead(twin))
        for name, gradient in gradients.items():
            parameter = twin.get_parameter(name)
            if name.startswith("decoder."):
                along = (gradient * parameter.detach()).sum(1, keepdim=True)
                gradient = gradient - along * parameter.detach()
            parameter.grad = gradient
        norm = sum((p.grad**2).sum() for p in twin.parameters()).sqrt()
        assert norm > 0.05
        for parameter in twin.parameters():
            parameter.grad *= 0.05 / norm
        optimizer.step()
        with torch.no_grad():
            for decoder in twin.decoder.values():
                decoder /= (decoder**2).sum(1, keepdim=True).sqrt()
        learner.step(batch, 1e-2)
    for name, parameter in twin.named_parameters():
        close(model.get_parameter(name), parameter, 1e-9)


@pytest.mark.parametrize("selection", ["global", "local"])
@pytest.mark.parametrize("threshold", [1000, 3])
def test_published_recipe(build_model, draw_batch, selection, threshold, monkeypatch):
    """Twenty steps against the published formulas, written densely."""
    monkeypatch.setattr("sparc.train.step.recipes.published.REINITIALIZE_EVERY", 8)
    model = build_model(selection=selection)
    twin = build_model(selection=selection)
    monkeypatch.setattr("sparc.train.step.recipes.published.DEAD_AFTER_STEPS", threshold)
    settings_ = TrainConfig(recipe="published", auxk=5, seed=7)
    learner = Learner(model, settings_)
    reference = Reference(twin, auxk=5, aux_constant=True)
    optimizer = torch.optim.Adam(twin.parameters(), lr=1e-2, betas=(0.9, 0.999), eps=1e-8)
    counters = {name: torch.zeros(40, dtype=torch.int64) for name in twin.config.names}
    reinitialized = 0
    for step in range(20):
        batch = draw_batch(model, 6, seed=step)
        dead_before = {name: counter > threshold for name, counter in counters.items()}
        with torch.no_grad():
            for name, code in reference.forward(batch).codes.items():
                counters[name] *= ~(code > 1e-3).any(0)
                counters[name] += 1
        dead = {name: counter > threshold for name, counter in counters.items()}
        candidates = dead_before if selection == "local" else dead
        loss, gradients = loss_and_gradients(reference, batch, candidates)
        for name, gradient in gradients.items():
            twin.get_parameter(name).grad = gradient
        with torch.no_grad():
            for decoder in twin.decoder.values():
                decoder /= decoder.norm(dim=1, keepdim=True) + 1e-8
                decoder.grad -= (decoder.grad * decoder).sum(1, keepdim=True) * decoder
        optimizer.step()
        sums = learner.step(batch, 1e-2)
        if step % 8 == 0:
            with torch.no_grad():
                for name, mask in dead.items():
                    reinitialized += int(mask.sum())
                    fresh = model.encoder[name][mask]
                    assert not len(fresh) or 0.003 < fresh.std() < 0.03
                    twin.encoder[name][mask] = fresh
                    twin.latent_bias[name][mask] = 0
                    counters[name][mask] = 0
        close(sums.loss / sums.rows, loss, 1e-9)
        for name, counter in counters.items():
            assert torch.equal(learner.state()[f"since_active.{name}"], counter)
    assert bool(reinitialized) == (threshold == 3)
    for name, parameter in twin.named_parameters():
        close(model.get_parameter(name), parameter, 1e-9)


@pytest.mark.parametrize(
    ("recipe", "selection"), [("joint", "global"), ("published", "global"), ("joint", "batch")]
)
def test_steps_are_reproducible_and_resume_bit_for_bit(
    build_model, draw_batch, recipe, selection, monkeypatch
):
    monkeypatch.setattr("sparc.train.step.recipes.published.DEAD_AFTER_STEPS", 2)
    build_model = functools.partial(build_model, selection=selection)
    options = TrainConfig(recipe=recipe, dead_after=20, auxk=4)

    def train(model, learner, steps):
        for seed in steps:
            learner.step({n: x.float() for n, x in draw_batch(model, 8, seed=seed).items()}, 1e-2)
        return learner

    first, second, third = (build_model().float() for _ in range(3))
    whole = train(first, Learner(first, options), range(12))
    again = train(second, Learner(second, options), range(12))
    half = train(third, Learner(third, options), range(5))
    copy = build_model().float()
    copy.load_state_dict({k: v.clone() for k, v in third.state_dict().items()})
    resumed = Learner(copy, options)
    resumed.load_state({name: tensor.clone() for name, tensor in half.state().items()})
    train(copy, resumed, range(5, 12))
    for model, learner in ((second, again), (copy, resumed)):
        for name, tensor in first.state_dict().items():
            assert torch.equal(model.state_dict()[name], tensor), name
        for name, tensor in whole.state().items():
            assert torch.equal(learner.state()[name], tensor), name


@pytest.mark.parametrize("selection", ["global", "local", "batch"])
@pytest.mark.parametrize("cross_weight", [1.0, 0.0])
@pytest.mark.parametrize("recipe", ["joint", "published"])
def test_two_processes_make_the_step_of_one(
    build_model, draw_batch, in_two_threads, selection, cross_weight, recipe, monkeypatch
):
    monkeypatch.setattr("sparc.train.step.recipes.published.DEAD_AFTER_STEPS", 2)
    options = TrainConfig(
        cross_weight=cross_weight,
        recipe=recipe,
        dead_after=25,
        auxk=4,
        clip=0.2,
    )
    models = [build_model(selection=selection) for _ in range(3)]
    alone = Learner(models[0], options)

    def steps(rank, gather):
        learner = Learner(models[1 + rank], options, gather=gather)
        halves = ({n: x[5 * rank :][:5] for n, x in batch.items()} for batch in batches)
        return [learner.step(half, 1e-2) for half in halves], learner

    batches = [draw_batch(models[0], 10, seed=seed) for seed in range(8)]
    whole = [alone.step(batch, 1e-2) for batch in batches]
    (first, one), (second, two) = in_two_threads(steps)
    for expected, *halves in zip(whole, first, second, strict=True):
        actual = (halves[0] + halves[1]).named()
        for name, total in expected.named().items():
            if name not in ("chosen", "chosen_alone"):  # of leading rows only
                torch.testing.assert_close(actual[name], total, equal_nan=True)
    for name, tensor in models[0].state_dict().items():
        close(models[1].state_dict()[name], tensor, 1e-9)
        assert torch.equal(models[1].state_dict()[name], models[2].state_dict()[name])
    assert all(torch.equal(one.state()[name], tensor) for name, tensor in two.state().items())


def test_refusals(build_model):
    model = build_model()
    with pytest.raises(ConfigError, match="needs a GPU"):
        Learner(model, TrainConfig(recipe="joint", precision="bfloat16"))
    learner = Learner(model, TrainConfig(recipe="joint"))
    with pytest.raises(RunError, match="does not fit"):
        learner.load_state({**learner.state(), "first.encoder.s0": torch.zeros(2)})
    state = learner.state()
    del state["since_active.s1"]
    with pytest.raises(RunError, match=r"since_active\.s1"):
        learner.load_state(state)


@pytest.fixture
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads_as_before")
@pytest.mark.parametrize("selection", ["global", "local", "batch"])
def test_training_does_not_depend_on_the_number_of_threads(build_model, draw_batch, selection):
    def train(threads):
        torch.set_num_threads(threads)
        model = build_model(dims=(96, 64), latents=2048, k=8, selection=selection).float()
        learner = Learner(model, TrainConfig(recipe="joint", dead_after=150, auxk=8, clip=0.1))
        batches = (draw_batch(model, 70, seed=seed) for seed in range(4))
        figures = [
            learner.step({name: x.float() for name, x in batch.items()}, 1e-2).loss
            for batch in batches
        ]
        assert sum(learner.dead_counts().values()) > 0
        return {**model.state_dict(), **learner.state(), "losses": torch.stack(figures)}

    alone, together = train(1), train(3)
    for name, tensor in alone.items():
        assert torch.equal(together[name], tensor), name
