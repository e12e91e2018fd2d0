from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.maths import mispairing
from sparc.analyze.maths.mispairing import DRAWS
from sparc.analyze.metrics.agreement import sums

L, TOP, SEED = 10, 3, 42  # The first two are those of `measured`.


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
        known = [values[a, b, latent] for a, b in pairs if (a, b, latent) in values]
        by_latent.append(np.mean(known) if known else None)
    alive = [v for v in by_latent if v is not None]
    yield None, None, "all", L, sum(alive) / L
    yield None, None, "alive", len(alive), np.mean(alive) if alive else None
    for a, b in pairs:
        known = [values[a, b, latent] for latent in range(L) if (a, b, latent) in values]
        yield a, b, "all", L, sum(known) / L
        yield a, b, "alive", len(known), np.mean(known) if known else None


@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 25),
    joint=st.booleans(),
    at=st.lists(st.integers(1, 24), max_size=4),
)
def test_every_number_is_that_of_plain_loops(
    measured, random_codes, dense, split, make_labels, parents, seed, rows, joint, at
):
    generator = np.random.default_rng(seed)
    label_ids = [generator.integers(0, 12, generator.integers(0, 4)).tolist() for _ in range(rows)]
    label_ids[0] = [6, 6, 11]
    codes = random_codes(seed, rows=rows, latents=L, k=4, streams=["a", "b", "c"], joint=joint)
    arrays = {stream: dense(codes, stream, L) for stream in codes.streams}
    table = measured(split(codes, at), make_labels(label_ids, parents)).to_pylist()
    by_key = {
        (x["restriction"], x["depth"], x["first"], x["second"], x["averaged_over"]): x
        for x in table
    }
    assert len(by_key) == len(table) == 2 * 4 * 2 * 4
    for restriction, top in (("all_rows", 0), ("top_rows", TOP)):
        for depth in range(4):
            for first, second, over, count, value in expected_lines(
                arrays, label_ids, parents, depth, top
            ):
                line = by_key[restriction, depth, first, second, over]
                assert line["latents"] == count
                if value is None:
                    assert line["value"] is None
                else:
                    assert line["value"] == pytest.approx(value, abs=1e-12)


def test_chunks_do_not_change_a_bit(measured, random_codes, split, make_labels, parents):
    generator = np.random.default_rng(0)
    label_ids = [generator.integers(0, 12, 2).tolist() for _ in range(90)]
    labels = make_labels(label_ids, parents)
    codes = random_codes(3, rows=90, latents=L, k=4, streams=["a", "b", "c"])
    whole = measured([codes], labels, sample=np.arange(90))
    assert whole["value_low"].null_count == 0
    for at in ([1, 2, 3], [10, 20, 70], list(range(1, 90))):
        assert measured(split(codes, at), labels, sample=np.arange(90)).equals(whole)


def test_blocks_of_latents_do_not_change_a_figure(
    measured, random_codes, make_labels, parents, monkeypatch
):
    labels = make_labels([[r % 12, r % 5] for r in range(60)], parents)
    codes = random_codes(3, rows=60, latents=L, k=4, streams=["a", "b", "c"])
    whole = measured([codes], labels, sample=np.arange(60)).to_pylist()
    monkeypatch.setattr(sums, "_CELLS", 3 * 12)
    few = measured([codes], labels, sample=np.arange(60)).to_pylist()
    for actual, expected in zip(few, whole, strict=True):
        for name, value in expected.items():
            close = pytest.approx(value, abs=1e-6) if isinstance(value, float) else value
            assert actual[name] == close


def test_counts_beyond_16_bits(measured, make_labels):
    rows = 40_000
    values = {"a": np.ones((rows, 2), np.float32), "b": np.ones((rows, 2), np.float32)}
    values["a"][::2, 1] = 0
    indices = np.tile(np.arange(2, dtype=np.uint8), (rows, 1))
    codes = CodeRows(np.arange(rows), dict.fromkeys("ab", indices), values)
    table = measured([codes], make_labels([[0]] * rows, [None])).to_pylist()
    assert table[0]["restriction"] == "all_rows"
    assert table[0]["value"] == pytest.approx((1 + 1 / 2) / L)


def one(measured, latent_rows, label_ids, parents, make_labels):
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


def test_hand_made_counts(measured, make_labels, parents):
    # a: {6: 1, 8: 1}; b: {7: 1, 8: 1}. 6 and 7 meet in 2 at depth 2, and 8 in 0 at depth 1.
    actual = one(measured, ([0, 2], [1, 2]), [[6], [7], [8]], parents, make_labels)
    assert actual == {3: 1 / 3, 2: 1, 1: 1, 0: 1}


def test_two_classes_under_one_ancestor_count_twice(measured, make_labels, parents):
    # a: row 0 with classes 6 and 7; b: row 1 with class 6. At depth 2: 2 against 1.
    actual = one(measured, ([0], [1]), [[6, 7], [6]], parents, make_labels)
    assert actual == {3: 1 / 2, 2: 1 / 2, 1: 1 / 2, 0: 1 / 2}


def test_a_shallow_class_stays_itself_until_the_root(measured, make_labels, parents):
    actual = one(measured, ([0], [1]), [[11], [6]], parents, make_labels)
    assert actual == {3: 0, 2: 0, 1: 0, 0: 1}


def test_one_class(measured, make_labels):
    assert one(measured, ([0, 1], [1]), [[0], [0]], [None], make_labels) == {0: 1 / 2, 1: 1 / 2}


def test_a_latent_that_is_active_on_unlabelled_rows_only_is_dead(measured, make_labels, parents):
    actual = one(measured, ([0], [1]), [[6], []], parents, make_labels)
    assert actual == dict.fromkeys(range(4))


def test_one_stream_has_no_agreement(measured, random_codes, make_labels, parents):
    codes = random_codes(0, rows=4, latents=L, k=2, streams=["a"])
    assert len(measured([codes], make_labels([[1]] * 4, parents))) == 0


# ---------------------------------------------------------------------- latents paired at random


def masses(arrays, label_ids):
    """How many (row, class) pairs of labelled rows each latent has, by stream: plain loops."""
    return {
        stream: [
            sum(len(set(ids)) for ids, value in zip(label_ids, values[:, latent], strict=True)
                if value > 0)
            for latent in range(L)
        ]
        for stream, values in arrays.items()
    }  # fmt: skip


def pairing(arrays, label_ids, draw, most):
    """Which latents a draw takes, and the partner of each by pair of streams, as REPORT.md says."""
    mass = masses(arrays, label_ids)
    partner = {}
    for number, (a, b) in enumerate(combinations(arrays, 2)):
        generator = np.random.default_rng([SEED, draw, number])
        ties, choice = generator.random(L), generator.random(L)
        alive = [latent for latent in range(L) if mass[a][latent] and mass[b][latent]]
        ranked = sorted(alive, key=lambda latent, b=b, ties=ties: (mass[b][latent], ties[latent]))
        reach = max(5, len(ranked) // 100)
        for rank, latent in enumerate(ranked):
            others = [
                other
                for place, other in enumerate(ranked)
                if abs(place - rank) <= reach and other != latent
            ]
            if others:
                partner[a, b, latent] = others[int(choice[latent] * len(others))]
            else:
                partner[a, b, latent] = None
    shared = [n for n in range(L) if sum(mass[stream][n] > 0 for stream in arrays) > 1]
    order = np.random.default_rng([SEED, draw]).permutation(shared)
    return order[:most].tolist(), partner


def expected_by_chance(arrays, label_ids, parents, depth, top, most):
    """Mispaired agreement of every line, by draw: a list of the latents' values."""
    pairs, result = list(combinations(arrays, 2)), []
    for draw in range(DRAWS):
        taken, partner = pairing(arrays, label_ids, draw, most)
        values = {}
        for a, b in pairs:
            for latent in taken:
                other = partner.get((a, b, latent))
                if other is None:
                    continue
                two = np.zeros((len(label_ids), 2 * L))
                two[:, 0], two[:, L] = arrays[a][:, latent], arrays[b][:, other]
                halves = {a: two[:, :L], b: two[:, L:]}
                by_pair = brute_force(halves, label_ids, parents, depth, top)
                if (a, b, 0) in by_pair:
                    values[a, b, latent] = by_pair[a, b, 0]
        lonely = {(a, b) for (a, b, _), other in partner.items() if other is None}
        of_latents = [[values[a, b, n] for a, b in pairs if (a, b, n) in values] for n in range(L)]
        lines = [[] if lonely else [float(np.mean(v)) for v in of_latents if v]]
        for pair in pairs:
            of_pair = [v for (a, b, _), v in values.items() if (a, b) == pair]
            lines.append([] if pair in lonely else of_pair)
        result.append(lines)
    return result


def mean_or_nan(values):
    return np.mean(values) if len(values) else np.nan


@pytest.mark.parametrize(("seed", "rows", "most"), [(0, 24, 512), (1, 15, 4), (2, 5, 512)])
def test_mispaired_agreement_and_excess_are_those_of_plain_loops(
    measured, random_codes, dense, make_labels, parents, monkeypatch, seed, rows, most
):
    monkeypatch.setattr(mispairing, "_LATENTS", most)
    generator = np.random.default_rng(seed)
    label_ids = [generator.integers(0, 12, generator.integers(0, 4)).tolist() for _ in range(rows)]
    label_ids[0] = label_ids[-1] = [6, 6, 11]
    codes = random_codes(seed, rows=rows, latents=L, k=4, streams=["a", "b", "c"])
    arrays = {stream: dense(codes, stream, L) for stream in codes.streams}
    lines = iter(measured([codes], make_labels(label_ids, parents), seed=SEED).to_pylist())
    for top in (0, TOP):
        for depth in (3, 2, 1, 0):
            real = list(expected_lines(arrays, label_ids, parents, depth, top))
            draws = expected_by_chance(arrays, label_ids, parents, depth, top, most)
            for at, (*_, alive, value) in enumerate(real):
                by_draw = [mean_or_nan(of_draw[at // 2]) for of_draw in draws]
                if at % 2 == 0:  # over all latents: dead ones as 0
                    alive = real[at + 1][3]
                    by_draw = np.array(by_draw) * alive / L if alive else np.zeros(DRAWS)
                value = np.nan if value is None else value
                chance = np.mean(by_draw)
                expected = {
                    "mispaired": chance,
                    "mispaired_sd": np.std(by_draw, ddof=1),
                    "excess": (value - chance) / (1 - chance if chance < 1 else np.nan),
                }
                line = next(lines)
                for name, figure in expected.items():
                    assert (line[name] is None) == np.isnan(figure), (name, line)
                    assert line[name] is None or line[name] == pytest.approx(figure, abs=1e-12)
    assert next(lines, None) is None


def test_a_single_latent_has_no_other_to_be_paired_with(measured, make_labels):
    values = {s: np.array([[1.0, 0.0], [1.0, 0.0]], np.float32) for s in "ab"}
    indices = np.tile(np.arange(2, dtype=np.uint8), (2, 1))
    codes = CodeRows(np.arange(2), dict.fromkeys("ab", indices), values)
    table = measured([codes], make_labels([[0], [0]], [None])).to_pylist()
    assert {line["value"] for line in table} == {0.1, 1.0}
    assert {line["mispaired"] for line in table} == {line["excess"] for line in table} == {None}
