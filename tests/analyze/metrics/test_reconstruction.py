import copy

import numpy as np
import pytest
import torch
from scipy import stats

from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.codes.encode import encode_both, encode_jointly
from sparc.analyze.metrics import reconstruction
from sparc.analyze.rows.folds import assign_folds
from sparc.analyze.rows.images import Images


@pytest.fixture(scope="module")
def features(model):
    generator = np.random.default_rng(1)
    return {
        stream.name: generator.normal(1, 1, size=(50, stream.dim)).astype(np.float32)
        for stream in model.config.streams
    }


@pytest.fixture(scope="module")
def biased(model):
    """A copy of the model with pre-biases that are not zero."""
    result = copy.deepcopy(model)
    with torch.no_grad():
        for bias in result.pre_bias.values():
            bias.copy_(torch.linspace(-0.1, 0.1, len(bias)))
    return result


def dense_logits(model, stream, x):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    part = {n: p[stream].detach().numpy().astype(np.float64) for n, p in _parameters(model)}
    return x, (x - part["pre_bias"]) @ part["encoder"].T + part["latent_bias"]


def _parameters(model):
    return [
        (name, getattr(model, name)) for name in ("encoder", "decoder", "pre_bias", "latent_bias")
    ]


def test_codes_are_those_of_dense_arrays(biased, features, dense):
    rows = np.arange(50) + 7
    joint, independent = encode_both(biased, features, rows, batch_size=16)
    assert (joint.rows == rows).all()
    assert list(joint.streams) == list(biased.config.names)
    logits = {s: dense_logits(biased, s, x)[1] for s, x in features.items()}
    total = sum(logits.values())
    for stream, own in logits.items():
        for codes, decides in ((joint, total), (independent, own)):
            expected = np.zeros_like(own)
            for row in range(50):
                chosen = np.argsort(-decides[row])[: biased.config.k]
                expected[row, chosen] = np.maximum(own[row, chosen], 0)
            np.testing.assert_allclose(
                dense(codes, stream, biased.config.latents), expected, atol=1e-6
            )
            assert (np.diff(codes.indices[stream].astype(int), axis=1) > 0).all()
    again = encode_jointly(biased, features, rows, batch_size=16)
    assert all((again.values[s] == joint.values[s]).all() for s in joint.streams)


@pytest.mark.parametrize("mode", ["joint", "independent"])
def test_every_number_is_that_of_dense_arrays(biased, features, dense, mode):
    both = encode_both(biased, features, np.arange(50), batch_size=64)
    codes = both[("joint", "independent").index(mode)]
    folds = assign_folds(Images(np.arange(50) // 2, np.ones(25, bool)), 1)
    parts = [
        reconstruction.sum_errors(
            biased, {s: x[a:b] for s, x in features.items()}, codes.take(np.arange(a, b)), folds
        )
        for a, b in ((0, 13), (13, 50))
    ]
    sums = reconstruction.merge(parts)
    table = reconstruction.table(sums, CodeSet(mode), folds.share).to_pylist()
    assert len(table) == 9
    assert (folds.number, folds.share) == (20, 1 / 25)
    left = [folds.of_row != fold if fold else np.ones(50, bool) for fold in range(21)]
    for line in table:
        wanted, _ = dense_logits(biased, line["target"], features[line["target"]])
        decoder = biased.decoder[line["target"]].detach().numpy().astype(np.float64)
        bias = biased.pre_bias[line["target"]].detach().numpy()
        rebuilt = dense(codes, line["source"], biased.config.latents) @ decoder + bias
        errors = ((rebuilt - wanted) ** 2).sum(axis=1)
        assert line["nmse"] == pytest.approx((errors / (wanted**2).sum(axis=1)).mean(), rel=1e-5)
        nmse = [(errors / (wanted**2).sum(axis=1))[rows].mean() for rows in left]
        explained = [
            1 - errors[rows].sum() / ((wanted[rows] - wanted[rows].mean(axis=0)) ** 2).sum()
            for rows in left
        ]
        assert line["explained_variance"] == pytest.approx(explained[0], rel=1e-4, abs=1e-5)
        for name, values in (("nmse", nmse), ("explained_variance", explained)):
            squares = sum((v - np.mean(values[1:])) ** 2 for v in values[1:])
            margin = stats.t.ppf(0.975, 19) * np.sqrt((24 / 25) ** 2 * 25 / 19 * squares)
            assert line[f"{name}_low"] == pytest.approx(values[0] - margin, rel=1e-4, abs=1e-5)
            assert line[f"{name}_high"] == pytest.approx(values[0] + margin, rel=1e-4, abs=1e-5)


def test_the_mean_explains_nothing():
    generator = np.random.default_rng(0)
    x = generator.normal(3, 1, size=(40, 5))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    error = ((x - x.mean(axis=0)) ** 2).sum()
    sums = reconstruction.ErrorSums(
        ("a",), ("a",), np.array([40.0]), np.array([[[40.0]]]), np.array([[[error]]]),
        (x.sum(axis=0)[None],), np.array([[40.0]]),
    )  # fmt: skip
    (line,) = reconstruction.table(sums, CodeSet("joint"), 0).to_pylist()
    assert line["explained_variance"] == pytest.approx(0, abs=1e-9)
    assert line["nmse"] == 1


def test_rows_that_are_all_equal_have_no_explained_variance(biased, features):
    same = {s: np.repeat(x[:1], 3, axis=0) for s, x in features.items()}
    for count in (1, 3):
        part = {s: x[:count] for s, x in same.items()}
        codes, _ = encode_both(biased, part, np.arange(count), batch_size=64)
        folds = assign_folds(Images(np.arange(count), np.ones(count, bool)), 0)
        sums = reconstruction.sum_errors(biased, part, codes, folds)
        table = reconstruction.table(sums, CodeSet("joint"), folds.share)
        for end in ("", "_low", "_high"):
            assert table[f"explained_variance{end}"].null_count == len(table)
        # One image cannot say how far others would be from it.
        assert table["nmse_low"].null_count == (len(table) if count == 1 else 0)


def test_a_constant_feature_has_no_explained_variance():
    x = np.full((40, 4), 0.5)
    sums = reconstruction.ErrorSums(
        ("a",), ("a",), np.array([40.0]), np.array([[[1.0]]]), np.array([[[1.0]]]),
        (x.sum(axis=0)[None],), np.array([[40.0]]),
    )  # fmt: skip
    (line,) = reconstruction.table(sums, CodeSet("joint"), 0).to_pylist()
    assert line["explained_variance"] is None
