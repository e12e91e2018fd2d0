import numpy as np
import pytest

from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.codes.store import CodeStore
from sparc.common.cache.arrays import write_arrays

ROWS, CHUNK = 400, 20
SETS = {
    CodeSet("independent"): CodeSet("independent"),
    CodeSet("joint", "permuted_before"): CodeSet("joint", "permuted_before"),
    CodeSet("independent", "permuted"): CodeSet("independent"),
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    draws = np.random.default_rng(0)
    features = {stream: draws.normal(size=(ROWS, 4)) for stream in "ab"}
    features["a"][[7, 11]] = 0  # not valid
    names = [f"p{row // 2}" for row in range(ROWS)]
    return write_arrays(
        tmp_path_factory.mktemp("cache"), features, sample_ids=names, rows_per_chunk=CHUNK,
        modality=dict.fromkeys("ab", "text"),
    )  # fmt: skip


@pytest.mark.parametrize("code_set", SETS)
def test_the_codes_of_some_rows_are_read_from_their_chunks_alone(
    cache, make_parts, random_codes, tmp_path, monkeypatch, code_set
):
    codes = random_codes(1, rows=ROWS, latents=16, k=3, streams="ab")
    parts = make_parts(tmp_path, cache, codes, SETS[code_set], latents=16)(code_set)
    rows = np.array([3, 45, 46, 211, 399])
    expected = {
        row: {s: (of.indices[s][at].tolist(), of.values[s][at].tolist()) for s in "ab"}
        for of in (parts.codes(part) for part in range(len(parts)))
        for at, row in enumerate(of.rows.tolist())
    }
    read, chunks = CodeStore.read, []
    monkeypatch.setattr(
        CodeStore, "read", lambda store, *a, **o: chunks.append(a[1]) or read(store, *a, **o)
    )
    actual = {}
    for part in parts.holding(rows):
        of = parts.codes_at(part, rows)
        assert len(of.rows)
        for at, row in enumerate(of.rows.tolist()):
            actual[row] = {s: (of.indices[s][at].tolist(), of.values[s][at].tolist()) for s in "ab"}
    assert actual == {row: expected[row] for row in rows.tolist()}
    assert len(chunks) <= 2 * len(rows)
    if code_set == SETS[code_set]:
        assert set(chunks) == {0, 2, 10, 19}


def test_no_rows_have_no_codes(cache, make_parts, random_codes, tmp_path):
    codes = random_codes(1, rows=ROWS, latents=16, k=3, streams="ab")
    for code_set, stored in SETS.items():
        parts = make_parts(tmp_path / code_set.path, cache, codes, stored, latents=16)(code_set)
        none = np.zeros(0, np.int64)
        assert parts.holding(none) == [0]
        assert parts.codes_at(0, none).streams == ("a", "b")
        assert len(parts.codes_at(0, none).rows) == 0
