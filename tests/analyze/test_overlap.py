from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparc.analyze import latents, overlap
from sparc.analyze.codes import CodeRows, CodeSet

L, TOP = 10, 3


def both_tables(parts):
    counts = latents.merge([latents.measure(p, L, top=TOP) for p in parts], top=TOP)
    pairs = overlap.merge([overlap.measure(p, L) for p in parts])
    found = overlap.table(pairs, counts, CodeSet("joint"))
    return found, overlap.means(found, CodeSet("joint", "untrained"))


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
