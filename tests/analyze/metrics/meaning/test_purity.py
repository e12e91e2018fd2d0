"""Purity against plain loops over rows, and on hand-made rows."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparc.analyze.codes.code_rows import CodeRows, concatenate
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.maths.intervals import jackknife
from sparc.analyze.metrics.meaning import purity, row_counts
from sparc.analyze.rows import top_rows
from sparc.analyze.rows.folds import assign_folds, no_folds
from sparc.analyze.rows.images import Images

CODE_SET = CodeSet("independent")


def ancestors(class_id, parents):
    chain = [class_id]
    while parents[chain[0]] is not None:
        chain.insert(0, parents[chain[0]])
    return chain


def carried_at(label_ids, parents, depth):
    """The classes that a row carries at a depth."""
    chains = [ancestors(c, parents) for c in label_ids]
    return {chain[min(depth, len(chain)) - 1] for chain in chains}


def strongest(values, rows, top):
    """The rows on which a latent is active, or the strongest of them."""
    active = [r for r in rows if values[r] > 0]
    return sorted(active, key=lambda r: (-values[r], r))[:top] if top else active


def tabulate(parts, labels, valid, latents, top, folds=None):
    folds = folds or no_folds(len(valid))

    counts = row_counts.merge(
        [row_counts.count_rows(p, labels.at_every_depth(p.rows), latents) for p in parts]
    )

    whole = concatenate([part.take(labels.labelled[part.rows]) for part in parts])
    spare = top_rows.with_spare(top)
    fold_codes = whole.take(np.flatnonzero(folds.of_row[whole.rows]))
    active = {
        stream: purity.active_rows(
            top_rows.strongest(whole, stream, spare), fold_codes, stream, folds,
            top=top, shape=(latents, len(valid)),
        )
        for stream in whole.streams
    }  # fmt: skip
    return purity.tables(
        lambda depth: counts.at_depth(labels, depth), active, labels, valid, CODE_SET, folds.share
    )


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), at=st.lists(st.integers(1, 29)))
def test_every_number_is_that_of_plain_loops(
    random_codes, dense, split, make_labels, parents, seed, at
):
    generator = np.random.default_rng(seed)
    rows, latents, top = 30, 10, 3
    label_ids = [generator.integers(0, len(parents), r % 4).tolist() for r in range(rows)]
    labels = make_labels(label_ids, parents)
    valid = generator.random(rows) < 0.8
    valid[[1, 2]] = True  # labelled
    codes = random_codes(seed, rows=rows, latents=latents, k=3, streams="ab")
    parts = [p.take(np.flatnonzero(valid[p.rows])) for p in split(codes, at)]
    actual = tabulate(parts, labels, valid, latents, top).purity.to_pylist()
    assert len(actual) == 2 * 3 * 2 * latents

    labelled = [r for r in range(rows) if valid[r] and label_ids[r]]
    for line in actual:
        values = dense(codes, line["stream"], latents)[:, line["latent"]]
        active = strongest(values, labelled, top if line["restriction"] == "top_rows" else 0)
        assert line["rows"] == len(active)
        if not active:
            assert line["rows_class"] == 0
            assert [line[c] for c in ("class_id", "purity", "base_rate", "lift")] == [None] * 4
            continue
        overall, inside = (
            Counter(c for r in those for c in carried_at(label_ids[r], parents, line["depth"]))
            for those in (labelled, active)
        )
        most = max(inside.values())
        rarest = min(overall[c] for c, n in inside.items() if n == most)
        assert inside[line["class_id"]] == line["rows_class"] == most
        assert overall[line["class_id"]] == rarest
        assert line["purity"] == pytest.approx(most / len(active))
        assert line["base_rate"] == pytest.approx(rarest / len(labelled))
        assert line["lift"] == pytest.approx(line["purity"] / line["base_rate"])


def test_a_pure_latent_a_mixed_one_and_a_dead_one(make_labels):
    """Rows 0 to 3 are cats (class 1, below animal 0), rows 4 to 7 dogs (2), rows 8 to 9 cars (3).
    Latent 0 knows cats, latent 1 animals, most strongly dogs; nothing makes latent 2 active."""
    labels = make_labels([[1]] * 4 + [[2, 1]] + [[2]] * 3 + [[3]] * 2 + [[]], [None, 0, 0, None])
    values = np.zeros((11, 3), np.float32)
    values[:4, 0] = 1
    values[:8, 1] = [1] * 4 + [3] * 4
    values[10, :] = 9  # a row without a label
    indices = np.tile(np.arange(3, dtype=np.uint8), (11, 1))
    codes = CodeRows(np.arange(11), {"a": indices}, {"a": values})
    table, means = tabulate([codes], labels, np.ones(11, np.bool_), 3, top=4)
    actual = {
        (x["restriction"], x["depth"], x["latent"]): (
            x["class_id"], x["rows"], x["rows_class"], x["purity"], x["base_rate"]
        )
        for x in table.to_pylist()
    }  # fmt: skip
    assert actual["all_rows", 2, 0] == (1, 4, 4, 1, 0.5)
    assert actual["all_rows", 1, 0] == (0, 4, 4, 1, 0.8)
    # Row 4 has a cat and a dog: five cats and four dogs, but animals only once each.
    assert actual["all_rows", 2, 1] == (1, 8, 5, 5 / 8, 0.5)
    assert actual["all_rows", 1, 1] == (0, 8, 8, 1, 0.8)
    assert actual["top_rows", 2, 1] == (2, 4, 4, 1, 0.4)
    assert actual["all_rows", 2, 2] == actual["top_rows", 1, 2] == (None, 0, 0, None, None)
    lines = means.to_pylist()
    means = {
        (x["restriction"], x["depth"]): (x["latents"], x["purity"], x["base_rate"]) for x in lines
    }
    assert means["all_rows", 2] == (2, pytest.approx(13 / 16), 0.5)
    assert means["top_rows", 1] == (2, 1, 0.8)
    # Without folds there are no intervals.
    assert {x[end] for x in lines for end in ("purity_low", "purity_high")} == {None}


@settings(max_examples=15)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(3, 78),
    cells=st.sampled_from([1, 40, 1 << 22]),
    at=st.lists(st.integers(1, 77), max_size=3),
)
def test_intervals_are_those_of_plain_loops_that_leave_images_out(
    random_codes, dense, split, make_labels, parents, seed, rows, cells, at
):
    """Two rows per image; lists of the strongest rows are made again from the remaining rows."""
    generator = np.random.default_rng(seed)
    latents, top = 10, 3
    label_ids = [generator.integers(0, len(parents), r % 4).tolist() for r in range(rows)]
    labels = make_labels(label_ids, parents)
    valid = generator.random(rows) < 0.8
    valid[:3] = True
    of_row = np.arange(rows) // 2
    folds = assign_folds(Images(of_row, np.isin(np.arange(of_row[-1] + 1), of_row[valid])), seed)
    codes = random_codes(seed, rows=rows, latents=latents, k=2, streams="ab")
    parts = [p.take(np.flatnonzero(valid[p.rows])) for p in split(codes, at)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(purity, "_CELLS", cells)
        means = tabulate(parts, labels, valid, latents, top, folds).means.to_pylist()
    arrays = {stream: dense(codes, stream, latents) for stream in "ab"}
    order = [
        (stream, restriction, depth)
        for stream in "ab"
        for depth in (1, 2, 3)
        for restriction in ("all_rows", "top_rows")
    ]
    assert [(x["stream"], x["restriction"], x["depth"]) for x in means] == order
    for line in means:
        figures = []
        for fold in range(1 + folds.number):
            left = [
                r
                for r in np.flatnonzero(valid)
                if label_ids[r] and not (fold and folds.of_row[r] == fold)
            ]
            results = []
            for values in arrays[line["stream"]].T:
                active = strongest(values, left, top if line["restriction"] == "top_rows" else 0)
                carried = [carried_at(label_ids[r], parents, line["depth"]) for r in active]
                if active:
                    results.append(
                        max(Counter(c for s in carried for c in s).values()) / len(active)
                    )
            figures.append(np.mean(results) if results else np.nan)
        interval = jackknife(np.array(figures), folds.share, least=0, most=1)
        assert line["purity"] == pytest.approx(figures[0], nan_ok=True)
        for name, end in zip(("purity_low", "purity_high"), interval, strict=True):
            assert line[name] == (None if np.isnan(end) else pytest.approx(float(end), abs=1e-9))


def test_a_latent_that_only_one_image_activates_is_left_out_with_it(make_labels):
    """Latent 0 is active on cats (class 0) and two dogs; latent 1 only on the last image, which
    is in a fold of its own: what is left without it is the purity of latent 0."""
    images = 12
    labels = make_labels([[0]] * 10 + [[1]] * 2, [None, None])
    values = np.zeros((images, 2), np.float32)
    values[:, 0] = np.arange(images, 0, -1)
    values[-1, 1] = 1
    indices = np.tile(np.arange(2, dtype=np.uint8), (images, 1))
    codes = CodeRows(np.arange(images), {"a": indices}, {"a": values})
    every = np.ones(images, np.bool_)
    folds = assign_folds(Images(np.arange(images), every), 0)
    line, top = tabulate([codes], labels, every, 2, 3, folds).means.to_pylist()
    without = [(9 / 11 + 1) / 2] * 10 + [(10 / 11 + 1) / 2, 10 / 11]
    interval = jackknife(np.array([(10 / 12 + 1) / 2, *without]), 1 / 12, most=1)
    assert line["purity"] == pytest.approx((10 / 12 + 1) / 2)
    assert line["purity_low"] == pytest.approx(float(interval.low))
    assert line["purity_high"] == pytest.approx(float(interval.high))
    # The strongest rows are all cats, without any image.
    assert [top[name] for name in ("purity_low", "purity", "purity_high")] == [1, 1, 1]


def test_chunks_and_blocks_do_not_change_a_bit(
    random_codes, split, make_labels, parents, monkeypatch
):
    labels = make_labels([[r % 12, r % 5] for r in range(60)], parents)
    codes = random_codes(3, rows=60, latents=10, k=4, streams="ab")
    every = np.ones(60, np.bool_)
    folds = assign_folds(Images(np.arange(60), every), 0)
    whole = tabulate([codes], labels, every, 10, 3, folds)
    assert whole.means["purity_low"].null_count == 0
    monkeypatch.setattr(purity, "_CELLS", 3 * 12)
    for at in ([1, 2, 3], [10, 20, 50]):
        actual = tabulate(split(codes, at), labels, every, 10, 3, folds)
        assert actual.purity.equals(whole.purity)
        assert actual.means.equals(whole.means)
