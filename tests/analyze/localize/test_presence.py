"""Strengths in many images at once against the objective of each, and absent queries."""

import pytest
import torch

from sparc.analyze.localize.presence import absence, latent_strengths, share_below, text_strengths
from sparc.analyze.localize.targets import TextFeature, latents_objective, text_objective
from sparc.extract.encoders.tower import NothingInCommonError


@pytest.fixture
def model(make_model):
    return make_model(dino=12, cnn=7, text=10).requires_grad_(False)


@pytest.mark.parametrize("mode", ["independent", "joint"])
@pytest.mark.parametrize("target", ["latents", "similarity"])
def test_strengths_are_those_of_the_objective_image_by_image(model, mode, target):
    torch.manual_seed(4)
    images = {"dino": torch.randn(70, 12), "cnn": torch.randn(70, 7)}
    text = TextFeature("a cat", "text", torch.randn(1, 10))
    strengths = text_strengths(model, "dino", text, images, target=target, mode=mode)
    expected = []
    for n in range(70):
        image = {name: value[n : n + 1] for name, value in images.items()}
        try:
            objective = text_objective(model, "dino", text, image, target=target, mode=mode)
            expected.append(float(objective(image["dino"])))
        except NothingInCommonError:
            expected.append(0.0)
    assert len(set(expected)) > 10
    torch.testing.assert_close(strengths, torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_a_latent_has_its_logits_and_is_absent_unless_selected(model):
    features = torch.randn(5, 12)
    one = latents_objective(model, "dino", torch.tensor([9]), torch.ones(1))
    torch.testing.assert_close(latent_strengths(model, "dino", 9, features), one(features))
    codes = model.encode({"dino": features[:1]}, "independent")["dino"]
    active = set(codes.indices[0][codes.values[0] > 0].tolist())
    assert 0 < len(active) < 64
    for latent in range(64):
        why = absence(model, "dino", latent, {"dino": features[:1]}, "independent")
        assert (why == "") == (latent in active)


def test_a_text_is_absent_if_it_shares_no_active_latent(model):
    torch.manual_seed(5)
    reasons = set()
    for _ in range(60):
        image, text = {"dino": torch.randn(1, 12)}, TextFeature("a", "text", torch.randn(1, 10))
        codes = model.encode({**image, "text": text.feature}, "independent")
        sets = [set(c.indices[0][c.values[0] > 0].tolist()) for c in codes.values()]
        why = absence(model, "dino", text, image, "independent")
        assert (why == "") == bool(sets[0] & sets[1])
        reasons.add(why)
    assert reasons == {"", "shares no latent"}
    model.latent_bias["text"] -= 100
    assert "activates no latent" in absence(model, "dino", text, image, "independent")


def test_shares_count_ties_half():
    assert share_below(2.0, torch.tensor([1.0, 2.0, 3.0, 2.0])) == 0.5
    assert share_below(2.0, torch.tensor([])) is None
