import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparc.analyze.metrics import selection
from sparc.analyze.rows.folds import assign_folds
from sparc.analyze.rows.images import Images


@given(seed=st.integers(0, 10_000), rows=st.integers(1, 20), at=st.lists(st.integers(1, 19)))
def test_shares_are_those_of_sets_with_intervals(random_codes, split, margin, seed, rows, at):
    joint = random_codes(seed, rows=rows, latents=12, k=4, streams="ab", joint=True)
    independent = random_codes(seed + 1, rows=rows, latents=12, k=4, streams="ab")
    folds = assign_folds(Images(np.arange(rows), np.ones(rows, bool)), seed)
    parts = zip(split(joint, at), split(independent, at), strict=True)
    counts = selection.merge(
        [selection.count_choices(j, i, 12, folds, padded=False) for j, i in parts]
    )
    for line in selection.table(counts, "trained", folds).to_pylist():
        stream = line["stream"]
        common = np.array(
            [
                len(set(a.tolist()) & set(b.tolist()))
                for a, b in zip(joint.indices[stream], independent.indices[stream], strict=True)
            ]
        )
        assert line["share"] == pytest.approx(common.mean() / 4)
        if rows == 1:
            assert line["share_low"] is line["share_high"] is None
            continue
        shares = [common[folds.of_row != g].mean() / 4 for g in range(1, 1 + folds.number)]
        variance = (margin([line["share"], *shares], folds.share) / 1.96) ** 2
        if 0.2 < line["share"] < 0.8 and 0 < variance < 0.001:
            # Close to the middle a share's interval is that of a mean.
            half = 1.96 * np.sqrt(variance)
            assert line["share_low"] == pytest.approx(line["share"] - half, abs=0.2 * half)
            assert line["share_high"] == pytest.approx(line["share"] + half, abs=0.2 * half)
        assert line["share_low"] <= line["share"] <= line["share_high"]
        assert line["share_low"] < line["share_high"]
