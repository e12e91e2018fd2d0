import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.metrics import latents
from sparc.analyze.rows.folds import assign_folds
from sparc.analyze.rows.images import Images

L, TOP = 12, 3


@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 30),
    at=st.lists(st.integers(1, 29), max_size=4),
)
def test_every_number_is_that_of_plain_loops(random_codes, dense, split, seed, rows, at):
    codes = random_codes(seed, rows=rows, latents=L, k=4, streams=["a", "b", "c"])
    counts = latents.merge(
        [latents.count_latents(part, L, top=TOP) for part in split(codes, at)], top=TOP
    )
    table = latents.table(counts, CodeSet("independent")).to_pylist()
    assert len(table) == 3 * L
    arrays = {stream: dense(codes, stream, L) for stream in codes.streams}
    for line in table:
        values = arrays[line["stream"]][:, line["latent"]]
        active = values[values > 0]
        assert line["rows_active"] == len(active)
        assert line["frequency"] == len(active) / rows
        if len(active):
            np.testing.assert_allclose(line["mean_value"], active.mean(), rtol=1e-12)
            assert line["largest_value"] == active.max()
        else:
            assert line["mean_value"] is None
            assert line["largest_value"] is None
        order = sorted((-values[r], r) for r in range(rows) if values[r] > 0)[:TOP]
        assert line["top_rows"] == [r for _, r in order]
        assert line["top_values"] == [-v for v, _ in order]
        alive = sum(bool((a[:, line["latent"]] > 0).any()) for a in arrays.values())
        assert line["alive_streams"] == alive


@given(seed=st.integers(0, 10_000))
def test_alive_and_dead_latents_are_counted(random_codes, dense, margin, seed):
    """Their numbers have a bound instead of an interval; the true L0 has an interval."""
    rows = 24
    codes = random_codes(seed, rows=rows, latents=L, k=3, streams=["a", "b", "c"])
    folds = assign_folds(Images(np.arange(rows) // 2, np.ones(rows // 2, bool)), seed)
    fold_codes = codes.take(folds.rows)
    counted = latents.active_counts(latents.count_latents(codes, L, top=TOP), folds, fold_codes)
    arrays = [dense(codes, stream, L) > 0 for stream in codes.streams]
    alive = np.array([array.any(axis=0) for array in arrays])

    lines = latents.alive_table(counted, CodeSet("joint", "untrained")).to_pylist()
    for number, line in enumerate(lines):
        assert line == {
            "mode": "joint",
            "control": "untrained",
            "alive_streams": number,
            "latents": int((alive.sum(axis=0) == number).sum()),
            "images": 12,
            "unseen_share": pytest.approx(1 - 0.05 ** (1 / 12)),
        }

    left = [folds.of_row != fold if fold else np.ones(rows, bool) for fold in range(13)]
    lines = latents.streams_table(counted, CodeSet("joint")).to_pylist()
    for s, line in enumerate(lines):
        active = [arrays[s][some].sum() / some.sum() for some in left]
        assert (line["stream"], line["dead_latents"]) == (codes.streams[s], (~alive[s]).sum())
        assert line["images"] == 12
        half = margin(active, folds.share)
        assert line["active_per_row"] == pytest.approx(active[0])
        assert line["active_per_row_low"] == pytest.approx(max(0, active[0] - half))
        assert line["active_per_row_high"] == pytest.approx(min(L, active[0] + half))


def test_one_image_has_no_intervals(random_codes):
    codes = random_codes(7, rows=4, latents=L, k=3, streams=["a", "b"])
    folds = assign_folds(Images(np.zeros(4, int), np.ones(1, bool)), 0)
    counts = latents.count_latents(codes, L, top=TOP)
    counted = latents.active_counts(counts, folds, codes.take(folds.rows))
    assert latents.alive_table(counted, CodeSet("joint"))["unseen_share"].to_pylist() == (
        [pytest.approx(0.95)] * 3
    )
    assert latents.streams_table(counted, CodeSet("joint"))["active_per_row_high"].null_count == 2
