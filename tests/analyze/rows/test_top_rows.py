import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.rows import top_rows
from sparc.analyze.rows.folds import Folds


def brute_force(codes, stream, length):
    """By latent: its rows by descending value, ties by row."""
    lists = {}
    for row, indices, values in zip(
        codes.rows, codes.indices[stream], codes.values[stream], strict=True
    ):
        for index, value in zip(indices, values, strict=True):
            if value > 0:
                lists.setdefault(int(index), []).append((-float(value), int(row)))
    return {latent: sorted(entries)[:length] for latent, entries in lists.items() if length}


def as_lists(top):
    lists = {}
    for latent, row, value in zip(top.latents, top.rows, top.values, strict=True):
        lists.setdefault(int(latent), []).append((-float(value), int(row)))
    return lists


@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 40),
    length=st.integers(0, 6),
    at=st.lists(st.integers(1, 39), max_size=5),
)
def test_lists_are_those_of_sorting_everything(random_codes, split, seed, rows, length, at):
    codes = random_codes(seed, rows=rows, latents=12, k=4, streams=["a"])
    parts = [top_rows.strongest(part, "a", length) for part in split(codes, at)]
    assert as_lists(top_rows.merge(parts, length)) == brute_force(codes, "a", length)


@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 40),
    length=st.integers(1, 6),
    at=st.lists(st.integers(1, 39), max_size=5),
    share=st.floats(0, 1),
)
def test_marked_rows_have_their_own_lists(random_codes, split, seed, rows, length, at, share):
    codes = random_codes(seed, rows=rows, latents=12, k=4, streams=["a"])
    marked = np.random.default_rng(seed).random(rows) < share
    of_row = dict(zip(codes.rows.tolist(), marked.tolist(), strict=True))

    def measured(part):
        return top_rows.strongest(part, "a", length, np.array([of_row[r] for r in part.rows], bool))

    actual = top_rows.merge([measured(part) for part in split(codes, at)], length)
    both = top_rows.cut(actual, length), top_rows.marked(actual, length)
    assert as_lists(both[0]) == brute_force(codes, "a", length)
    assert as_lists(both[1]) == brute_force(codes.take(np.flatnonzero(marked)), "a", length)
    kept = [set(zip(lists.latents, lists.rows, strict=True)) for lists in (actual, *both)]
    assert kept[0] == kept[1] | kept[2]


def test_ties_go_to_the_smaller_row_whichever_part_it_is_in():
    """The blocks of a permutation interleave."""
    codes = CodeRows(np.arange(8), {"a": np.zeros((8, 1), np.uint8)}, {"a": np.ones((8, 1), "f4")})
    parts = [codes.take(np.array(rows)) for rows in ([4, 5, 6], [0, 1, 7], [2, 3])]
    merged = top_rows.merge([top_rows.strongest(part, "a", 4) for part in parts], 4)
    assert as_lists(merged) == brute_force(codes, "a", 4)


@pytest.mark.parametrize("latents", [2**16, 2**31])
def test_numbers_that_do_not_fit_one_key_are_sorted_too(latents):
    rows = 70_000
    generator = np.random.default_rng(0)
    indices = generator.choice([3, latents - 1], size=(rows, 1)).astype(np.uint32)
    values = generator.choice([0, 1, 2, 5], size=(rows, 1)).astype(np.float32)
    codes = CodeRows(np.arange(rows) + 10, {"a": indices}, {"a": values})
    assert as_lists(top_rows.strongest(codes, "a", 4)) == brute_force(codes, "a", 4)


@pytest.mark.parametrize("seed", range(5))
def test_lists_without_a_fold_are_those_of_the_other_rows(random_codes, seed):
    """Folds of two rows: the spare rows make up for those that are left out."""
    length, rows = 5, 40
    codes = random_codes(seed, rows=rows, latents=12, k=4, streams=["a"])
    lists = top_rows.strongest(codes, "a", top_rows.with_spare(length))
    of_row = 1 + np.random.default_rng(seed).permutation(rows) % 20
    folds = Folds(of_row.astype(np.uint8), 20, 1 / 20, rows)
    members = top_rows.members(lists, length, folds)
    assert members.shape == (21, len(lists.rows))
    for fold, among in enumerate(members):
        actual = as_lists(type(lists)(*(column[among] for column in lists)))
        left = codes.take(np.flatnonzero(of_row != fold))
        assert actual == brute_force(left, "a", length)
    assert as_lists(top_rows.cut(lists, length)) == brute_force(codes, "a", length)


def test_a_list_that_loses_more_rows_than_its_spare_ones_is_shorter():
    codes = CodeRows(np.arange(9), {"a": np.zeros((9, 1), np.uint8)}, {"a": np.ones((9, 1), "f4")})
    lists = top_rows.strongest(codes, "a", top_rows.with_spare(3))
    assert lists.rows.tolist() == [0, 1, 2, 3, 4]
    folds = Folds(np.array([1, 1, 1, 1, 2, 2, 0, 0, 0], np.uint8), 2, 4 / 9, 9)
    members = top_rows.members(lists, 3, folds)
    assert [lists.rows[line].tolist() for line in members] == [[0, 1, 2], [4], [0, 1, 2]]


@given(seed=st.integers(0, 10_000))
def test_of_each_image_the_strongest_row_is_kept(random_codes, seed):
    codes = random_codes(seed, rows=24, latents=6, k=3, streams="a")
    of_row = np.arange(24) // 3
    lists = top_rows.strongest(codes, "a", 24)
    actual = top_rows.one_per_image(lists, of_row)
    expected = {}
    for latent, row in zip(lists.latents.tolist(), lists.rows.tolist(), strict=True):
        expected.setdefault((latent, of_row[row]), row)
    keys = [(latent, row) for (latent, _), row in expected.items()]
    assert list(zip(actual.latents.tolist(), actual.rows.tolist(), strict=True)) == keys


def test_no_active_latent_gives_no_lists():
    codes = CodeRows(
        np.arange(3), {"a": np.zeros((3, 1), np.uint8)}, {"a": np.zeros((3, 1), np.float32)}
    )
    actual = top_rows.merge([top_rows.strongest(codes, "a", 2)] * 2, 2)
    assert [len(column) for column in actual] == [0, 0, 0, 0]
