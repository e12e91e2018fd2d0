"""The closed form agrees with a plain dense one, and makes streams agree that share a source."""

import numpy as np
import pytest
import torch

from sparc.common.cache.arrays import write_arrays
from sparc.train.align.refit import align
from sparc.train.align.selecting import selecting_rows
from sparc.train.data.moments import data_moments

CPU = torch.device("cpu")


def moments_of(cache, config, rows=10**6):
    return data_moments(cache, config, rows=rows, seed=0, device=CPU)


@pytest.fixture
def draw(tmp_path):
    """A cache of three correlated streams, one with a large mean, and their normalized rows."""

    def build(rows=300, missing=False):
        rng = np.random.default_rng(0)
        source = rng.standard_normal((rows, 8)) * rng.random(8)
        features = {
            f"s{i}": (source @ rng.standard_normal((8, dim)) + mean).astype(np.float32)
            for i, (dim, mean) in enumerate([(7, 0), (5, 4), (6, 0.5)])
        }
        if missing:
            features["s0"][::7] = 0
            features["s2"][3::11] = 0
        cache = write_arrays(tmp_path / "cache", features, rows_per_chunk=64, dtype="float32")
        with np.errstate(invalid="ignore"):
            unit = {
                name: torch.from_numpy(x / np.linalg.norm(x, axis=1, keepdims=True)).double()
                for name, x in features.items()
            }
        return cache, unit

    return build


def dense(model, x, mix, ridge, keep, discriminant=0):
    """The formulas as they stand, on all rows, by stream: encoders and latent biases."""
    names = model.config.names
    mu = {s: x[s].mean(0) for s in names}
    cov = {(s, t): (x[s] - mu[s]).T @ (x[t] - mu[t]) / len(x[s]) for s in names for t in names}
    w = {s: (model.encoder[s], model.latent_bias[s], mu[s] - model.pre_bias[s]) for s in names}
    mean_logit = sum(e @ centre + c for e, c, centre in w.values()) / len(names)

    def logits(encoders, biases):
        return {s: (x[s] - model.pre_bias[s]) @ encoders[s].T + biases[s] for s in names}

    summed = sum(logits({s: w[s][0] for s in w}, {s: w[s][1] for s in w}).values())
    selected = torch.zeros_like(summed).scatter_(1, summed.topk(model.config.k, 1).indices, 1)
    encoders, biases = {}, {}
    for s in names:
        rho = ridge * cov[s, s].trace()
        regularized = cov[s, s] + rho * torch.eye(len(mu[s]), dtype=torch.float64)
        guess = sum(w[t][0] @ cov[t, s] for t in names) @ regularized.inverse() / len(names)
        for latent in range(len(guess) if discriminant else 0):
            rows = selected[:, latent] > 0
            if rows.any():
                fisher = regularized.inverse() @ (x[s][rows].mean(0) - mu[s])
                fisher *= (x[s] @ guess[latent]).std() / (x[s] @ fisher).std()
                guess[latent] = (1 - discriminant) * guess[latent] + discriminant * fisher
        encoders[s] = (1 - mix) * w[s][0] + mix * guess
        biases[s] = (1 - mix) * w[s][1] + mix * (mean_logit - guess @ w[s][2])
    if keep:
        before = sum(logits({s: w[s][0] for s in w}, {s: w[s][1] for s in w}).values())
        after = sum(logits(encoders, biases).values())
        gain = (before.std(0) / after.std(0)).clamp(0.2, 5)[:, None]
        for s in names:
            own_mean = encoders[s] @ w[s][2] + biases[s]
            encoders[s] = gain * encoders[s]
            biases[s] = own_mean - encoders[s] @ w[s][2]
    return encoders, biases


@pytest.mark.parametrize(
    ("mix", "ridge", "keep", "discriminant"),
    [(1, 1e-4, True, 0), (0.4, 1e-2, True, 0), (1, 1e-3, False, 0), (0.8, 1e-3, True, 0.3)],
)
def test_it_is_the_dense_closed_form(draw, build_model, mix, ridge, keep, discriminant):
    cache, unit = draw()
    model = build_model(dims=(7, 5, 6), latents=40)
    with torch.no_grad():
        encoders, biases = dense(model, unit, mix, ridge, keep, discriminant)
    align(
        model,
        moments_of(cache, model.config),
        mix=mix,
        ridge=ridge,
        keep=keep,
        discriminant=discriminant,
        selecting=selecting_rows(model, cache, rows=10**6, seed=0),
    )
    for s in model.config.names:
        torch.testing.assert_close(model.encoder[s].data, encoders[s], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(model.latent_bias[s].data, biases[s], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("frozen", [("s0",), ("s2", "s1")])
def test_frozen_streams_stay_and_the_others_move_towards_the_mean(draw, build_model, frozen):
    cache, x = draw()
    model = build_model(dims=(7, 5, 6), latents=40)
    names = model.config.names
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        spread = sum(model.logits(s, x[s]) for s in names).std(0)
        encoders, biases = dense(model, x, 0.7, 1e-3, keep=False)
    align(model, moments_of(cache, model.config), mix=0.7, ridge=1e-3, frozen=frozen)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == (
            name.endswith(frozen) or name.startswith(("decoder.", "pre_bias."))
        )
    with torch.no_grad():
        logits = {s: model.logits(s, x[s]) for s in names}
        for s in set(names) - set(frozen):  # a positive multiple of each row of the closed form
            scales = model.encoder[s].norm(dim=1) / encoders[s].norm(dim=1)
            free = (scales > 0.21) & (scales < 4.9)
            assert free.sum() > 10
            rows = scales[:, None] * encoders[s]
            torch.testing.assert_close(model.encoder[s].data, rows, rtol=1e-3, atol=1e-5)
            wanted = (x[s] - model.pre_bias[s]).mean(0) @ encoders[s].T + biases[s]
            torch.testing.assert_close(logits[s].mean(0), wanted, rtol=1e-3, atol=1e-5)
            after = sum(logits.values()).std(0)
            close = (after - spread).abs() < 1e-3 * spread
            assert close[free].float().mean() > 0.9  # all where a scale can do it
