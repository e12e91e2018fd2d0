import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparc.analyze import selection


@given(seed=st.integers(0, 10_000), rows=st.integers(1, 20), at=st.lists(st.integers(1, 19)))
def test_shares_are_those_of_sets(random_codes, split, seed, rows, at):
    joint = random_codes(seed, rows=rows, latents=12, k=4, streams="ab", joint=True)
    alone = random_codes(seed + 1, rows=rows, latents=12, k=4, streams="ab")
    parts = zip(split(joint, at), split(alone, at), strict=True)
    counts = selection.merge([selection.measure(j, i, 12) for j, i in parts])
    for line in selection.table(counts, "none").to_pylist():
        stream = line["stream"]
        common = sum(
            len(set(a.tolist()) & set(b.tolist()))
            for a, b in zip(joint.indices[stream], alone.indices[stream], strict=True)
        )
        assert line["share"] == pytest.approx(common / (rows * 4))
