import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sparc.analyze import latents
from sparc.analyze.codes import CodeSet

L, TOP = 12, 3


@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 30),
    at=st.lists(st.integers(1, 29), max_size=4),
)
def test_every_number_is_that_of_plain_loops(random_codes, dense, split, seed, rows, at):
    codes = random_codes(seed, rows=rows, latents=L, k=4, streams=["a", "b", "c"])
    counts = latents.merge(
        [latents.measure(part, L, top=TOP) for part in split(codes, at)], top=TOP
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


def test_alive_and_dead_latents_are_counted(random_codes, dense):
    codes = random_codes(7, rows=4, latents=L, k=3, streams=["a", "b", "c"])
    counts = latents.measure(codes, L, top=TOP)
    alive = {s: (dense(codes, s, L) > 0).any(axis=0) for s in codes.streams}
    per_latent = sum(alive[s].astype(int) for s in codes.streams)
    found = latents.alive_table(counts, CodeSet("joint", "untrained")).to_pylist()
    assert [line["latents"] for line in found] == [int((per_latent == n).sum()) for n in range(4)]
    assert {(line["mode"], line["control"]) for line in found} == {("joint", "untrained")}
    streams = latents.streams_table(counts, CodeSet("joint")).to_pylist()
    for line in streams:
        values = dense(codes, line["stream"], L)
        assert line["dead_latents"] == int((~alive[line["stream"]]).sum())
        assert line["active_per_row"] == (values > 0).sum() / 4
