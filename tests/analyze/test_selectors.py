"""A report on a model whose rows use more or fewer latents, against plain NumPy."""

import numpy as np
import pytest
import torch
import zarr

from sparc.analyze import AnalyzeConfig, analyze
from sparc.analyze.metrics import left_out
from sparc.analyze.rows.folds import assign_folds
from sparc.analyze.rows.images import Images
from sparc.common.cache.arrays import write_arrays
from sparc.common.cache.reader import ActivationCache
from sparc.common.files.folder import Folder
from sparc.train import create_model, job
from sparc.train.config import ModelConfig, StreamShape, TrainConfig
from sparc.train.data.planted import plant
from sparc.train.loading import load, load_untrained
from sparc.train.model.selectors.registry import SELECTORS, SelectorEntry
from sparc.train.model.selectors.selector import Selector
from sparc.train.run.log import read_lines

SETTINGS = AnalyzeConfig(top_rows=4, rows=200, permute_rows=256, scheduler="sync", device="cpu")


@pytest.fixture(scope="module")
def small_cache(tmp_path_factory):
    widths = {"dino": 24, "clip_image": 16, "clip_text": 12}
    planted = plant(widths, rows=600, shared=20, private=2, active=3)
    planted.features["clip_text"][::17] = 0
    folder = tmp_path_factory.mktemp("caches") / "small"
    write_arrays(folder, planted.features, rows_per_chunk=128, dtype="float16")
    return folder


def train(cache, run, **selection):
    settings = TrainConfig(
        recipe="joint", latents=96, batch_size=64, steps=60, lr=3e-3, dead_after=2000, **selection
    )
    job.run(str(cache), run, settings)


@pytest.fixture(scope="module")
def run(small_cache, tmp_path_factory):
    run = tmp_path_factory.mktemp("batch") / "run"
    train(small_cache, run, k=4, selection="batch")
    return run


@pytest.fixture(scope="module")
def report(run, small_cache, tmp_path_factory):
    return analyze(run, small_cache, tmp_path_factory.mktemp("report"), SETTINGS)


@pytest.fixture(scope="module")
def features(small_cache):
    cache = ActivationCache(small_cache)
    valid = cache.valid_rows(cache.stream_names)
    group = zarr.open_group(small_cache / "activations.zarr", mode="r")
    return {s: group[f"{s}/features"][:].astype(np.float32)[valid] for s in cache.stream_names}


def stored(report, code_set, stream):
    """Dense codes of the analysed rows, and the indices as they are stored."""
    group = zarr.open_group(report.folder.local / "codes.zarr", mode="r")
    own = f"{code_set}/{stream}/indices"
    valid = group["valid"][:]
    indices = group[own if own in group else f"{code_set}/indices"][:][valid]
    dense = np.zeros((len(indices), 96))
    values = group[f"{code_set}/{stream}/values"][:][valid]
    np.put_along_axis(dense, indices.astype(np.int64), values, axis=1)
    return dense, indices


def logits_of(model, features):
    return {
        s: model.logits(s, model.normalize(s, torch.from_numpy(x))).numpy()
        for s, x in features.items()
    }


def selected(scores, threshold):
    """At most 16 of a row, which is the width of the codes."""
    sixteenth = np.sort(scores, axis=1)[:, -16:-15]
    return (scores >= threshold) & (scores >= sixteenth)


def test_codes_of_both_modes_and_of_the_untrained_model(report, run, features):
    model = load(run)
    logits = logits_of(model, features)
    total, thresholds = sum(logits.values()), model.thresholds.numpy()
    for position, (stream, own) in enumerate(logits.items()):
        dense, indices = stored(report, "trained/joint", stream)
        assert indices.shape == (len(own), 16)
        kept = selected(total, thresholds[0])
        np.testing.assert_allclose(dense, np.maximum(own, 0) * kept, atol=1e-5)
        dense, _ = stored(report, "trained/independent", stream)
        kept = selected(own, thresholds[1 + position])
        np.testing.assert_allclose(dense, np.maximum(own, 0) * kept, atol=1e-5)
    used = selected(total, thresholds[0]).sum(1)
    assert 3 < used.mean() < 6
    assert used.min() < 4 < used.max()
    before = sum(logits_of(load_untrained(run), features).values())
    fourth = np.sort(before, axis=1)[:, -4]
    dense, _ = stored(report, "untrained/joint", "dino")
    assert not dense[before < fourth[:, None]].any()


def test_tables_count_what_is_selected_and_no_padding(report, run, features):
    model = load(run)
    logits = logits_of(model, features)
    joint = selected(sum(logits.values()), model.thresholds[0].item())
    for position, (stream, own) in enumerate(logits.items()):
        also = joint & selected(own, model.thresholds[1 + position].item())
        rows = report.table("selection").to_pylist()
        (row,) = [r for r in rows if r["stream"] == stream and r["control"] == "trained"]
        assert row["share"] == pytest.approx(also.sum() / joint.sum(), abs=1e-3)
        rows = report.table("streams").to_pylist()
        (row,) = [
            r
            for r in rows
            if (r["stream"], r["mode"], r["control"]) == (stream, "joint", "trained")
        ]
        active = (joint & (own > 0)).sum(1).mean()
        assert row["active_per_row"] == pytest.approx(active, abs=1e-3)
    assert report.info.selection == "batch"
    assert report.info.k == 4


class AboveHalf(Selector):
    """Of the k largest sums those above half of the row's largest: codes are k wide."""

    own_mode = "joint"

    def keep(self, scores, k, threshold):
        return scores > scores.amax(1, keepdim=True) / 2


def above_half(scores):
    """The latents of `AboveHalf` with k 16, (rows, latents)."""
    sixteenth = np.sort(scores, axis=1)[:, -16:-15]
    return (scores >= sixteenth) & (scores > scores.max(1, keepdims=True) / 2)


def test_a_selector_that_leaves_latents_out_of_k(small_cache, features, tmp_path, monkeypatch):
    monkeypatch.setitem(SELECTORS, "half", SelectorEntry("half", f"{__name__}:AboveHalf"))
    train(small_cache, tmp_path / "run", k=16, selection="half")
    model = load(tmp_path / "run")
    assert (model.config.k_max, model.config.width) == (None, 16)
    logits = logits_of(model, features)
    joint = above_half(sum(logits.values()))
    assert joint.sum(1).mean() < 14
    report = analyze(tmp_path / "run", small_cache, tmp_path / "report", SETTINGS)
    for own in report.table("selection").to_pylist():
        if own["control"] == "trained":
            also = joint & above_half(logits[own["stream"]])
            assert own["share"] == pytest.approx(also.sum() / joint.sum(), abs=1e-3)
    line = list(read_lines(Folder(tmp_path / "run")))[-1]
    # Training counts some rows while the model still moves: about as in the report.
    shares = {s: (joint & above_half(x)).sum() / joint.sum() for s, x in logits.items()}
    assert line["chosen_alone"] == pytest.approx(shares, abs=0.15)


def test_left_out_streams_count_no_padding(features, monkeypatch):
    monkeypatch.setitem(SELECTORS, "half", SelectorEntry("half", f"{__name__}:AboveHalf"))
    shapes = tuple(StreamShape(s, x.shape[1]) for s, x in features.items())
    model = create_model(ModelConfig(streams=shapes, latents=96, k=16, selection="half"), seed=1)
    some = {s: x[:50] for s, x in features.items()}
    folds = assign_folds(Images(np.arange(50), np.ones(50, bool)), 0)
    with torch.no_grad():
        logits = logits_of(model, some)
        tables = left_out.tables(model, some, "trained", folds, batch_size=16)
    whole = above_half(sum(logits.values()))
    for row in tables.selection.to_pylist():
        if row["stream"] is None:
            left = above_half(sum(x for s, x in logits.items() if s != row["left_out"]))
            kept = (whole & left).sum(1) / whole.sum(1)
            assert row["kept"] == pytest.approx(kept.mean())
