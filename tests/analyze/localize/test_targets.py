"""Objectives against the model's own codes."""

import pytest
import torch

from sparc.analyze.localize.targets import (
    TextFeature,
    latents_objective,
    raw_objective,
    text_objective,
)
from sparc.extract.encoders.tower import LocalizeError
from sparc.train.model.selectors.registry import SELECTORS, SelectorEntry
from sparc.train.model.selectors.selector import Selector


@pytest.fixture
def model(make_model):
    return make_model(dino=12, text=10)


def test_latents_are_their_logits_weighted(model):
    features = torch.randn(5, 12)
    logits = model.logits("dino", model.normalize("dino", features))
    latents, weights = torch.tensor([3, 40]), torch.tensor([0.5, 2.0])
    actual = latents_objective(model, "dino", latents, weights)(features)
    torch.testing.assert_close(actual, logits[:, latents] @ weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["independent", "joint"])
def test_similarity_is_the_cosine_of_the_codes(model, mode):
    torch.manual_seed(1)
    image, feature = torch.randn(1, 12), torch.randn(1, 10)
    codes = model.encode({"dino": image, "text": feature}, mode)

    def dense(stream):
        return torch.zeros(64).scatter(0, codes[stream].indices[0], codes[stream].values[0])

    expected = torch.cosine_similarity(dense("dino"), dense("text"), dim=0)
    text = TextFeature("a cat", "text", feature)
    options = {"target": "similarity", "mode": mode}
    if expected == 0:
        with pytest.raises(LocalizeError, match="shares no active latent"):
            text_objective(model, "dino", text, {"dino": image}, **options)
        return
    objective = text_objective(model, "dino", text, {"dino": image}, **options)
    torch.testing.assert_close(objective(image)[0], expected)


class AboveThreshold(Selector):
    """Of the k candidates those whose score is at least 0.1."""

    own_mode = "joint"

    def keep(self, scores, k, threshold):
        return scores >= 0.1


@pytest.mark.parametrize("selection", ["batch", "above"])
@pytest.mark.parametrize("mode", ["independent", "joint"])
def test_similarity_leaves_out_what_a_selector_does(make_model, mode, selection, monkeypatch):
    entry = SelectorEntry("above 0.1", f"{__name__}:AboveThreshold")
    monkeypatch.setitem(SELECTORS, "above", entry)
    k = 8 if selection == "batch" else 32  # both choose among 32 candidates
    model = make_model(dino=12, text=10, selection=selection, k=k).requires_grad_(False)
    if model.thresholds is not None:
        model.thresholds.fill_(0.1)
    assert model.config.width == 32
    torch.manual_seed(1)
    inputs = {"dino": torch.randn(1, 12), "text": torch.randn(1, 10)}
    logits = {s: model.logits(s, model.normalize(s, x))[0] for s, x in inputs.items()}
    scores = dict.fromkeys(logits, sum(logits.values())) if mode == "joint" else logits
    selected = {stream: score >= 0.1 for stream, score in scores.items()}
    assert all(0 < mask.sum() < model.config.width for mask in selected.values())

    text = TextFeature("a cat", "text", inputs["text"])
    objective = text_objective(
        model, "dino", text, {"dino": inputs["dino"]}, target="similarity", mode=mode
    )
    of_text = logits["text"].relu() * selected["text"]
    for features in (inputs["dino"], torch.randn(1, 12)):  # the selection is held fixed
        own = model.logits("dino", model.normalize("dino", features))[0].relu() * selected["dino"]
        expected = torch.cosine_similarity(own, of_text, dim=0)
        torch.testing.assert_close(objective(features)[0], expected)


def test_joint_and_independent_choose_other_latents(model):
    torch.manual_seed(2)
    image, text = torch.randn(1, 12), TextFeature("a cat", "text", torch.randn(1, 10))
    actual = [
        text_objective(model, "dino", text, {"dino": image}, target="latents", mode=mode)(image)
        for mode in ("independent", "joint")
    ]
    assert actual[0] != actual[1]


@pytest.mark.parametrize("target", ["latents", "similarity"])
def test_a_text_that_activates_nothing_is_refused(model, target):
    model.requires_grad_(False)
    model.latent_bias["text"] -= 100
    text = TextFeature("a cat\n", "text", torch.randn(1, 10))
    with pytest.raises(LocalizeError, match=r"'a cat\\n' activates no latent of stream text"):
        text_objective(
            model, "dino", text, {"dino": torch.randn(1, 12)}, target=target, mode="independent"
        )


def test_the_raw_similarity_is_a_cosine():
    text, features = torch.randn(6), torch.randn(4, 6)
    expected = torch.cosine_similarity(features, text[None], dim=1)
    torch.testing.assert_close(raw_objective(text)(features), expected)
    assert raw_objective(text)(torch.zeros(1, 6)) == 0  # a place without a feature
