import dataclasses
import pickle

import numpy as np
import pytest
import zarr

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.codes.store import CodeLayout, CodeStore
from sparc.common.errors import ReportError
from sparc.common.files.folder import Folder

LAYOUT = CodeLayout(streams=("a", "b"), latents=300, k=4, rows=10, rows_per_chunk=4)
SETS = [CodeSet("joint"), CodeSet("independent"), CodeSet("joint", "permuted_before")]
VALID = np.array([1, 1, 0, 1, 1, 1, 1, 1, 0, 0], dtype=bool)


@pytest.fixture
def store(tmp_path):
    store = CodeStore(Folder(tmp_path))
    store.create(LAYOUT, VALID, SETS)
    return store


@pytest.fixture
def written(store, random_codes):
    """What was written, by set and chunk."""
    content = {}
    for code_set in SETS[:2]:
        for chunk in (0, 1):
            rows = store.valid_rows(chunk)
            codes = random_codes(
                chunk, rows=len(rows), latents=300, k=4, streams="ab",
                joint=code_set.mode == "joint",
            )._replace(rows=rows)  # fmt: skip
            store.write(code_set, chunk, codes)
            content[code_set, chunk] = codes
    return content


def test_codes_are_read_as_written(store, written):
    for (code_set, chunk), codes in written.items():
        read_back = store.read(code_set, chunk)
        assert (read_back.rows == codes.rows).all()
        for stream in "ab":
            assert (read_back.indices[stream] == codes.indices[stream]).all()
            assert (read_back.values[stream] == codes.values[stream]).all()
    joint = store.read(CodeSet("joint"), 0)
    assert joint.indices["a"] is joint.indices["b"]


def test_any_zarr_reader_opens_it(store, written, tmp_path):
    group = zarr.open_group(tmp_path / "codes.zarr", mode="r")
    assert group.attrs["format"] == "sparc-codes"
    assert group["valid"][:].tolist() == VALID.tolist()
    shared = group["trained/joint/indices"]
    assert (shared.shape, shared.chunks, shared.dtype) == ((10, 4), (4, 4), np.uint16)
    assert shared.metadata.dimension_names == ("row", "place")
    codes = written[CodeSet("joint"), 0]
    assert (shared[[0, 1, 3]] == codes.indices["a"]).all()
    values = group["trained/independent/b/values"]
    assert values.dtype == np.float32
    assert (values[[0, 1, 3]] == written[CodeSet("independent"), 0].values["b"]).all()
    assert (values[2] == 0).all()


def test_missing_chunks_do_not_include_chunks_without_rows(store, written):
    assert store.missing(CodeSet("joint")) == []
    assert store.missing(CodeSet("joint", "permuted_before")) == [0, 1]
    with pytest.raises(ReportError, match=r"chunk 1 of permuted_before/joint/.* is missing"):
        store.read(CodeSet("joint", "permuted_before"), 1)
    assert len(store.read(CodeSet("joint", "permuted_before"), 2).rows) == 0


def test_a_chunk_of_zeros_counts_as_written(store, random_codes):
    codes = random_codes(0, rows=3, latents=300, k=4, streams="ab", joint=True)
    zeros = codes._replace(
        rows=store.valid_rows(0), values={s: v * 0 for s, v in codes.values.items()}
    )
    store.write(CodeSet("joint"), 0, zeros)
    assert 0 not in store.missing(CodeSet("joint"))
    assert not store.read(CodeSet("joint"), 0).values["a"].any()


def test_damage_is_detected_when_read(store, written, tmp_path):
    chunk = tmp_path / "codes.zarr/trained/joint/a/values/c/1/0"
    content = bytearray(chunk.read_bytes())
    content[5] ^= 1
    chunk.write_bytes(content)
    store.read(CodeSet("joint"), 0)
    with pytest.raises(ReportError, match="chunk 1 of trained/joint/a/values is damaged"):
        store.read(CodeSet("joint"), 1)


def test_a_store_can_be_pickled(store, written):
    other = pickle.loads(pickle.dumps(store))
    assert other.layout == LAYOUT
    assert (other.read(CodeSet("joint"), 1).rows == [4, 5, 6, 7]).all()


def test_continuing_keeps_chunks_and_refuses_other_sizes(store, written, tmp_path):
    again = CodeStore(Folder(tmp_path))
    again.create(LAYOUT, VALID, SETS)
    assert again.missing(CodeSet("joint")) == []
    with pytest.raises(ReportError, match="was begun with chunks of 4 rows, the cache has 5"):
        again.create(dataclasses.replace(LAYOUT, rows_per_chunk=5), VALID, SETS)


@pytest.mark.parametrize(
    ("latents", "dtype"), [(256, "uint8"), (257, "uint16"), (65_536, "uint16"), (65_537, "uint32")]
)
def test_the_smallest_type_of_indices_that_fits(latents, dtype):
    layout = CodeLayout(streams=("a",), latents=latents, k=1, rows=1, rows_per_chunk=1)
    assert layout.index_dtype == dtype


def test_size_of_a_row_at_published_sizes(tmp_path):
    layout = CodeLayout(streams=("x", "y", "z"), latents=8192, k=64, rows=64, rows_per_chunk=64)
    store = CodeStore(Folder(tmp_path))
    store.create(layout, np.ones(64, bool), SETS[:2])
    rng = np.random.default_rng(0)
    indices = rng.integers(0, 8192, (64, 64)).astype(np.uint16)
    values = dict.fromkeys("xyz", rng.random((64, 64), np.float32))
    codes = CodeRows(np.arange(64), dict.fromkeys("xyz", indices), values)

    def bytes_per_row(folder):
        return sum(f.stat().st_size for f in folder.rglob("c/**/*") if f.is_file()) / 64

    for code_set, most in ((CodeSet("joint"), 900), (CodeSet("independent"), 1200)):
        store.write(code_set, 0, codes)
        assert bytes_per_row(tmp_path / "codes.zarr" / code_set.path) < most
