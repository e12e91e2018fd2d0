from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparc.analyze.codes.code_rows import CodeRows, concatenate
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.maths.intervals import degrees_of_freedom, jackknife_share
from sparc.analyze.metrics import overlap
from sparc.analyze.rows import top_rows
from sparc.analyze.rows.folds import Folds, assign_folds, no_folds
from sparc.analyze.rows.images import Images

L, TOP = 10, 3


def both_tables(parts, folds=None):
    spare = top_rows.with_spare(TOP)
    streams = parts[0].streams
    lists = [
        top_rows.merge([top_rows.strongest(p, s, spare) for p in parts], spare) for s in streams
    ]
    pairs = overlap.merge([overlap.count_pairs(p, L) for p in parts])
    cut = [top_rows.cut(of_stream, TOP) for of_stream in lists]
    actual = overlap.table(pairs, streams, cut, CodeSet("joint"))
    codes = concatenate(parts)
    folds = folds or no_folds(len(codes.rows))
    fold_codes = codes.take(np.flatnonzero(folds.of_row[codes.rows]))
    code_set = CodeSet("joint", "untrained")
    means = overlap.means(
        pairs, streams, lists, code_set, length=TOP, folds=folds, fold_codes=fold_codes
    )
    return actual, means


def strongest(values):
    return {r for _, r in sorted((-v, r) for r, v in enumerate(values) if v > 0)[:TOP]}


@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 30),
    joint=st.booleans(),
    at=st.lists(st.integers(1, 29), max_size=4),
)
def test_every_number_is_that_of_plain_loops(random_codes, dense, split, seed, rows, joint, at):
    codes = random_codes(seed, rows=rows, latents=L, k=4, streams=["a", "b", "c"], joint=joint)
    table, means = both_tables(split(codes, at))
    arrays = {stream: dense(codes, stream, L) for stream in codes.streams}
    assert len(table) == 3 * L
    for line in table.to_pylist():
        a, b = (arrays[line[side]][:, line["latent"]] for side in ("first", "second"))
        both, either = int(((a > 0) & (b > 0)).sum()), int(((a > 0) | (b > 0)).sum())
        assert (line["rows_both"], line["rows_either"]) == (both, either)
        assert line["rows_jaccard"] == (both / either if either else None)
        top_a, top_b = strongest(a), strongest(b)
        longer = max(len(top_a), len(top_b))
        assert line["top_overlap"] == (len(top_a & top_b) / longer if longer else None)
        if (a > 0).any() and (b > 0).any() and a.std() > 0 and b.std() > 0:
            expected = np.corrcoef(a, b)[0, 1]
            assert line["correlation"] == pytest.approx(expected, abs=1e-9)
        else:
            assert line["correlation"] is None
    for line in means.to_pylist():
        values = [
            x[line["measure"]]
            for x in table.to_pylist()
            if (x["first"], x["second"]) == (line["first"], line["second"])
        ]
        known = [v for v in values if v is not None]
        assert line["latents"] == len(known)
        assert line["value"] == (pytest.approx(np.mean(known)) if known else None)


def disjoint_correlation(a, b):
    """The mean over latents of the correlation without a common row, of at least -1."""
    varies = (a.std(axis=0) > 0) & (b.std(axis=0) > 0)
    a, b = a[:, varies].astype(float), b[:, varies].astype(float)
    return np.maximum(-a.mean(axis=0) * b.mean(axis=0) / a.std(axis=0) / b.std(axis=0), -1).mean()


@pytest.mark.parametrize(("seed", "rows"), [(0, 60), (1, 17)])
def test_intervals_are_those_of_the_rows_outside_each_fold(random_codes, dense, split, seed, rows):
    codes = random_codes(seed, rows=rows, latents=L, k=4, streams=["a", "b", "c"])
    of_row = np.arange(rows) // 2
    folds = assign_folds(Images(of_row, np.ones(of_row[-1] + 1, bool)), 3)
    _, means = both_tables(split(codes, [7, 12]), folds)
    left = [codes] + [
        codes.take(np.flatnonzero(folds.of_row != g)) for g in range(1, 1 + folds.number)
    ]
    tables = [both_tables([c._replace(rows=np.arange(len(c.rows)))])[1].to_pylist() for c in left]
    arrays = [{s: dense(some, s, L) for s in codes.streams} for some in left]
    for position, line in enumerate(means.to_pylist()):
        values = np.array([table[position]["value"] for table in tables])
        trials, least, degrees = line["latents"], np.zeros(len(values)), None
        sides = [[streams[line[side]] for streams in arrays] for side in ("first", "second")]
        if line["measure"] == "top_overlap":
            lists = [[len(strongest(values)) for values in side[0].T] for side in sides]
            longer = np.max(lists, axis=0)
            trials = trials**2 / (1 / longer[longer > 0]).sum()
        if line["measure"] == "correlation":
            # Without a common row the mean of the products is 0.
            least = np.array([disjoint_correlation(*both) for both in zip(*sides, strict=True)])
            degrees = degrees_of_freedom(((values - least) / (1 - least))[1:])
        low, high = (
            least[0] + (1 - least[0]) * end
            for end in jackknife_share(
                (values - least) / (1 - least),
                folds.share,
                min(folds.images, max(1, trials)),
                degrees=degrees,
            )
        )
        assert line["value"] == pytest.approx(values[0])
        assert line["value_low"] == pytest.approx(low)
        assert line["value_high"] == pytest.approx(high)
        assert line["value_low"] < line["value"] < line["value_high"]


def test_pairs_are_in_the_order_of_the_streams(random_codes):
    codes = random_codes(1, rows=5, latents=L, k=2, streams=["z", "a", "m"])
    table, _ = both_tables([codes])
    pairs = dict.fromkeys((x["first"], x["second"]) for x in table.to_pylist())
    assert list(pairs) == list(combinations(["z", "a", "m"], 2))


def test_one_stream_has_no_pair(random_codes):
    table, means = both_tables([random_codes(1, rows=5, latents=L, k=2, streams=["a"])])
    assert len(table) == len(means) == 0


def test_equal_codes_overlap_fully(random_codes):
    codes = random_codes(2, rows=20, latents=L, k=4, streams=["a"])
    twice = CodeRows(
        codes.rows,
        {"a": codes.indices["a"], "b": codes.indices["a"]},
        {"a": codes.values["a"], "b": codes.values["a"]},
    )
    _, means = both_tables([twice])
    assert [x["value"] for x in means.to_pylist()] == pytest.approx([1, 1, 1])


@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(8, 30),
    joint=st.booleans(),
    at=st.lists(st.integers(1, 29), max_size=4),
)
def test_overlap_of_rows_is_that_of_plain_loops_with_and_without_each_fold(
    random_codes, dense, split, seed, rows, joint, at
):
    codes = random_codes(seed, rows=rows, latents=L, k=4, streams=["a", "b", "c"], joint=joint)
    codes.values["a"][0] = codes.values["b"][0] = codes.values["c"][1] = 0
    folds = Folds((1 + np.arange(rows) % 4).astype(np.uint8), 4, 0.25, rows)
    pairs = overlap.merge([overlap.count_pairs(part, L) for part in split(codes, at)])
    code_set = CodeSet("joint", "untrained")
    table = overlap.row_table(pairs, codes.streams, code_set, folds=folds, fold_codes=codes)
    arrays = {stream: dense(codes, stream, L) for stream in codes.streams}
    assert [(x["first"], x["second"]) for x in table.to_pylist()] == list(combinations("abc", 2))
    for line in table.to_pylist():
        values = np.full((rows, 2), np.nan)
        for row in range(rows):
            a, b = (arrays[line[side]][row] for side in ("first", "second"))
            if (a + b).any():
                length = np.linalg.norm(a) * np.linalg.norm(b)
                jaccard = ((a > 0) & (b > 0)).sum() / ((a > 0) | (b > 0)).sum()
                values[row] = jaccard, a @ b / length if length else 0
        assert line["rows"] == (~np.isnan(values[:, 0])).sum()
        without = [values] + [values[np.arange(rows) % 4 != fold] for fold in range(4)]
        means = np.stack([np.nanmean(some, axis=0) for some in without])
        interval = jackknife_share(means, 0.25, line["rows"])
        for column, name in enumerate(("jaccard", "cosine")):
            assert line[name] == pytest.approx(means[0, column])
            assert line[f"{name}_low"] == pytest.approx(interval.low[column], abs=1e-6)
            assert line[f"{name}_high"] == pytest.approx(interval.high[column], abs=1e-6)


def test_rows_on_which_no_stream_is_active_say_nothing():
    """No common latent on 40 of 400 rows: the interval is that of 40 images, not of 400."""
    active = np.arange(400) < 40
    values = {
        stream: np.where(active[:, None], weights, 0).astype(np.float32)
        for stream, weights in (("a", [1.0, 0.0]), ("b", [0.0, 1.0]))
    }
    indices = np.tile(np.arange(2, dtype=np.uint8), (400, 1))
    codes = CodeRows(np.arange(400), dict.fromkeys(values, indices), values)
    folds = Folds((1 + np.arange(400) % 4).astype(np.uint8), 4, 0.25, 400)
    pairs = overlap.count_pairs(codes, 2)
    code_set = CodeSet("independent")
    table = overlap.row_table(pairs, ["a", "b"], code_set, folds=folds, fold_codes=codes)
    (line,) = table.to_pylist()
    assert (line["rows"], line["jaccard"], line["jaccard_low"]) == (40, 0, 0)
    assert line["jaccard_high"] == pytest.approx(1 - 0.05 ** (1 / 40), rel=1e-3)
