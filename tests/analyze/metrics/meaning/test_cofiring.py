"""Pairs of latents, against loops over all pairs."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.maths.reduction import Reducer, open_reducer
from sparc.analyze.metrics.meaning import cofiring
from sparc.analyze.metrics.meaning.partners import LEAST_IMAGES, LEAST_Z
from sparc.common.cache.arrays import write_arrays

SYNC = Reducer("sync", 1)
ALONE = CodeSet("independent")


def count_pairs(parts, one_per_image, reducer, partners):
    counted = cofiring.count_cofiring(parts, one_per_image, reducer, partners=partners, seed=1)
    return counted.pairs


def adjusted(p, tests):
    """Benjamini and Hochberg's q by its definition: the least rate at which it is rejected."""
    ranked = sorted(p)
    return [min(1, *(r * tests / (i + 1) for i, r in enumerate(ranked) if r >= x)) for x in p]


def all_pairs(first, second, partners, *, within):
    """The expected table of the pairs of two dense arrays of flags, (images, latents)."""
    rows, latents = first.shape
    candidates = combinations(range(latents), 2) if within else product(range(latents), repeat=2)
    met = {}
    for a, b in candidates:
        both = int((first[:, a] & second[:, b]).sum())
        if both >= LEAST_IMAGES:
            phi = np.nan_to_num(_correlation(first[:, a], second[:, b]))
            if phi * np.sqrt(rows) >= LEAST_Z:
                met[a, b] = both, phi
    order = sorted(met, key=lambda pair: (-round(met[pair][1], 9), pair))
    kept = set()
    for latent, side in product(range(latents), (0, 1)):
        mine = [p for p in order if latent in p] if within else [
            p for p in order if p[side] == latent
        ]  # fmt: skip
        kept |= set(mine[:partners])
    kept = sorted(kept, key=order.index)
    often = [int((x.sum(axis=0) >= LEAST_IMAGES).sum()) for x in (first, second)]
    tests = often[0] * (often[0] - 1) // 2 if within else often[0] * often[1]
    p = [
        stats.hypergeom.sf(met[a, b][0] - 1, rows, first[:, a].sum(), second[:, b].sum())
        for a, b in kept
    ]
    result = {}
    for (a, b), q in zip(kept, adjusted(p, tests), strict=True):
        if q <= cofiring.LARGEST_Q:
            both, phi = met[a, b]
            with_a, with_b = int(first[:, a].sum()), int(second[:, b].sum())
            either = int((first[:, a] | second[:, b]).sum())
            result[a, b] = (
                both, with_a, with_b, with_a * with_b / rows, both * rows / (with_a * with_b),
                both / either, phi, q,
            )  # fmt: skip
    return result


def _correlation(a, b):
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.corrcoef(a, b)[0, 1]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """400 rows, two of each image; two streams."""
    features = dict.fromkeys("ab", np.random.default_rng(0).normal(size=(400, 4)))
    return write_arrays(
        tmp_path_factory.mktemp("cache"), features,
        sample_ids=[f"p{row // 2}" for row in range(400)], rows_per_chunk=150,
        modality={"a": "text", "b": "text"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def codes():
    """Latents come in groups of four that are mostly selected together."""
    generator = np.random.default_rng(1)
    groups = np.argsort(generator.random((400, 4)), axis=1)[:, :2]
    likely = np.zeros((400, 16))
    np.put_along_axis(likely.reshape(400, 4, 4), groups[:, :, None], 1.0, axis=1)
    indices, values = {}, {}
    for stream in "ab":
        scores = likely + generator.random((400, 16))
        indices[stream] = np.sort(np.argsort(-scores, axis=1)[:, :6], axis=1).astype(np.uint8)
        values[stream] = generator.choice([0, 0.5, 2], size=(400, 6)).astype(np.float32)
    return CodeRows(np.arange(400), indices, values)


@pytest.mark.parametrize(("partners", "counts"), [(1, 40), (3, 1), (3, 2**24), (100, 2**24)])
def test_pairs_are_those_of_loops(
    cache, codes, dense, make_parts, tmp_path, monkeypatch, partners, counts
):
    monkeypatch.setattr(cofiring, "_COUNTS", counts)
    monkeypatch.setattr(cofiring, "_BATCH", 33)
    parts = make_parts(tmp_path, cache, codes, ALONE, latents=16)(ALONE)
    one_per_image = np.arange(0, 400, 2)
    stream_pairs = count_pairs(parts, one_per_image, SYNC, partners=partners)
    lines = cofiring.table(stream_pairs, ALONE).to_pylist()
    flags = {stream: dense(codes, stream, 16)[one_per_image] > 0 for stream in "ab"}
    total = 0
    for first, second in ("aa", "ab", "bb"):
        expected = all_pairs(flags[first], flags[second], partners, within=first == second)
        mine = {
            (x["first_latent"], x["second_latent"]): tuple(
                x[name] for name in cofiring.SCHEMA.names[5:]
            )
            for x in lines
            if (x["first"], x["second"]) == (first, second)
        }
        assert mine.keys() == expected.keys()
        for pair, numbers in expected.items():
            assert mine[pair] == pytest.approx(numbers, rel=1e-6)
        total += len(mine)
    assert total == len(lines) > 20


def test_one_stream_that_one_task_counts(cache, codes, make_parts, tmp_path):
    """A pair that both its latents list appears once."""
    single = CodeRows(codes.rows, {"a": codes.indices["a"]}, {"a": codes.values["a"]})
    parts = make_parts(tmp_path, cache, single, ALONE, latents=16)(ALONE)
    (stream_pairs,) = count_pairs(parts, np.arange(400), SYNC, partners=100)
    pairs = list(
        zip(stream_pairs.pairs.first.tolist(), stream_pairs.pairs.second.tolist(), strict=True)
    )
    assert len(pairs) == len(set(pairs)) > 5
    assert all(a < b for a, b in pairs)


def test_streams_are_not_compared_in_joint_mode(cache, random_codes, make_parts, tmp_path):
    joint = CodeSet("joint")
    codes = random_codes(2, rows=400, latents=16, k=6, streams="ab", joint=True)
    parts = make_parts(tmp_path, cache, codes, joint, latents=16)(joint)
    stream_pairs = count_pairs(parts, np.arange(400), SYNC, partners=3)
    assert [(x.first, x.second) for x in stream_pairs] == [("a", "a"), ("b", "b")]


def test_planted_pairs_are_listed_and_chance_is_not(tmp_path, make_parts):
    """Latents are independent except 3 and 8, and 5 in one stream and 11 in the other."""
    generator = np.random.default_rng(4)
    rows, latents = 3000, 40
    active = {stream: generator.random((rows, latents)) < 0.2 for stream in "ab"}
    for stream in "ab":
        active[stream][:, 8] = np.where(
            generator.random(rows) < 0.5, active[stream][:, 3], active[stream][:, 8]
        )
    active["b"][:, 11] = np.where(
        generator.random(rows) < 0.3, active["a"][:, 5], active["b"][:, 11]
    )
    features = dict.fromkeys("ab", generator.normal(size=(rows, 4)))
    cache = write_arrays(tmp_path / "cache", features, rows_per_chunk=700)
    indices = np.tile(np.arange(latents, dtype=np.uint8), (rows, 1))
    codes = CodeRows(
        np.arange(rows), dict.fromkeys("ab", indices),
        {stream: flags.astype(np.float32) for stream, flags in active.items()},
    )  # fmt: skip
    parts = make_parts(tmp_path / "report", cache, codes, ALONE, latents=latents)(ALONE)
    stream_pairs = count_pairs(parts, np.arange(rows), SYNC, partners=5)
    lines = cofiring.table(stream_pairs, ALONE).to_pylist()
    assert {(x["first"], x["second"], x["first_latent"], x["second_latent"]) for x in lines} == {
        ("a", "a", 3, 8),
        ("b", "b", 3, 8),
        ("a", "b", 5, 11),
    }


def test_latents_that_are_always_or_hardly_ever_active_are_in_no_pair(tmp_path, make_parts):
    values = np.zeros((100, 3), np.float32)
    values[:, 0] = 1
    values[:4, 1:] = 1
    indices = np.tile(np.arange(3, dtype=np.uint8), (100, 1))
    cache = write_arrays(tmp_path / "cache", {"a": np.ones((100, 2))}, rows_per_chunk=60)
    codes = CodeRows(np.arange(100), {"a": indices}, {"a": values})
    parts = make_parts(tmp_path / "report", cache, codes, ALONE, latents=3)(ALONE)
    stream_pairs = count_pairs(parts, np.arange(100), SYNC, partners=5)
    assert len(cofiring.table(stream_pairs, ALONE)) == 0


def test_workers_do_not_change_a_bit(cache, codes, make_parts, tmp_path, monkeypatch):
    monkeypatch.setattr(cofiring, "_COUNTS", 40)
    parts = make_parts(tmp_path, cache, codes, ALONE, latents=16)(ALONE)
    tables = []
    for workers in (1, 4):
        with open_reducer("threads", workers) as reducer:
            stream_pairs = count_pairs(parts, np.arange(400), reducer, partners=3)
            tables.append(cofiring.table(stream_pairs, ALONE))
    assert tables[0].equals(tables[1])
