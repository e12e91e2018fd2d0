"""Twins of latents, against loops over dense flags."""

import math

import numpy as np
import pytest

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.maths.reduction import Reducer
from sparc.analyze.metrics.meaning import cofiring, twins
from sparc.analyze.rows.folds import Folds
from sparc.common.cache.arrays import write_arrays

SYNC = Reducer("sync", 1)
ROWS, LATENTS, BATCH = 400, 16, 120
FIRST = np.arange(0, ROWS, 2)


def overlaps(flags, moved):
    """By latent: its nearest twin, common images and Jaccard, from dense flags (images, L)."""
    result = []
    for latent in range(LATENTS):
        best = None, 0, 0.0 if moved[:, latent].any() else None
        for other in range(LATENTS):
            both = int((moved[:, latent] & flags[:, other]).sum())
            either = int(moved[:, latent].sum() + flags[:, other].sum()) - both
            if other != latent and both and both / either > best[2]:
                best = other, both, both / either
        result.append(best)
    return result


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Two rows of each image, two streams."""
    features = dict.fromkeys("ab", np.random.default_rng(0).normal(size=(ROWS, 4)))
    return write_arrays(
        tmp_path_factory.mktemp("cache"), features,
        sample_ids=[f"p{row // 2}" for row in range(ROWS)], rows_per_chunk=BATCH,
        modality={"a": "text", "b": "text"},
    )  # fmt: skip


@pytest.fixture
def counted(cache, random_codes, make_parts, tmp_path, monkeypatch):
    """Codes in which latent 3 is often a copy of latent 2, and 15 is dead, and what is counted."""

    def count(mode, block):
        codes = random_codes(2, rows=ROWS, latents=LATENTS - 1, k=5, streams="ab",
                             joint=mode == "joint")  # fmt: skip
        seen = {}
        for indices in {id(x): x for x in codes.indices.values()}.values():
            copied = (indices == 2).any(axis=1) & ~(indices == 3).any(axis=1)
            copied[::6] = False
            indices[copied, -1] = np.where(indices[copied, -1] == 2, indices[copied, -1], 3)
            order = np.argsort(indices, axis=1)
            seen[id(indices)] = np.take_along_axis(indices, order, axis=1)
        indices = {s: seen[id(x)] for s, x in codes.indices.items()}
        codes = CodeRows(codes.rows, indices, codes.values)
        monkeypatch.setattr(cofiring, "_COUNTS", block * LATENTS)
        monkeypatch.setattr(cofiring, "_BATCH", 1)
        code_set = CodeSet(mode)
        parts = make_parts(tmp_path, cache, codes, code_set, latents=LATENTS)(code_set)
        result = cofiring.count_cofiring(parts, FIRST, SYNC, partners=3, seed=7)
        return codes, code_set, result

    return count


def flags_of(codes, dense):
    """By stream, and of any stream in joint mode, on one row of each image."""
    result = {s: dense(codes, s, LATENTS)[FIRST] > 0 for s in codes.streams}
    if codes.indices["a"] is codes.indices["b"]:
        result[None] = result["a"] | result["b"]
    return result


def effective_number(flags):
    p = flags.sum(axis=0)[flags.any(axis=0)] / flags.sum()
    return math.exp(-sum(p * np.log(p)))


def shift(flags):
    """Batches are the chunks, of 60 images and at last 20."""
    batches = []
    for number, start in enumerate(range(0, len(flags), BATCH // 2)):
        batch = flags[start : start + BATCH // 2]
        by = np.random.default_rng([7, number]).integers(1, len(batch), size=LATENTS)
        batches.append(np.stack([np.roll(batch[:, x], by[x]) for x in range(LATENTS)], axis=1))
    return np.concatenate(batches)


@pytest.mark.parametrize("mode", ["joint", "independent"])
@pytest.mark.parametrize("block", [3, LATENTS])
def test_twins_are_those_of_loops(counted, dense, mode, block):
    codes, code_set, (_, near, shifted) = counted(mode, block)
    lines = twins.table(near, shifted, code_set).to_pylist()
    assert len(lines) == LATENTS * (3 if mode == "joint" else 2)
    for stream, flags in flags_of(codes, dense).items():
        mine = [line for line in lines if line["stream"] == stream]
        assert [line["latent"] for line in mine] == list(range(LATENTS))
        real = overlaps(flags, flags)
        chance = overlaps(flags, shift(flags))
        for latent, line in enumerate(mine):
            twin, both, jaccard = real[latent]
            assert line["images_latent"] == flags[:, latent].sum()
            assert (line["twin"], line["images_both"] or 0) == (twin, both)
            assert line["jaccard"] == jaccard
            assert line["jaccard_shifted"] == chance[latent][2]
        assert mine[15]["jaccard"] is mine[15]["twin"] is None


@pytest.mark.parametrize("mode", ["joint", "independent"])
def test_means_are_those_of_dense_flags_with_and_without_each_fold(counted, dense, mode):
    codes, code_set, (_, near, shifted) = counted(mode, LATENTS)
    of_row = (1 + np.arange(ROWS) // 2 % 4).astype(np.uint8)
    folds = Folds(of_row, 4, 0.25, ROWS // 2)
    lines = twins.means(near, shifted, code_set, codes.take(FIRST), folds).to_pylist()
    by_stream = flags_of(codes, dense)
    assert [line["stream"] for line in lines] == list(by_stream)
    for line, flags in zip(lines, by_stream.values(), strict=True):
        real = overlaps(flags, flags)
        alive = [latent for latent in range(LATENTS) if flags[:, latent].any()]
        assert line["latents"] == len(alive) < LATENTS
        assert line["jaccard"] == pytest.approx(np.mean([real[x][2] for x in alive]))
        assert line["distinct"] == sum(real[x][2] < 0.5 for x in alive)
        chance = overlaps(flags, shift(flags))
        assert line["jaccard_shifted"] == pytest.approx(np.mean([chance[x][2] for x in alive]))
        assert line["distinct_shifted"] == sum(chance[x][2] < 0.5 for x in alive)

        assert line["effective"] == pytest.approx(effective_number(flags))
        without = [flags[np.arange(len(flags)) % 4 != fold] for fold in range(4)]
        spread = [effective_number(some) for some in without]
        error = math.sqrt(3 / 4 * sum((x - np.mean(spread)) ** 2 for x in spread))
        assert line["effective_low"] == pytest.approx(line["effective"] - 3.18245 * error, rel=1e-5)
        assert line["jaccard_low"] < line["jaccard"] < line["jaccard_high"]


def test_the_jaccard_without_a_fold_is_that_of_the_same_twin(counted, dense):
    codes, _, (_, near, _) = counted("joint", LATENTS)
    folds = Folds((1 + np.arange(ROWS) // 2 % 4).astype(np.uint8), 4, 0.25, ROWS // 2)
    flags = flags_of(codes, dense)["a"]
    jaccards, active = twins._without_folds(near[0], codes.take(FIRST), folds)
    for fold in range(4):
        left = flags[np.arange(len(flags)) % 4 != fold]
        assert active[1 + fold].tolist() == left.sum(axis=0).tolist()
        for latent in np.flatnonzero(left.any(axis=0)):
            pair = left[:, [latent, near[0].twin[latent]]]
            assert jaccards[1 + fold, latent] == pair.all(axis=1).sum() / pair.any(axis=1).sum()


def test_neither_of_two_duplicates_is_distinct_and_nor_is_a_latent_that_differs_by_half():
    both = np.array([[4, 4, 0, 2], [4, 4, 0, 2], [0, 0, 3, 1], [2, 2, 1, 2]], np.int32)
    active = np.array([4, 4, 3, 2])
    result = twins.nearest("a", both, active, range(4))
    assert result.twin.tolist() == [1, 0, 3, 0]
    assert result.jaccard.tolist() == [1, 1, 0.25, 0.5]
    assert result.distinct.tolist() == [False, False, True, False]
