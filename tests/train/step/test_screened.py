"""A step that screens its selection makes that of products in float32."""

import pytest
import torch

pytest.importorskip("numba")

from sparc.common import processor
from sparc.train.config import ModelConfig, StreamShape, TrainConfig
from sparc.train.kernels.screening.low_logits import pays
from sparc.train.model.initialize import initial_model
from sparc.train.step.learner import Learner
from sparc.train.step.noise import Inputs
from sparc.train.step.selection.logits import ScreenedLogits

ROWS, LATENTS, K = 48, 2048, 8


@pytest.fixture(autouse=True)
def any_cpu(monkeypatch):
    """Without instructions for bfloat16 the products are slow, and the same."""
    monkeypatch.setattr(processor, "multiplies_bfloat16", lambda: True)


def draw_model(selection):
    shapes = (StreamShape("a", 24), StreamShape("b", 17), StreamShape("c", 9))
    config = ModelConfig(streams=shapes, latents=LATENTS, k=K, selection=selection)
    model = initial_model(config, seed=0, means=None)
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name in config.names:
            model.latent_bias[name].copy_(0.01 * torch.randn(LATENTS, generator=draws))
    return model


@pytest.mark.parametrize("selection", ["global", "local", "batch"])
@pytest.mark.parametrize("rows", ["all", "any"])
def test_steps(selection, rows, one_thread):
    options = {"rows": rows, "auxk": 4, "terms": ("distill=0.1",), "alive_by": "both"}
    if selection == "local":
        options |= {"terms": (), "alive_by": "any"}
    learners = {
        kernels: Learner(
            draw_model(selection), TrainConfig(recipe="joint", kernels=kernels, **options)
        )
        for kernels in ("screened", "numba")
    }
    draws = torch.Generator().manual_seed(2)
    batch = {
        stream.name: torch.randn(ROWS, stream.dim, generator=draws)
        for stream in learners["numba"].model.config.streams
    }
    present = None
    if rows == "any":
        present = torch.rand(ROWS, 3, generator=draws) < 0.6
        present[:, 0] |= ~present.any(1)
    chosen, gradients, sums = {}, {}, {}
    for name, learner in learners.items():
        state = learner.state()
        for key in state:
            if key.startswith("since_a"):
                state[key][:50] = 10**9
        learner.load_state(state)
        inputs = Inputs(batch, present=present)
        with torch.no_grad():
            chosen[name] = learner._selection.in_training(inputs, learner.model.own_mode)
        assert isinstance(chosen[name].logits, ScreenedLogits) == (name == "screened")
        gradients[name] = learner.gradients(batch, present=present)
        sums[name] = learner.measure(batch, present=present).named()
        learner.step(batch, 1e-3, present=present)
    for field in ("indices", "own"):
        one, other = (getattr(selected, field) for selected in chosen.values())
        if one is not None:
            assert torch.equal(one.sort(dim=2).values, other.sort(dim=2).values)
    for figures in (gradients, sums):
        for name, expected in figures["numba"].items():
            torch.testing.assert_close(figures["screened"][name], expected, rtol=1e-4, atol=1e-5)


def test_the_division_of_a_batch_changes_no_bit(one_thread):
    """Unlike products of matrices, whose sums depend on their shapes."""
    learner = Learner(draw_model("global"), TrainConfig(recipe="joint", kernels="screened"))
    draws = torch.Generator().manual_seed(3)
    batch = {
        stream.name: torch.randn(ROWS, stream.dim, generator=draws)
        for stream in learner.model.config.streams
    }
    whole = learner._selection.in_use(Inputs(batch))
    for first in range(0, ROWS, 7):
        rows = slice(first, first + 7)
        part = learner._selection.in_use(Inputs({name: x[rows] for name, x in batch.items()}))
        expected = whole.rows(rows)
        order, expected_order = part.indices.sort(dim=2), expected.indices.sort(dim=2)
        assert torch.equal(order.values, expected_order.values)
        values = part.values.gather(2, order.indices.expand(-1, 3, -1))
        assert torch.equal(
            values, expected.values.gather(2, expected_order.indices.expand(-1, 3, -1))
        )


@pytest.mark.parametrize(
    ("latents", "k", "suits"), [(2047, 8, False), (2048, 32, True), (2048, 33, False)]
)
def test_which_models_it_suits(latents, k, suits):
    assert pays(latents, k) == suits
