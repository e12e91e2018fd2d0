from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sparc.analyze.codes.code_rows import CodeRows, concatenate
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.maths import half_samples, mispairing
from sparc.analyze.maths.mispairing import DRAWS
from sparc.analyze.metrics import agreement, agreement_sums
from sparc.analyze.rows import top_rows
from sparc.analyze.rows.folds import assign_folds, no_folds
from sparc.analyze.rows.images import Images

L, TOP, SEED = 10, 3, 42


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


def measured(parts, labels, control="none", folds=None):
    spare = top_rows.with_spare(TOP)
    counts = agreement.merge([agreement.count_classes(part, labels, L) for part in parts])
    lists = []
    for stream in counts.streams:
        strongest = [
            top_rows.strongest(part, stream, spare, labels.labelled[part.rows]) for part in parts
        ]
        lists.append(top_rows.marked(top_rows.merge(strongest, spare), spare))
    folds = folds or no_folds(labels.matrix.shape[0])
    codes = concatenate(parts)
    fold_codes = codes.take(np.flatnonzero(folds.of_row[codes.rows]))
    return agreement.table(
        counts,
        lists,
        labels,
        CodeSet("joint", control),
        top=TOP,
        folds=folds,
        fold_codes=fold_codes,
        seed=SEED,
    )


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


def two_rows_per_image(random_codes, seed, rows):
    """Labels, codes and folds of rows that are labelled at random."""
    generator = np.random.default_rng(seed)
    label_ids = [generator.integers(0, 12, generator.integers(0, 4)).tolist() for _ in range(rows)]
    label_ids[0] = label_ids[-1] = [6, 6, 11]
    codes = random_codes(seed, rows=rows, latents=L, k=4, streams=["a", "b", "c"])
    of_row = np.arange(rows) // 2
    return label_ids, codes, assign_folds(Images(of_row, np.ones(of_row[-1] + 1, bool)), 3)


@pytest.mark.parametrize(("seed", "rows"), [(0, 31), (1, 70), (2, 4)])
def test_intervals_are_those_of_plain_loops_that_leave_images_out(
    random_codes, dense, make_labels, parents, seed, rows
):
    """Two rows per image; lists of the strongest rows are made again from the remaining rows."""
    label_ids, codes, folds = two_rows_per_image(random_codes, seed, rows)
    arrays = {stream: dense(codes, stream, L) for stream in codes.streams}
    assert folds.number == min(20, (rows + 1) // 2)
    table = measured([codes], make_labels(label_ids, parents), folds=folds).to_pylist()
    lines = iter(table)
    samples = half_samples.design() if folds.number >= half_samples.FOLDS else []
    for top in (0, TOP):
        for depth in (3, 2, 1, 0):
            results = []
            of_samples = [
                [
                    value
                    for *_, value in expected_lines(
                        arrays,
                        [
                            ids if 0 < fold <= 16 and sample[fold - 1] else []
                            for ids, fold in zip(label_ids, folds.of_row, strict=True)
                        ],
                        parents,
                        depth,
                        top,
                    )
                ]
                for sample in samples
            ]
            for fold in range(1 + folds.number):
                left = [
                    ids if not fold or folds.of_row[row] != fold else []
                    for row, ids in enumerate(label_ids)
                ]
                results.append(list(expected_lines(arrays, left, parents, depth, top)))
            for number, of_line in enumerate(zip(*results, strict=True)):
                line = next(lines)
                assert (line["first"], line["second"], line["averaged_over"]) == of_line[0][:3]
                values = [value for *_, value in of_line]
                if None in values:
                    assert line["value_low"] is line["value_high"] is None
                    continue
                share = folds.share
                squares = sum((v - np.mean(values[1:])) ** 2 for v in values[1:])
                error = np.sqrt((1 - share) ** 2 / share / (folds.number - 1) * squares)
                margin = stats.t.ppf(0.975, folds.number - 1) * error
                if len(samples) and not top:
                    figures = np.array([values[number] for values in of_samples], float)
                    margin *= half_samples.narrowing(figures, values[1:17], share)
                assert line["value"] == pytest.approx(values[0])
                assert line["value_low"] == pytest.approx(max(0, values[0] - margin))
                assert line["value_high"] == pytest.approx(min(1, values[0] + margin))
    assert next(lines, None) is None


def test_chunks_do_not_change_a_bit(random_codes, split, make_labels, parents):
    generator = np.random.default_rng(0)
    label_ids = [generator.integers(0, 12, 2).tolist() for _ in range(90)]
    labels = make_labels(label_ids, parents)
    codes = random_codes(3, rows=90, latents=L, k=4, streams=["a", "b", "c"])
    folds = assign_folds(Images(np.arange(90), np.ones(90, bool)), 0)
    whole = measured([codes], labels, folds=folds)
    assert whole["value_low"].null_count == 0
    for at in ([1, 2, 3], [10, 20, 70], list(range(1, 90))):
        assert measured(split(codes, at), labels, folds=folds).equals(whole)


def test_blocks_of_latents_do_not_change_a_figure(random_codes, make_labels, parents, monkeypatch):
    labels = make_labels([[r % 12, r % 5] for r in range(60)], parents)
    codes = random_codes(3, rows=60, latents=L, k=4, streams=["a", "b", "c"])
    folds = assign_folds(Images(np.arange(60), np.ones(60, bool)), 0)
    whole = measured([codes], labels, folds=folds).to_pylist()
    monkeypatch.setattr(agreement_sums, "_CELLS", 3 * 12)
    few = measured([codes], labels, folds=folds).to_pylist()
    for actual, expected in zip(few, whole, strict=True):
        for name, value in expected.items():
            assert actual[name] == (pytest.approx(value) if isinstance(value, float) else value)


def test_counts_beyond_16_bits(make_labels):
    rows = 40_000
    values = {"a": np.ones((rows, 2), np.float32), "b": np.ones((rows, 2), np.float32)}
    values["a"][::2, 1] = 0
    indices = np.tile(np.arange(2, dtype=np.uint8), (rows, 1))
    codes = CodeRows(np.arange(rows), dict.fromkeys("ab", indices), values)
    table = measured([codes], make_labels([[0]] * rows, [None])).to_pylist()
    assert table[0]["restriction"] == "all_rows"
    assert table[0]["value"] == pytest.approx((1 + 1 / 2) / L)


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
    actual = one(([0, 2], [1, 2]), [[6], [7], [8]], parents, make_labels)
    assert actual == {3: 1 / 3, 2: 1, 1: 1, 0: 1}


def test_two_classes_under_one_ancestor_count_twice(make_labels, parents):
    # a: row 0 with classes 6 and 7; b: row 1 with class 6. At depth 2: 2 against 1.
    actual = one(([0], [1]), [[6, 7], [6]], parents, make_labels)
    assert actual == {3: 1 / 2, 2: 1 / 2, 1: 1 / 2, 0: 1 / 2}


def test_a_shallow_class_stays_itself_until_the_root(make_labels, parents):
    actual = one(([0], [1]), [[11], [6]], parents, make_labels)
    assert actual == {3: 0, 2: 0, 1: 0, 0: 1}


def test_one_class(make_labels):
    assert one(([0, 1], [1]), [[0], [0]], [None], make_labels) == {0: 1 / 2, 1: 1 / 2}


def test_a_latent_that_is_active_on_unlabelled_rows_only_is_dead(make_labels, parents):
    actual = one(([0], [1]), [[6], []], parents, make_labels)
    assert actual == dict.fromkeys(range(4))


def test_one_stream_has_no_agreement(random_codes, make_labels, parents):
    codes = random_codes(0, rows=4, latents=L, k=2, streams=["a"])
    assert len(measured([codes], make_labels([[1]] * 4, parents))) == 0


@pytest.mark.parametrize("captions", [1, 4])
def test_intervals_have_their_coverage(make_labels, captions):
    """Sets drawn from one world, in which latents have classes that they prefer in each stream.

    The truth is the mean figure over all sets. Intervals half as wide hold it in about 80% of them,
    and so do intervals that count the equal rows of one image four times.
    """
    generator = np.random.default_rng(0)
    images, classes, streams, sets = 150, 8, ("a", "b", "c"), 100
    prefers = generator.random((L, classes)) < 0.3
    own = generator.random((len(streams), L, classes)) < 0.15
    chance = 0.05 + 0.4 * prefers + 0.3 * own
    folds = assign_folds(Images(np.repeat(np.arange(images), captions), np.ones(images, bool)), 0)
    results = []
    for _ in range(sets):
        of_image = generator.integers(0, classes, images)
        labels = make_labels([[c] for c in of_image.repeat(captions)], [None] * classes)
        drawn = generator.random((images, L))  # in part the same in all streams
        values = {}
        for position, stream in enumerate(streams):
            fresh = generator.random((images, L))
            used = np.where(generator.random((images, L)) < 0.5, drawn, fresh)
            active = used < chance[position][:, of_image].T
            values[stream] = active.astype(np.float32).repeat(captions, axis=0)
        indices = np.tile(np.arange(L, dtype=np.uint8), (images * captions, 1))
        codes = CodeRows(np.arange(len(indices)), dict.fromkeys(streams, indices), values)
        table = measured([codes], labels, folds=folds)
        results.append([table[name].to_numpy() for name in ("value", "value_low", "value_high")])
    of_all = [i for i, name in enumerate(table["restriction"].to_pylist()) if name == "all_rows"]
    value, low, high = np.moveaxis(np.array(results)[..., of_all], 1, 0)
    truth = value.mean(axis=0)
    assert (((low <= truth) & (truth <= high)).mean(axis=0) >= 0.9).all()
    # Nor are they much wider than necessary.
    needed = 2 * stats.t.ppf(0.975, 19) * value.std(axis=0)
    assert ((high - low).mean(axis=0) < 1.6 * needed).all()


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


def expected_by_chance(arrays, label_ids, left, parents, depth, top, most):
    """Mispaired agreement of every line, by draw: on the rows whose labels are `left`."""
    pairs, result = list(combinations(arrays, 2)), []
    for draw in range(DRAWS):
        taken, partner = pairing(arrays, label_ids, draw, most)
        values = {}
        for a, b in pairs:
            for latent in taken:
                other = partner.get((a, b, latent))
                if other is None:
                    continue
                two = np.zeros((len(left), 2 * L))
                two[:, 0], two[:, L] = arrays[a][:, latent], arrays[b][:, other]
                by_pair = brute_force({a: two[:, :L], b: two[:, L:]}, left, parents, depth, top)
                if (a, b, 0) in by_pair:
                    values[a, b, latent] = by_pair[a, b, 0]
        lonely = {
            pair for (*pair, _), other in partner.items() if other is None for pair in [tuple(pair)]
        }
        of_latents = [[values[a, b, n] for a, b in pairs if (a, b, n) in values] for n in range(L)]
        means = [float(np.mean(v)) for v in of_latents if v]
        lines = [[] if lonely else means]
        for pair in pairs:
            of_pair = [v for (a, b, _), v in values.items() if (a, b) == pair]
            lines.append([] if pair in lonely else of_pair)
        result.append(lines)
    return result


def mean_or_nan(values):
    return np.mean(values) if len(values) else np.nan


@pytest.mark.parametrize(("seed", "rows", "most"), [(0, 24, 512), (1, 15, 4), (2, 5, 512)])
def test_mispaired_agreement_and_excess_are_those_of_plain_loops(
    random_codes, dense, make_labels, parents, monkeypatch, seed, rows, most
):
    monkeypatch.setattr(mispairing, "_LATENTS", most)
    label_ids, codes, folds = two_rows_per_image(random_codes, seed, rows)
    arrays = {stream: dense(codes, stream, L) for stream in codes.streams}
    lines = iter(measured([codes], make_labels(label_ids, parents), folds=folds).to_pylist())
    for top in (0, TOP):
        for depth in (3, 2, 1, 0):
            chances, excesses, spreads = [], [], []
            for fold in range(1 + folds.number):
                left = [
                    ids if not fold or folds.of_row[row] != fold else []
                    for row, ids in enumerate(label_ids)
                ]
                real = list(expected_lines(arrays, left, parents, depth, top))
                draws = expected_by_chance(arrays, label_ids, left, parents, depth, top, most)
                for at, (*_, alive, value) in enumerate(real):
                    by_draw = [lines[at // 2] for lines in draws]
                    chance = np.mean([mean_or_nan(values) for values in by_draw])
                    sd = np.std([mean_or_nan(values) for values in by_draw], ddof=1)
                    if at % 2 == 0:  # over all latents: dead ones as 0
                        alive = real[at + 1][3]
                        chance = chance * alive / L if alive else 0
                        sd = sd * alive / L if alive else 0
                    value = np.nan if value is None else value
                    errors = np.sqrt(np.mean([*map(len, by_draw)]) / (alive or np.nan) + 1 / DRAWS)
                    chances.append(chance)
                    spreads.append((sd, errors))
                    excesses.append((value - chance) / (1 - chance if chance < 1 else np.nan))
            for at in range(len(real)):
                line = next(lines)
                (sd, errors), chance = spreads[at], chances[at]
                of_folds = excesses[at :: len(real)]
                same = {"mispaired": chance, "mispaired_sd": sd, "excess": excesses[at]}
                for name, value in same.items():
                    assert (line[name] is None) == np.isnan(value), (name, line)
                    assert line[name] is None or line[name] == pytest.approx(value, abs=1e-12)
                if np.isnan(of_folds).any():
                    assert line["excess_low"] is line["excess_high"] is None
                    continue
                margin = np.hypot(
                    stats.t.ppf(0.975, folds.number - 1)
                    * (1 - folds.share)
                    * np.sqrt(np.var(of_folds[1:], ddof=1) / folds.share),
                    stats.t.ppf(0.975, DRAWS - 1) * sd * errors / (1 - chance),
                )
                assert line["excess_low"] == pytest.approx(excesses[at] - margin)
                assert line["excess_high"] == pytest.approx(min(1, excesses[at] + margin))
    assert next(lines, None) is None


def test_a_single_latent_has_no_other_to_be_paired_with(make_labels):
    values = {s: np.array([[1.0, 0.0], [1.0, 0.0]], np.float32) for s in "ab"}
    indices = np.tile(np.arange(2, dtype=np.uint8), (2, 1))
    codes = CodeRows(np.arange(2), dict.fromkeys("ab", indices), values)
    table = measured([codes], make_labels([[0], [0]], [None])).to_pylist()
    assert {line["value"] for line in table} == {0.1, 1.0}
    assert {line["mispaired"] for line in table} == {line["excess"] for line in table} == {None}
