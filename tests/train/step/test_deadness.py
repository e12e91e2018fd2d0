"""Counters of dead latents."""

import torch

from sparc.train.step.deadness import DeadLatents, DeadLatentsByStep


def tracker(kind=DeadLatents, threshold=20):
    return kind(("a", "b"), 6, threshold=threshold, device=torch.device("cpu"))


def record(dead_latents, rows, a, b):
    """Rows in which stream a has a value on latent `a` and stream b on latent `b`."""
    indices = torch.tensor([[[a], [b]]] * rows)
    dead_latents.count(indices, torch.full((rows, 2, 1), 0.5))
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
    dead_latents.count(indices, values)
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
            dead_latents.restore("a", torch.full((6,), 29))
    assert 0 < steps_with_dead < 200
