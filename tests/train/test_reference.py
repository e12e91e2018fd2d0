"""The reference against numbers worked out on paper; the training step is held to the reference."""

import pytest
import torch

from sparc.common.errors import ConfigError
from sparc.train.config import ModelConfig, StreamShape
from sparc.train.model.network import Sparc
from sparc.train.model.selectors.registry import SELECTORS
from sparc.train.reference import Reference, aux, cross_reconstruction, self_reconstruction


@pytest.fixture
def reference():
    """Two streams whose latents are the axes; stream a has a bias of -0.4 on latent 1."""
    streams = (StreamShape("a", 2), StreamShape("b", 2))
    model = Sparc(ModelConfig(streams=streams, latents=2, k=1))
    with torch.no_grad():
        for weight in (*model.encoder.values(), *model.decoder.values()):
            weight.copy_(torch.eye(2))
        model.latent_bias["a"][1] = -0.4
    return Reference(model, cross_weight=0.5, aux_weight=0.1, auxk=1, lr=0.01)


BATCH = {"a": torch.tensor([[3.0, 4.0]]), "b": torch.tensor([[2.0, 0.0]])}
"""Of unit norm: (0.6, 0.8) and (1, 0); logits (0.6, 0.4) and (1, 0)."""


def test_terms(reference):
    dead = {"a": torch.tensor([False, True]), "b": torch.tensor([False, False])}
    forward = reference.forward(BATCH, dead)
    assert forward.codes["a"].tolist() == [
        [pytest.approx(0.6), 0]
    ]  # the sum is largest on latent 0
    assert forward.codes["b"].tolist() == [[1, 0]]
    assert self_reconstruction(forward).item() == pytest.approx((0.64 + 0) / 2)
    assert cross_reconstruction(forward).item() == pytest.approx((0.16 + 0.80) / 2)
    # Stream a leaves (0, 0.8) over, of which its dead latent explains (0, 0.4).
    assert aux(forward, auxk=1).tolist() == [pytest.approx(0.25), 0]
    assert reference.loss(forward).item() == pytest.approx(0.32 + 0.5 * 0.48 + 0.1 * 0.125)


def test_a_selection_that_it_does_not_know_is_refused(reference, monkeypatch):
    monkeypatch.setitem(SELECTORS, "other", SELECTORS["global"])
    streams = reference.model.config.streams
    reference.model.config = ModelConfig(streams=streams, latents=2, k=1, selection="other")
    with pytest.raises(ConfigError, match="does not know selection other"):
        reference.forward(BATCH)


def test_errors_over_the_variance(reference):
    """Rows of a and b have norm 1: errors of a count twice, those of b half."""
    reference.variances = (0.5, 2.0)
    forward = reference.forward(BATCH)
    assert self_reconstruction(forward).item() == pytest.approx((0.64 / 0.5 + 0 / 2) / 2)
    assert cross_reconstruction(forward).item() == pytest.approx((0.80 / 0.5 + 0.16 / 2) / 2)


def test_local_selection(reference):
    reference.model.latent_bias["a"].data[1] = 0
    reference.model.config = ModelConfig(
        streams=reference.model.config.streams, latents=2, k=1, selection="local"
    )
    codes = reference.forward(BATCH).codes
    assert codes["a"].tolist() == [[0, pytest.approx(0.8)]]
    assert codes["b"].tolist() == [[1, 0]]


def test_steps_lower_the_loss_and_keep_decoder_rows_of_unit_norm(reference):
    losses = [float(reference.step(BATCH)) for _ in range(20)]
    assert losses[-1] < 0.9 * losses[0]
    assert reference.unused["a"].tolist() == [0, 20]
    for decoder in reference.model.decoder.values():
        torch.testing.assert_close(decoder.norm(dim=1), torch.ones(2))
