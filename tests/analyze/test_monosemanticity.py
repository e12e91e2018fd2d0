"""The linear sums against all pairs, one by one."""

from itertools import combinations, product

import numpy as np
import pytest

from sparc.analyze import monosemanticity
from sparc.analyze.codes import CodeRows, CodeSet
from sparc.analyze.pictures import read_pictures
from sparc.analyze.reduction import Executor, executor
from sparc.common.cache_writer import write_arrays

SYNC = Executor("sync", 1)
ALONE = CodeSet("independent")
STREAMS = ("dino", "clip_image", "clip_text")


def all_pairs(values, features):
    """The weighted mean cosine by its definition; None where no pair weighs anything."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    total = weight = 0.0
    for i, j in combinations(np.flatnonzero(values), 2):
        total += values[i] * values[j] * (unit[i] @ unit[j])
        weight += values[i] * values[j]
    return total / weight if weight else None


@pytest.fixture(scope="module")
def cache(make_cache, tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), rows=90, dtype="float32")


@pytest.fixture(scope="module")
def codes(random_codes):
    return random_codes(7, rows=90, latents=20, k=6, streams=STREAMS)


@pytest.fixture(scope="module")
def counted(cache):
    """The first analysed row of each picture: pictures have two rows, and row 5 is not valid."""
    valid = cache.valid_rows(STREAMS)
    rows = read_pictures(cache.rows(["sample_id"])["sample_id"], valid).first_rows(valid)
    assert rows.tolist() == list(range(0, 90, 2))
    return rows


@pytest.mark.parametrize("sums", [1, 100, 2**23])
def test_scores_are_those_of_all_pairs(
    cache, codes, counted, dense, make_parts, tmp_path, monkeypatch, sums
):
    monkeypatch.setattr(monosemanticity, "_SUMS", sums)
    monkeypatch.setattr(monosemanticity, "_BATCH", 7)
    parts = make_parts(tmp_path, cache, codes, ALONE, latents=20)(ALONE)
    found = monosemanticity.measure(parts, counted, SYNC)
    lines = monosemanticity.table(found, ALONE).to_pylist()
    assert [(x["stream"], x["reference"], x["latent"]) for x in lines] == list(
        product(STREAMS, STREAMS, range(20))
    )
    expected = {}
    features = {s: np.concatenate([cache.features(s, c) for c in range(3)]) for s in STREAMS}
    for line in lines:
        values = dense(codes, line["stream"], 20)[counted, line["latent"]]
        score = all_pairs(values, features[line["reference"]][counted].astype(np.float64))
        assert line["pictures"] == np.count_nonzero(values)
        assert line["score"] == pytest.approx(score, abs=1e-6)
        expected.setdefault((line["stream"], line["reference"]), []).append(score)
    assert any(x["score"] is None for x in lines)
    for line in monosemanticity.means(found, ALONE).to_pylist():
        known = [x for x in expected[line["stream"], line["reference"]] if x is not None]
        assert line["latents"] == len(known)
        assert line["value"] == pytest.approx(np.mean(known), abs=1e-6)
        each = features[line["reference"]][counted].astype(np.float64)
        assert line["any_two"] == pytest.approx(all_pairs(np.ones(len(each)), each), abs=1e-6)


def test_permuted_codes_stand_beside_the_features_of_their_places(
    cache, codes, counted, dense, make_parts, tmp_path
):
    parts = make_parts(tmp_path, cache, codes, ALONE, latents=20)
    moved = parts(CodeSet("independent", "permuted"))
    assert len(moved) > 1
    lines = monosemanticity.table(
        monosemanticity.measure(moved, counted, SYNC), moved.code_set
    ).to_pylist()
    placed = np.concatenate([moved.rows(part) for part in range(len(moved))])
    features = np.concatenate([cache.features("clip_text", c) for c in range(3)])
    values = np.concatenate([dense(moved.codes(part), "dino", 20) for part in range(len(moved))])[
        np.isin(placed, counted)
    ]
    features = features[placed[np.isin(placed, counted)]].astype(np.float64)
    for line in lines:
        if (line["stream"], line["reference"]) == ("dino", "clip_text"):
            score = all_pairs(values[:, line["latent"]], features)
            assert line["score"] == pytest.approx(score, abs=1e-6)


def test_what_moved_before_selection_brings_its_features_along(
    cache, random_codes, counted, dense, make_parts, tmp_path
):
    """Each picture counts by its first row, wherever that was moved to."""
    code_set = CodeSet("joint", "permuted_before")
    codes = random_codes(8, rows=90, latents=20, k=6, streams=STREAMS, joint=True)
    parts = make_parts(tmp_path, cache, codes, code_set, latents=20)(code_set)
    lines = monosemanticity.table(
        monosemanticity.measure(parts, counted, SYNC), code_set
    ).to_pylist()
    values, features, rows = [], [], []
    for part in range(len(parts)):
        values.append(dense(parts.codes(part), "dino", 20))
        features.append(parts.features(part)["clip_text"].astype(np.float64))
        rows.append(parts.seen(part, "clip_text")[0])
    rows = np.concatenate(rows)
    assert sorted(rows) == np.flatnonzero(cache.valid_rows(STREAMS)).tolist()
    whole = np.concatenate([cache.features("clip_text", c) for c in range(3)])
    assert (whole[rows] == np.concatenate(features)).all()
    first = np.isin(rows, counted)
    for line in lines:
        if (line["stream"], line["reference"]) == ("dino", "clip_text"):
            score = all_pairs(
                np.concatenate(values)[first, line["latent"]], np.concatenate(features)[first]
            )
            assert line["score"] == pytest.approx(score, abs=1e-6)


def test_one_meaning_scores_one_and_two_score_less(make_parts, tmp_path):
    """Latent 0 is active on one kind of picture, latent 1 on two kinds that have nothing in
    common, latent 2 on a single picture, latent 3 on one picture and, hardly, on another."""
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
    found = monosemanticity.measure(parts, np.arange(7), SYNC)
    for scores in found:
        # Of 15 equally heavy pairs, 6 are of one kind.
        np.testing.assert_allclose(scores.score, [1, 6 / 15, np.nan, np.nan], atol=1e-6)
        assert scores.pictures.tolist() == [3, 6, 1, 2]
        assert scores.any_two == pytest.approx(6 / 21)


def test_workers_do_not_change_a_bit(cache, codes, counted, make_parts, tmp_path, monkeypatch):
    monkeypatch.setattr(monosemanticity, "_SUMS", 100)
    parts = make_parts(tmp_path, cache, codes, ALONE, latents=20)(
        CodeSet("independent", "permuted")
    )
    results = []
    for workers in (1, 4):
        with executor("threads", workers) as reducer:
            results.append(monosemanticity.measure(parts, counted, reducer))
    for a, b in zip(*results, strict=True):
        assert a.score.tobytes() == b.score.tobytes()
        assert a.any_two == b.any_two
