from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparc.analyze import agreement
from sparc.analyze.codes import CodeRows, CodeSet

L, TOP = 10, 3


def lift(parents, class_id, depth):
    """A class's ancestor at a depth; None is the virtual root. More than one root here."""
    if depth == 0:
        return None
    chain = [class_id]
    while parents[chain[-1]] is not None:
        chain.append(parents[chain[-1]])
    return chain[::-1][min(depth, len(chain)) - 1]


def brute_force(arrays, label_ids, parents, depth, top):
    """Agreement by latent and pair, and which streams are alive, by plain loops."""
    streams = list(arrays)
    labelled = [r for r, ids in enumerate(label_ids) if ids]
    values, alive = {}, {}
    for latent in range(L):
        counts = {}
        for stream in streams:
            column = arrays[stream][:, latent]
            rows = [r for r in labelled if column[r] > 0]
            if top:
                rows = sorted(rows, key=lambda r: (-column[r], r))[:top]
            alive[stream, latent] = bool(rows)
            counts[stream] = {}
            for row in rows:
                for class_id in set(label_ids[row]):
                    stand_in = lift(parents, class_id, depth)
                    counts[stream][stand_in] = counts[stream].get(stand_in, 0) + 1
        for a, b in combinations(streams, 2):
            if alive[a, latent] and alive[b, latent]:
                keys = {*counts[a], *counts[b]}
                pairs = [(counts[a].get(c, 0), counts[b].get(c, 0)) for c in keys]
                values[a, b, latent] = sum(map(min, pairs)) / sum(map(max, pairs))
    return values


def expected_lines(arrays, label_ids, parents, depth, top):
    values = brute_force(arrays, label_ids, parents, depth, top)
    pairs = list(combinations(arrays, 2))
    by_latent = []
    for latent in range(L):
        found = [values[a, b, latent] for a, b in pairs if (a, b, latent) in values]
        by_latent.append(np.mean(found) if found else None)
    alive = [v for v in by_latent if v is not None]
    yield None, None, "all", L, sum(alive) / L
    yield None, None, "alive", len(alive), np.mean(alive) if alive else None
    for a, b in pairs:
        found = [values[a, b, latent] for latent in range(L) if (a, b, latent) in values]
        yield a, b, "all", L, sum(found) / L
        yield a, b, "alive", len(found), np.mean(found) if found else None


def measured(parts, labels, control="none"):
    counts = agreement.merge(
        [agreement.measure(part, labels, L, top=TOP) for part in parts], top=TOP
    )
    return agreement.table(counts, labels, CodeSet("joint", control))


@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 25),
    joint=st.booleans(),
    at=st.lists(st.integers(1, 24), max_size=4),
)
def test_every_number_is_that_of_plain_loops(
    random_codes, dense, split, make_labels, parents, seed, rows, joint, at
):
    generator = np.random.default_rng(seed)
    label_ids = [generator.integers(0, 12, generator.integers(0, 4)).tolist() for _ in range(rows)]
    label_ids[0] = [6, 6, 11]
    codes = random_codes(seed, rows=rows, latents=L, k=4, streams=["a", "b", "c"], joint=joint)
    arrays = {stream: dense(codes, stream, L) for stream in codes.streams}
    table = measured(split(codes, at), make_labels(label_ids, parents)).to_pylist()
    found = {
        (x["restriction"], x["depth"], x["first"], x["second"], x["averaged_over"]): x
        for x in table
    }
    assert len(found) == len(table) == 2 * 4 * 2 * 4
    for restriction, top in (("all_rows", 0), ("top_rows", TOP)):
        for depth in range(4):
            for first, second, over, count, value in expected_lines(
                arrays, label_ids, parents, depth, top
            ):
                line = found[restriction, depth, first, second, over]
                assert line["latents"] == count
                if value is None:
                    assert line["value"] is None
                else:
                    assert line["value"] == pytest.approx(value, abs=1e-12)


def test_chunks_do_not_change_a_bit(random_codes, split, make_labels, parents):
    generator = np.random.default_rng(0)
    label_ids = [generator.integers(0, 12, 2).tolist() for _ in range(90)]
    labels = make_labels(label_ids, parents)
    codes = random_codes(3, rows=90, latents=L, k=4, streams=["a", "b", "c"])
    whole = measured([codes], labels)
    for at in ([1, 2, 3], [10, 20, 70], list(range(1, 90))):
        assert measured(split(codes, at), labels).equals(whole)


def one(latent_rows, label_ids, parents, make_labels):
    """Agreement of two streams in latent 0, given on which rows it is active in each."""
    rows = len(label_ids)
    values = {
        s: np.array([[float(r in active)] for r in range(rows)], np.float32)
        for s, active in zip("ab", latent_rows, strict=True)
    }
    codes = CodeRows(np.arange(rows), dict.fromkeys("ab", np.zeros((rows, 1), np.uint8)), values)
    table = measured([codes], make_labels(label_ids, parents)).to_pylist()
    return {
        x["depth"]: x["value"]
        for x in table
        if x["first"] is None and x["restriction"] == "all_rows" and x["averaged_over"] == "alive"
    }


def test_hand_made_counts(make_labels, parents):
    # a: {6: 1, 8: 1}; b: {7: 1, 8: 1}. 6 and 7 meet in 2 at depth 2, and 8 in 0 at depth 1.
    found = one(([0, 2], [1, 2]), [[6], [7], [8]], parents, make_labels)
    assert found == {3: 1 / 3, 2: 1, 1: 1, 0: 1}


def test_two_classes_under_one_ancestor_count_twice(make_labels, parents):
    # a: row 0 with classes 6 and 7; b: row 1 with class 6. At depth 2: 2 against 1.
    found = one(([0], [1]), [[6, 7], [6]], parents, make_labels)
    assert found == {3: 1 / 2, 2: 1 / 2, 1: 1 / 2, 0: 1 / 2}


def test_a_shallow_class_stays_itself_until_the_root(make_labels, parents):
    found = one(([0], [1]), [[11], [6]], parents, make_labels)
    assert found == {3: 0, 2: 0, 1: 0, 0: 1}


def test_one_class(make_labels):
    assert one(([0, 1], [1]), [[0], [0]], [None], make_labels) == {0: 1 / 2, 1: 1 / 2}


def test_a_latent_that_is_active_on_unlabelled_rows_only_is_dead(make_labels, parents):
    found = one(([0], [1]), [[6], []], parents, make_labels)
    assert found == dict.fromkeys(range(4))


def test_one_stream_has_no_agreement(random_codes, make_labels, parents):
    codes = random_codes(0, rows=4, latents=L, k=2, streams=["a"])
    assert len(measured([codes], make_labels([[1]] * 4, parents))) == 0
