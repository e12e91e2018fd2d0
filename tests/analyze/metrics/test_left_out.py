"""Codes without a stream, against dense arrays."""

import numpy as np
import pytest
import torch

from sparc.analyze.maths.intervals import jackknife_share
from sparc.analyze.metrics import left_out
from sparc.analyze.rows.folds import assign_folds, no_folds
from sparc.analyze.rows.images import Images
from sparc.train import ModelConfig, Sparc, StreamShape

ROWS = 30
FOLDS = assign_folds(Images(np.arange(ROWS) // 2, np.ones(ROWS // 2, bool)), 1)


@pytest.fixture(scope="module")
def features(model):
    generator = np.random.default_rng(1)
    return {
        stream.name: generator.normal(0.5, 1, size=(ROWS, stream.dim)).astype(np.float16)
        for stream in model.config.streams
    }


def dense_model(model, stream, raw):
    """Normalized features, logits, decoder and pre-bias of a stream in float64."""
    part = {
        name: getattr(model, name)[stream].detach().double().numpy()
        for name in ("encoder", "decoder", "pre_bias", "latent_bias")
    }
    x = raw.astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    logits = (x - part["pre_bias"]) @ part["encoder"].T + part["latent_bias"]
    return x, logits, part["decoder"], part["pre_bias"]


def test_every_number_is_that_of_dense_arrays(model, features, margin):
    names, k = list(features), model.config.k
    dense = {s: dense_model(model, s, x) for s, x in features.items()}

    def select(streams):
        total = sum(dense[s][1] for s in streams)
        return [set(np.argsort(-row)[:k]) for row in total]

    def code(stream, selected):
        result = np.zeros_like(dense[stream][1])
        for row, latents in enumerate(selected):
            for latent in latents:
                result[row, latent] = max(dense[stream][1][row, latent], 0)
        return result

    def check(line, name, values, present, rel=1e-6, **limits):
        """A mean over the rows that have the value, and its interval."""
        cases = [present & (FOLDS.of_row != fold if fold else True) for fold in range(16)]
        figures = [np.mean(values[some]) for some in cases]
        if name in ("kept", "jaccard"):
            interval = jackknife_share(figures, FOLDS.share, FOLDS.images)
            assert line[name] == pytest.approx(figures[0], rel=rel)
            assert line[f"{name}_low"] == pytest.approx(float(interval.low), abs=1e-4)
            assert line[f"{name}_high"] == pytest.approx(float(interval.high), abs=1e-4)
            return
        check_figures(line, name, figures, rel, **limits)

    def check_figures(line, name, figures, rel, least=0, most=1):
        half = margin(figures, FOLDS.share)
        assert line[name] == pytest.approx(figures[0], rel=rel)
        low, high = max(least, figures[0] - half), min(most, figures[0] + half)
        assert line[f"{name}_low"] == pytest.approx(low, rel=10 * rel, abs=1e-4)
        assert line[f"{name}_high"] == pytest.approx(high, rel=10 * rel, abs=1e-4)

    tables = left_out.tables(model, features, "trained", FOLDS, batch_size=7)
    whole = select(names)
    lines = tables.selection.to_pylist()
    assert [(x["left_out"], x["stream"]) for x in lines] == [
        (t, s) for t in names for s in [None, *(n for n in names if n != t)]
    ]
    for line in lines:
        others = select([n for n in names if n != line["left_out"]])
        before, after = whole, others
        if (stream := line["stream"]) is not None:
            before, after = (
                [set(np.flatnonzero(row)) for row in code(stream, sets)] for sets in (whole, others)
            )
        pairs = list(zip(before, after, strict=True))
        kept = np.array([len(a & b) / max(1, len(a)) for a, b in pairs])
        jaccard = np.array([len(a & b) / max(1, len(a | b)) for a, b in pairs])
        assert line["control"] == "trained"
        check(line, "kept", kept, np.array([bool(a) for a, _ in pairs]))
        check(line, "jaccard", jaccard, np.array([bool(a | b) for a, b in pairs]))
    assert min(x["jaccard"] for x in lines) < 1

    lines = tables.reconstruction.to_pylist()
    assert [(x["left_out"], x["target"], x["source"]) for x in lines] == [
        (t, target, source)
        for t in [None, *names]
        for target in names
        for source in names
        if source != t
    ]
    for line in lines:
        selected = select([n for n in names if n != line["left_out"]])
        x, _, decoder, bias = dense[line["target"]]
        errors = ((code(line["source"], selected) @ decoder + bias - x) ** 2).sum(axis=1)
        check(line, "nmse", errors, np.ones(ROWS, bool), rel=1e-4, most=np.inf)
        explained = []
        for fold in range(16):
            some = FOLDS.of_row != fold if fold else np.ones(ROWS, bool)
            variance = ((x[some] - x[some].mean(axis=0)) ** 2).sum()
            explained.append(1 - errors[some].sum() / variance)
        check_figures(line, "explained_variance", explained, 1e-3, least=-np.inf)


@pytest.fixture(scope="module")
def loud():
    """Two streams of which `loud` decides what is selected; `quiet` would select the opposite."""
    model = Sparc(
        ModelConfig(streams=(StreamShape("loud", 4), StreamShape("quiet", 4)), latents=4, k=1)
    )
    with torch.no_grad():
        model.encoder["loud"].copy_(10 * torch.eye(4))
        model.encoder["quiet"].copy_(torch.eye(4).roll(2, dims=0))
        for decoder in model.decoder.values():
            decoder.copy_(torch.eye(4))
    return model.eval().requires_grad_(False)


def test_leaving_out_a_loud_stream_changes_more_than_a_quiet_one(loud):
    x = np.eye(4, dtype=np.float32)
    tables = left_out.tables(
        loud, {"loud": x, "quiet": x}, "trained", no_folds(len(x)), batch_size=8
    )
    lines = {(x["left_out"], x["stream"]): x for x in tables.selection.to_pylist()}
    assert lines["quiet", None]["jaccard"] == lines["quiet", "loud"]["kept"] == 1
    assert lines["loud", None]["kept"] == lines["loud", None]["jaccard"] == 0
    # With the loud stream nothing is active in the quiet one, so nothing could have been kept.
    assert lines["loud", "quiet"]["kept"] is None
    assert lines["loud", "quiet"]["jaccard"] == 0


def test_one_stream_cannot_be_left_out(loud):
    tables = left_out.tables(loud, {"loud": np.eye(4)}, "trained", no_folds(4), batch_size=8)
    assert [len(table) for table in tables] == [0, 0]


def test_rows_that_are_all_equal_have_no_explained_variance(loud):
    x = np.ones((3, 4), np.float32)
    tables = left_out.tables(
        loud, {"loud": x, "quiet": x}, "trained", no_folds(len(x)), batch_size=8
    )
    assert tables.selection["kept_low"].null_count == len(tables.selection)
    column = tables.reconstruction["explained_variance"]
    assert column.null_count == len(column) > 0
