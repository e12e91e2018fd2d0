import mmap
import uuid

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.codes.store import CodeLayout, CodeStore
from sparc.analyze.search.inverted_index import open_index
from sparc.common.errors import LockedError, ReportError
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive

L, K = 12, 4
INDEPENDENT = CodeSet("independent")


def make_store(folder, random_codes, seed, rows, valid):
    layout = CodeLayout(streams=("a", "b"), latents=L, k=K, rows=rows, rows_per_chunk=7)
    store = CodeStore(Folder(folder))
    store.create(layout, valid, [INDEPENDENT])
    codes = random_codes(seed, rows=rows, latents=L, k=K, streams=["a", "b"])
    for chunk in store.missing(INDEPENDENT):
        store.write(INDEPENDENT, chunk, codes.take(store.valid_rows(chunk)))
    return store, codes


@settings(max_examples=30)  # each writes a store and an index, synced
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 40))
def test_scores_are_cosines_of_dense_codes(tmp_path_factory, random_codes, dense, seed, rows):
    folder = tmp_path_factory.mktemp("report")
    generator = np.random.default_rng(seed)
    valid = generator.random(rows) < 0.8
    valid[0] = True
    store, codes = make_store(folder, random_codes, seed, rows, valid)
    index = open_index(Folder(folder), store, "b")
    matrix = dense(codes, "b", L) * valid[:, None]
    indices = generator.permutation(L)[:K]
    values = generator.choice([0, 0.5, 2], K).astype(np.float32)
    query = np.zeros(L)
    query[indices] = values
    lengths = np.linalg.norm(matrix, axis=1) * np.linalg.norm(query)
    expected = np.divide(matrix @ query, lengths, out=np.zeros(rows), where=lengths > 0)
    scores = index.scores(indices, values)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert np.array_equal(index.values_at(np.arange(L), np.arange(rows)), matrix.T)
    again = open_index(Folder(folder), store, "b")
    assert np.array_equal(again.scores(indices, values), scores)


def test_an_index_is_built_once_and_mapped(tmp_path, random_codes, monkeypatch):
    store, _ = make_store(tmp_path, random_codes, 1, 30, np.ones(30, bool))
    open_index(Folder(tmp_path), store, "a")
    monkeypatch.setattr(CodeStore, "read", pytest.fail)
    index = open_index(Folder(tmp_path), store, "a")
    assert isinstance(index.rows.base.obj, mmap.mmap)
    assert not list(tmp_path.rglob("*.partial"))


def test_behind_a_url_it_gives_the_same(tmp_path, random_codes):
    url = f"memory://{uuid.uuid4().hex}/report"
    store, _ = make_store(tmp_path, random_codes, 1, 30, np.ones(30, bool))
    here, there = (open_index(Folder(place), store, "a") for place in (tmp_path, url))
    query = np.arange(L), np.ones(L, np.float32)
    assert np.array_equal(here.scores(*query), there.scores(*query))
    rows = np.arange(30)
    assert np.array_equal(here.values_at(query[0], rows), there.values_at(query[0], rows))
    name = "index/independent/a/values.npy"
    content = bytearray(Folder(url).read(name))
    assert content == Folder(tmp_path).read(name)
    content[-1] ^= 1
    Folder(url).write(name, bytes(content))
    with pytest.raises(ReportError, match="the search index is damaged at latent"):
        open_index(Folder(url), store, "a").scores(*query)
    Folder(url).remove("index/independent/a/digests.json")  # as of one that was being written
    assert np.array_equal(open_index(Folder(url), store, "a").scores(*query), here.scores(*query))


def test_an_interrupted_build_leaves_nothing(tmp_path, random_codes):
    store, _ = make_store(tmp_path, random_codes, 1, 30, np.ones(30, bool))
    lost = tmp_path / "codes.zarr/trained/independent/a/values/c/2/0"
    content = lost.read_bytes()
    lost.unlink()
    with pytest.raises(ReportError, match=r"chunk 2 .* is missing"):
        open_index(Folder(tmp_path), store, "a")
    assert not (tmp_path / "index/independent/a").exists()
    assert not list(tmp_path.rglob("*.partial"))
    lost.write_bytes(content)
    assert np.isfinite(open_index(Folder(tmp_path), store, "a").norms).all()


def test_errors(tmp_path, random_codes):
    store, _ = make_store(tmp_path, random_codes, 1, 30, np.ones(30, bool))
    with pytest.raises(ReportError, match="has no stream 'c'; it has a, b"):
        open_index(Folder(tmp_path), store, "c")
    open_index(Folder(tmp_path), store, "a")
    (tmp_path / "index/independent/a/ends.npy").write_bytes(b"short")
    with pytest.raises(ReportError, match=r"is damaged .*: remove the report's folder index"):
        open_index(Folder(tmp_path), store, "a")


def test_no_active_latent_at_all(tmp_path):
    layout = CodeLayout(streams=("a",), latents=L, k=K, rows=3, rows_per_chunk=7)
    store = CodeStore(Folder(tmp_path))
    store.create(layout, np.zeros(3, bool), [INDEPENDENT])
    index = open_index(Folder(tmp_path), store, "a")
    assert not index.scores(np.array([1]), np.array([1], np.float32)).any()


@pytest.mark.parametrize("name", ["ends", "rows", "values", "norms", "checks"])
def test_a_flipped_byte_is_found_when_it_matters(tmp_path, random_codes, name):
    store, _ = make_store(tmp_path, random_codes, 1, 30, np.ones(30, bool))
    query = np.arange(L), np.ones(L, np.float32)
    expected = open_index(Folder(tmp_path), store, "a").scores(*query)
    file = tmp_path / f"index/independent/a/{name}.npy"
    content = bytearray(file.read_bytes())
    for place in range(128, len(content), 7):  # behind the header
        damaged = content.copy()
        damaged[place] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(ReportError, match="is damaged"):
            open_index(Folder(tmp_path), store, "a").scores(*query)
    file.write_bytes(content)
    assert np.array_equal(open_index(Folder(tmp_path), store, "a").scores(*query), expected)


def test_only_one_process_builds(tmp_path, random_codes):
    store, _ = make_store(tmp_path, random_codes, 1, 30, np.ones(30, bool))
    with exclusive(Folder(tmp_path)), pytest.raises(LockedError, match="is being written by"):
        open_index(Folder(tmp_path), store, "a")
