"""The linear sums against all pairs, one by one."""

from itertools import product

import numpy as np
import pytest

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.maths.intervals import jackknife
from sparc.analyze.maths.reduction import Reducer, open_reducer
from sparc.analyze.metrics.meaning import monosemanticity
from sparc.analyze.rows.folds import assign_folds, no_folds
from sparc.analyze.rows.images import Images, read_images
from sparc.common.cache.arrays import write_arrays

SYNC = Reducer("sync", 1)
ALONE = CodeSet("independent")
STREAMS = ("dino", "clip_image", "clip_text")


def all_pairs(values, features):
    """The weighted mean cosine by its definition; None where no pair weighs anything."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    weights = np.triu(np.outer(values, values), 1)
    return (weights * (unit @ unit.T)).sum() / weights.sum() if weights.any() else None


def scores_of(parts, one_per_image, folds=None, reducer=SYNC):
    folds = folds or no_folds(parts.cache.info.rows)
    return monosemanticity.score_latents(parts, one_per_image, folds, reducer)


@pytest.fixture(scope="module")
def cache(make_cache, tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), rows=90, dtype="float32")


@pytest.fixture(scope="module")
def codes(random_codes):
    return random_codes(7, rows=90, latents=20, k=6, streams=STREAMS)


@pytest.fixture(scope="module")
def one_per_image(cache):
    """The first analysed row of each image: images have two rows, and row 5 is not valid."""
    valid = cache.valid_rows(STREAMS)
    rows = read_images(cache, valid).first_rows(valid)
    assert rows.tolist() == list(range(0, 90, 2))
    return rows


@pytest.fixture(scope="module")
def folds(cache):
    """Twenty folds of two images; five images are in none."""
    valid = cache.valid_rows(STREAMS)
    actual = assign_folds(read_images(cache, valid), 4)
    assert np.bincount(actual.of_row[::2]).tolist() == [5, *[2] * 20]
    return actual


@pytest.mark.parametrize("sums", [1, 100, 2**23])
def test_scores_are_those_of_all_pairs(
    cache, codes, one_per_image, dense, make_parts, tmp_path, monkeypatch, sums
):
    monkeypatch.setattr(monosemanticity, "_SUMS", sums)
    monkeypatch.setattr(monosemanticity, "_BATCH", 7)
    parts = make_parts(tmp_path, cache, codes, ALONE, latents=20)(ALONE)
    actual = scores_of(parts, one_per_image)
    lines = monosemanticity.table(actual, ALONE).to_pylist()
    assert [(x["stream"], x["reference"], x["latent"]) for x in lines] == list(
        product(STREAMS, STREAMS, range(20))
    )
    expected = {}
    features = {s: np.concatenate([cache.features(s, c) for c in range(3)]) for s in STREAMS}
    for line in lines:
        values = dense(codes, line["stream"], 20)[one_per_image, line["latent"]]
        score = all_pairs(values, features[line["reference"]][one_per_image].astype(np.float64))
        assert line["images"] == np.count_nonzero(values)
        assert line["score"] == pytest.approx(score, abs=1e-6)
        expected.setdefault((line["stream"], line["reference"]), []).append(score)
    assert any(x["score"] is None for x in lines)
    for line in monosemanticity.means(actual, ALONE, 0).to_pylist():
        known = [x for x in expected[line["stream"], line["reference"]] if x is not None]
        assert line["latents"] == len(known)
        assert line["value"] == pytest.approx(np.mean(known), abs=1e-6)
        assert line["value_low"] is line["value_high"] is None  # without folds
        of_reference = features[line["reference"]][one_per_image].astype(np.float64)
        assert line["any_two"] == pytest.approx(
            all_pairs(np.ones(len(of_reference)), of_reference), abs=1e-6
        )


def test_codes_permuted_after_selection_meet_the_features_of_their_places(
    cache, codes, one_per_image, dense, make_parts, tmp_path
):
    parts = make_parts(tmp_path, cache, codes, ALONE, latents=20)
    moved = parts(CodeSet("independent", "permuted"))
    assert len(moved) > 1
    lines = monosemanticity.table(scores_of(moved, one_per_image), moved.code_set).to_pylist()
    placed = np.concatenate([moved.rows(part) for part in range(len(moved))])
    features = np.concatenate([cache.features("clip_text", c) for c in range(3)])
    values = np.concatenate([dense(moved.codes(part), "dino", 20) for part in range(len(moved))])[
        np.isin(placed, one_per_image)
    ]
    features = features[placed[np.isin(placed, one_per_image)]].astype(np.float64)
    for line in lines:
        if (line["stream"], line["reference"]) == ("dino", "clip_text"):
            score = all_pairs(values[:, line["latent"]], features)
            assert line["score"] == pytest.approx(score, abs=1e-6)


def test_codes_permuted_before_selection_keep_their_features(
    cache, random_codes, one_per_image, dense, make_parts, tmp_path
):
    """Each image counts by its first row, wherever it is moved."""
    code_set = CodeSet("joint", "permuted_before")
    codes = random_codes(8, rows=90, latents=20, k=6, streams=STREAMS, joint=True)
    parts = make_parts(tmp_path, cache, codes, code_set, latents=20)(code_set)
    lines = monosemanticity.table(scores_of(parts, one_per_image), code_set).to_pylist()
    values, features, rows = [], [], []
    for part in range(len(parts)):
        values.append(dense(parts.codes(part), "dino", 20))
        features.append(parts.features(part)["clip_text"].astype(np.float64))
        rows.append(parts.placed_features(part, "clip_text")[0])
    rows = np.concatenate(rows)
    assert sorted(rows) == np.flatnonzero(cache.valid_rows(STREAMS)).tolist()
    whole = np.concatenate([cache.features("clip_text", c) for c in range(3)])
    assert (whole[rows] == np.concatenate(features)).all()
    first = np.isin(rows, one_per_image)
    for line in lines:
        if (line["stream"], line["reference"]) == ("dino", "clip_text"):
            score = all_pairs(
                np.concatenate(values)[first, line["latent"]], np.concatenate(features)[first]
            )
            assert line["score"] == pytest.approx(score, abs=1e-6)


def test_one_meaning_scores_one_and_two_score_less(make_parts, tmp_path):
    """Latent 0 is active on one kind of image, latent 1 on two kinds that have nothing in
    common, latent 2 on a single image, latent 3 on one image and, hardly, on another."""
    kinds = np.eye(3)[[0, 0, 0, 1, 1, 1, 2]]
    features = dict.fromkeys(STREAMS, kinds.astype(np.float32))
    cache = write_arrays(tmp_path / "cache", features, rows_per_chunk=4)
    values = np.zeros((7, 4), np.float32)
    values[:3, 0] = [1, 5, 2]
    values[:6, 1] = 0.5
    values[6, 2] = 1
    values[[0, 6], 3] = [1, 1e-6]
    indices = np.tile(np.arange(4, dtype=np.uint8), (7, 1))
    codes = CodeRows(np.arange(7), dict.fromkeys(STREAMS, indices), dict.fromkeys(STREAMS, values))
    parts = make_parts(tmp_path / "report", cache, codes, ALONE, latents=4)(ALONE)
    actual = scores_of(parts, np.arange(7))
    for scores in actual:
        # Of 15 equally heavy pairs, 6 are of one kind.
        np.testing.assert_allclose(scores.score, [1, 6 / 15, np.nan, np.nan], atol=1e-6)
        assert scores.images.tolist() == [3, 6, 1, 2]
        assert scores.any_two == pytest.approx(6 / 21)


@pytest.mark.parametrize(
    ("code_set", "stored", "sums"),
    [
        (ALONE, ALONE, 100),
        (CodeSet("independent", "permuted"), ALONE, 2**23),
        (CodeSet("joint", "permuted_before"), CodeSet("joint", "permuted_before"), 200),
    ],
)
def test_intervals_are_those_of_all_pairs_outside_each_fold(
    cache, random_codes, one_per_image, folds, dense, make_parts, tmp_path, monkeypatch,
    code_set, stored, sums,
):  # fmt: skip
    """Nine latents are active on few images: without some folds they have no score. An image is
    in the fold of the row that its feature comes from."""
    monkeypatch.setattr(monosemanticity, "_SUMS", sums)
    monkeypatch.setattr(monosemanticity, "_BATCH", 3)
    codes = random_codes(9, rows=90, latents=20, k=6, streams=STREAMS, joint=stored.mode == "joint")
    for stream in STREAMS:
        codes.values[stream][8:][codes.indices[stream][8:] < 9] = 0
    parts = make_parts(tmp_path, cache, codes, stored, latents=20)(code_set)
    means = monosemanticity.means(scores_of(parts, one_per_image, folds), code_set, folds.share)
    lines = {(x["stream"], x["reference"]): x for x in means.to_pylist()}
    assert len(lines) == 9
    latents = set()
    for stream, reference in product(("dino", "clip_text"), repeat=2):
        placed = [parts.placed_features(part, reference) for part in range(len(parts))]
        rows = np.concatenate([rows for rows, _ in placed])
        features = np.concatenate([features for _, features in placed]).astype(np.float64)
        values = np.concatenate([dense(parts.codes(p), stream, 20) for p in range(len(parts))])
        figures = []
        for fold in range(1 + folds.number):
            left = np.isin(rows, one_per_image) & ((fold == 0) | (folds.of_row[rows] != fold))
            scores = [all_pairs(of_latent, features[left]) for of_latent in values[left].T]
            known = [score for score in scores if score is not None]
            figures.append(np.mean(known))
            latents.add(len(known))
        line = lines[stream, reference]
        interval = jackknife(np.array(figures), folds.share)
        assert line["value"] == pytest.approx(figures[0], abs=1e-6)
        assert line["value_low"] == pytest.approx(float(interval.low), abs=1e-6)
        assert line["value_high"] == pytest.approx(float(interval.high), abs=1e-6)
        assert line["value_low"] < line["value"] < line["value_high"]
    assert len(latents) > 1


def test_a_latent_of_one_fold_has_no_score_without_it(make_parts, tmp_path):
    """Latent 0 is active on all images, latent 1 on two of one fold, however strongly. Features
    of the images in one fold are alike, and unlike all others."""
    images = 40
    folds = assign_folds(Images(np.arange(images), np.ones(images, bool)), 0)
    kinds = np.eye(20, dtype=np.float32)[folds.of_row - 1]
    cache = write_arrays(tmp_path / "cache", {"a": kinds}, rows_per_chunk=16)
    values = np.ones((images, 2), np.float32)
    values[:, 1] = np.where(folds.of_row == 7, [1e4 / 3], 0)
    indices = np.tile(np.arange(2, dtype=np.uint8), (images, 1))
    codes = CodeRows(np.arange(images), {"a": indices}, {"a": values})
    parts = make_parts(tmp_path / "report", cache, codes, ALONE, latents=2)(ALONE)
    (scores,) = scores_of(parts, np.arange(images), folds)
    of_all = 20 / (40 * 39 / 2)
    of_others = 19 / (38 * 37 / 2)
    expected = np.array([[of_all + 1, *[of_others + 1] * 20], [2] * 21])
    expected[:, 7] = of_others, 1
    np.testing.assert_allclose(scores.totals, expected, atol=1e-6)


def test_workers_do_not_change_a_bit(
    cache, codes, one_per_image, folds, make_parts, tmp_path, monkeypatch
):
    monkeypatch.setattr(monosemanticity, "_SUMS", 400)
    parts = make_parts(tmp_path, cache, codes, ALONE, latents=20)(
        CodeSet("independent", "permuted")
    )
    results = []
    for workers in (1, 4):
        with open_reducer("threads", workers) as reducer:
            results.append(scores_of(parts, one_per_image, folds, reducer))
    for a, b in zip(*results, strict=True):
        assert a.score.tobytes() == b.score.tobytes()
        assert a.any_two == b.any_two
        assert a.totals.tobytes() == b.totals.tobytes()
