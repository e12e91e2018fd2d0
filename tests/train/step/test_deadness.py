"""Counters of dead latents."""

import pytest
import torch

from sparc.common.errors import ConfigError
from sparc.train.config import TrainConfig
from sparc.train.reference import Reference
from sparc.train.step.deadness import DeadLatents, DeadLatentsByStep, SparseCodes
from sparc.train.step.learner import Learner
from sparc.train.step.schedule import mode_of_step


def tracker(kind=DeadLatents, threshold=20):
    return kind(("a", "b"), 6, threshold=threshold, device=torch.device("cpu"))


def record(dead_latents, rows, a, b):
    """Rows in which stream a has a value on latent `a` and stream b on latent `b`."""
    indices = torch.tensor([[[a], [b]]] * rows)
    dead_latents.count(SparseCodes(indices, torch.full((rows, 2, 1), 0.5)))
    dead_latents.pass_by(rows)


def test_rows_are_counted_by_stream():
    dead_latents = tracker()
    record(dead_latents, 8, 0, 1)
    record(dead_latents, 8, 2, 1)
    assert dead_latents.since_active["a"].tolist() == [8, 16, 0, 16, 16, 16]
    assert dead_latents.since_active["b"].tolist() == [16, 0, 16, 16, 16, 16]
    assert dead_latents.none_can_be_dead()
    record(dead_latents, 4, 0, 1)
    assert not dead_latents.none_can_be_dead()
    assert dead_latents.dead("a").tolist() == [1, 3, 4, 5]
    assert dead_latents.dead("b").tolist() == [0, 2, 3, 4, 5]


def test_steps_are_counted_as_published():
    dead_latents = tracker(DeadLatentsByStep, threshold=2)
    for _ in range(2):
        record(dead_latents, 8, 0, 1)
    assert dead_latents.since_active["a"].tolist() == [1, 2, 2, 2, 2, 2]
    assert dead_latents.none_can_be_dead()
    record(dead_latents, 1, 0, 1)
    assert dead_latents.dead("a").tolist() == [1, 2, 3, 4, 5]
    dead_latents.forget("a", torch.tensor([1, 2]))
    assert dead_latents.dead("a").tolist() == [3, 4, 5]


def test_value_of_a_thousandth_does_not_count():
    dead_latents = tracker()
    indices = torch.zeros(1, 1, 2, dtype=torch.int64)
    indices[0, 0, 1] = 1
    values = torch.tensor([[[1e-3, 2e-3], [0.0, 1e-4]]])
    dead_latents.count(SparseCodes(indices, values))
    assert dead_latents.since_active["a"].tolist() == [1, 0, 1, 1, 1, 1]
    assert dead_latents.since_active["b"].tolist() == [1] * 6


def test_shortcut_never_hides_a_dead_latent():
    draws = torch.Generator().manual_seed(0)
    dead_latents = tracker(threshold=30)
    steps_with_dead = 0
    for step in range(200):
        pick = torch.randint(0, 6, (2,), generator=draws).tolist()
        record(dead_latents, 1 + step % 5, *pick)
        dead = [len(dead_latents.dead(name)) for name in ("a", "b")]
        assert dead_latents.none_can_be_dead() == (not any(dead))
        steps_with_dead += any(dead)
        if step == 100:
            dead_latents.restore("since_active.a", torch.full((6,), 29))
    assert 0 < steps_with_dead < 200


@pytest.mark.parametrize("selection", ["global", "local", "batch"])
def test_a_latent_needs_joint_and_independent_use(build_model, draw_batch, selection):
    """Against masks of what was selected, in batches of both kinds."""
    model = build_model(selection=selection)
    settings = TrainConfig(recipe="joint", alive_by="both", dead_after=25, independent=0.5, seed=5)
    learner = Learner(model, settings)
    unused = {(s, mode): torch.zeros(40) for s in model.config.names for mode in ("joint", "own")}
    differ = 0
    for step in range(1, 16):
        batch = draw_batch(model, 10, seed=step)
        mode = mode_of_step(step, own=model.own_mode, independent=0.5, seed=5)
        with torch.no_grad():
            forward = Reference(model).forward(batch)
        for s, h in forward.logits.items():
            codes = {"own": h * forward.own[s]}
            if mode == "joint":
                codes["joint"] = forward.codes[s]
            elif selection == "batch":
                codes["own"] = h * (h >= h.flatten().topk(60).values[-1])
            for kind, code in codes.items():
                unused[s, kind] += 10
                unused[s, kind][(code > 1e-3).any(0)] = 0
        learner.step(batch, 1e-2)
        for s, count in learner.dead_counts().items():
            missing = [unused[s, kind] >= 25 for kind in ("joint", "own")]
            assert count == int((missing[0] | missing[1]).sum())
            differ += not torch.equal(*missing)
    assert differ


def test_of_a_single_stream_both_are_the_same(build_model, draw_batch):
    learners = [
        Learner(
            build_model(dims=(7,)), TrainConfig(recipe="joint", alive_by=alive_by, dead_after=25)
        )
        for alive_by in ("any", "both")
    ]
    for step in range(8):
        batch = draw_batch(learners[0].model, 10, seed=step)
        for learner in learners:
            learner.step(batch, 1e-2)
        assert learners[0].dead_counts() == learners[1].dead_counts()
    assert learners[0].dead_counts()["s0"]


def test_two_processes_count_what_both_select_independently(
    build_model, draw_batch, in_two_threads
):
    settings = TrainConfig(recipe="joint", alive_by="both", dead_after=16)
    whole = build_model()
    learner = Learner(whole, settings)
    batches = [draw_batch(whole, 8, seed=seed) for seed in range(5)]
    for batch in batches:
        learner.step(batch, 1e-3)

    def part(rank, gather):
        half = Learner(build_model(), settings, gather=gather)
        for batch in batches:
            half.step({s: x[4 * rank :][:4] for s, x in batch.items()}, 1e-3)
        return half

    counters = {name: x for name, x in learner.state().items() if name.startswith("since_alone")}
    assert len(counters) == 3
    for half in in_two_threads(part):
        for name, counter in counters.items():
            assert torch.equal(half.state()[name], counter)


def test_the_published_recipe_has_its_own_count(build_model):
    with pytest.raises(ConfigError, match="leave alive_by out"):
        Learner(build_model(), TrainConfig(recipe="published", alive_by="both"))
