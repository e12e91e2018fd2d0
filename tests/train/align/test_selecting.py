"""Mean features of the rows that select a latent are those of plain code."""

import numpy as np
import torch

from sparc.common.cache.arrays import write_arrays
from sparc.train.align.selecting import selecting_rows


def test_means_are_over_the_rows_whose_joint_topk_has_the_latent(build_model, tmp_path):
    rng = np.random.default_rng(1)
    features = {
        name: rng.standard_normal((300, dim)).astype(np.float32)
        for name, dim in (("s0", 7), ("s1", 5))
    }
    features["s0"][::7] = 0  # no feature, so none of these rows counts
    features["s1"][3] = 0
    cache = write_arrays(tmp_path / "cache", features, rows_per_chunk=64, dtype="float32")
    model = build_model(dims=(7, 5), latents=200)
    with torch.no_grad():
        model.latent_bias["s0"][:50] = -1e3  # never selected
    whole = np.flatnonzero((features["s0"] != 0).any(1) & (features["s1"] != 0).any(1))
    x = {s: torch.from_numpy(v[whole]) for s, v in features.items()}
    x = {s: v / v.norm(dim=1, keepdim=True) for s, v in x.items()}
    with torch.no_grad():
        logits = sum(
            (x[s] - model.pre_bias[s]) @ model.encoder[s].T + model.latent_bias[s] for s in x
        )
    selected = torch.zeros_like(logits).scatter_(1, logits.topk(model.config.k, 1).indices, 1)

    result = selecting_rows(model, cache, rows=10**6, seed=3)

    torch.testing.assert_close(result.counts.double(), selected.sum(0).double())
    assert (result.counts[:50] == 0).all()
    for s, values in x.items():
        means = selected.double().T @ values.double() / result.counts.clamp(min=1)[:, None]
        torch.testing.assert_close(result.means[s], means, rtol=1e-5, atol=1e-7)
    fewer = selecting_rows(model, cache, rows=80, seed=3)
    assert 80 * model.config.k <= fewer.counts.sum() < result.counts.sum()
