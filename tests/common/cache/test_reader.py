import dataclasses
import json
import shutil
import threading

import google_crc32c
import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numcodecs import Zstd

from sparc.common.cache.arrays import write_arrays
from sparc.common.cache.info import CacheInfo
from sparc.common.cache.manifest import Manifest
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.writer import ChunkWriter
from sparc.common.errors import CacheError, DamagedCacheError, IncompleteCacheError
from sparc.common.streams.info import StreamInfo
from sparc.common.streams.origin import StreamOrigin


@given(st.integers(1, 10_000), st.integers(1, 500))
def test_chunks_partition_the_rows(rows: int, rows_per_chunk: int) -> None:
    info = CacheInfo(
        dataset="", dataset_format="", split="", rows=rows, rows_per_chunk=rows_per_chunk,
        manifest_digest="", streams=(), versions={},
    )  # fmt: skip
    spans = [info.chunk_rows(chunk) for chunk in range(info.chunks)]
    assert [row for span in spans for row in span] == list(range(rows))
    assert all(len(span) == rows_per_chunk for span in spans[:-1])
    for outside in (-1, info.chunks):
        with pytest.raises(IndexError):
            info.chunk_rows(outside)


def test_aligned_rows_are_those_that_all_streams_have(cache, features) -> None:
    for chunk, rows in ((0, [0, 1, 2, 3, 5, 6, 7, 8, 9]), (1, range(10, 20)), (2, [20, 21])):
        aligned = cache.aligned(chunk)
        assert len(aligned) == len(rows)
        assert aligned.rows.tolist() == list(rows)
        assert list(aligned.features) == ["image", "text"]
        for name, tensor in aligned.tensors().items():
            np.testing.assert_array_equal(aligned.features[name], features[name][aligned.rows])
            assert np.shares_memory(tensor.numpy(), aligned.features[name])
    assert cache.aligned(0, ["text"]).rows.tolist() == list(range(10))


def test_a_chunk_without_aligned_rows_has_empty_features(tmp_path) -> None:
    values = np.ones((4, 3), np.float32)
    cache = write_arrays(
        tmp_path / "cache", {"a": values, "b": 0 * values}, dtype="float16", rows_per_chunk=4
    )
    aligned = cache.aligned(0)
    assert len(aligned) == 0
    assert {x.shape for x in aligned.features.values()} == {(0, 3)}
    assert {x.dtype for x in aligned.features.values()} == {np.dtype("float16")}
    assert len(cache.aligned(0, ["a"])) == 4


def test_what_was_written_is_read(cache, features) -> None:
    assert cache.stream_names == ("image", "text")
    assert cache.streams["text"].modality == "text"
    valid = np.ones(23, bool)
    valid[[4, 22]] = False
    for chunk in range(3):
        rows = cache.info.chunk_rows(chunk)
        part = slice(rows.start, rows.stop)
        np.testing.assert_array_equal(cache.valid("image", chunk), valid[part])
        wanted = np.where(valid[part, None], features["image"][part], 0)
        np.testing.assert_array_equal(cache.features("image", chunk), wanted)
        np.testing.assert_array_equal(cache.features("text", chunk), features["text"][part])
    np.testing.assert_array_equal(cache.valid_rows(), valid)
    assert cache.valid_rows(["text"]).all()
    assert [(r["row"], r["stream"], r["reason"]) for r in cache.rejects().to_pylist()] == [
        (4, "image", "the feature is zero"),
        (22, "image", "the feature is not finite"),
    ]
    cache.require_complete()


def test_an_array_that_features_cannot_be_put_in_is_refused_and_left_alone(cache) -> None:
    rows, dim = cache.features("image", 0).shape
    dtype = cache.stream("image").dtype
    for out in (
        np.zeros((rows - 1, dim), dtype),
        np.zeros((rows, 1), dtype),
        np.zeros(rows * dim, dtype),
        np.zeros((rows, dim), "float64"),
        np.zeros((rows, 2 * dim), dtype)[:, :dim],
        np.zeros((dim, rows), dtype).T,
    ):
        with pytest.raises(ValueError, match=rf"C-contiguous array of \({rows}, {dim}\) {dtype}$"):
            cache.features("image", 0, out=out)
        assert not out.any()


def test_streams_are_chosen_in_the_order_of_the_cache(cache) -> None:
    assert cache.choose() == cache.choose(["text", "image"]) == ("image", "text")
    assert cache.choose(["text"]) == ("text",)
    with pytest.raises(CacheError, match="has no stream 'sound'; it has image, text"):
        cache.choose(["sound"])
    with pytest.raises(CacheError, match="has no stream 'sound'"):
        cache.features("sound", 0)


def test_an_incomplete_stream_is_refused_by_chunk(cache) -> None:
    array = cache.folder.local / "activations.zarr/text"
    shutil.rmtree(array / "features/c/1")
    (array / "valid/c/2").unlink()
    (array / "valid/c/0.0123456789abcdef0123456789abcdef.partial").write_bytes(b"half a chunk")
    assert cache.missing_chunks("text") == [1, 2]
    with pytest.raises(IncompleteCacheError, match=r"stream text lacks 2 of 3 chunks \(1, 2\)"):
        cache.require_complete()
    cache.require_complete(["image"])
    for read, chunk in ((cache.features, 1), (cache.valid, 2)):
        with pytest.raises(IncompleteCacheError, match=f"chunk {chunk} .*has not been written"):
            read("text", chunk)


def write_compressed(location, values, compression) -> ActivationCache:
    """A cache of two chunks, in which a stream `b` is compressed."""
    half = len(values) // 2
    cache = write_arrays(location, {"a": values}, rows_per_chunk=half)
    origin = StreamOrigin(spec="array")
    info = StreamInfo(
        name="b", modality="image", dim=values.shape[1], compression=compression, origin=origin
    )
    manifest = Manifest(
        dataset="", dataset_format="", split="", rows=cache.rows(), classes=cache.classes()
    )
    writer = ChunkWriter.open(cache.folder, manifest, rows_per_chunk=half)
    for chunk in writer.open_stream(info):
        writer.write("b", chunk, values[chunk * half : (chunk + 1) * half])
    return ActivationCache(location)


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
def test_a_flipped_bit_is_found_when_read(tmp_path, compression) -> None:
    values = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    cache = write_compressed(tmp_path / "cache", values, compression)
    np.testing.assert_array_equal(cache.features("b", 1), values[10:].astype(np.float16))
    path = cache.folder.local / "activations.zarr/b/features/c/1/0"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(DamagedCacheError, match=r"chunk 1 of b/features \(rows 10 to 19\)"):
        cache.features("b", 1)
    path.write_bytes(content[:-7])
    with pytest.raises(DamagedCacheError, match=r"chunk 1 of b/features"):
        cache.features("b", 1)
    cache.features("b", 0)


@pytest.mark.parametrize("kind", ["noise", "ones"])
def test_a_compressed_chunk_holds_one_frame_and_nothing_else(tmp_path, kind) -> None:
    shape = (2000, 200)  # several blocks of Zstandard
    noise = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    values = noise if kind == "noise" else np.ones(shape, np.float32)
    cache = write_compressed(tmp_path / "cache", values, "zstd")
    np.testing.assert_array_equal(cache.features("b", 0), values[:1000].astype(np.float16))
    path = cache.folder.local / "activations.zarr/b/features/c/0/0"
    frame = path.read_bytes()[:-4]
    bomb = frame + bytes(Zstd().encode(bytes(1 << 26)))
    path.write_bytes(bomb + google_crc32c.value(bomb).to_bytes(4, "little"))
    with pytest.raises(DamagedCacheError, match="it holds an unknown number of bytes, not 400000"):
        ActivationCache(tmp_path / "cache").features("b", 0)


def test_other_versions_and_damaged_metadata_are_refused(cache) -> None:
    path = cache.folder.local / "cache.json"
    document = json.loads(path.read_text())
    for change, message in (
        ({"version": 2}, "another version of SPARC .format 2; this one reads 1."),
        ({"format": "other"}, "format 'other'"),
        ({"rows": 0}, "must be positive"),
        ({"surprise": 1}, "is damaged"),
    ):
        path.write_text(json.dumps({**document, **change}))
        with pytest.raises(CacheError, match=message):
            ActivationCache(cache.folder.local)
    for content in ("{", "[]", '"text"', "{}"):
        path.write_text(content)
        with pytest.raises(DamagedCacheError, match=r"(not readable|damaged).*again with --repair"):
            ActivationCache(cache.folder.local)
    path.unlink()
    with pytest.raises(CacheError, match=r"has lost its cache\.json; .* again with --repair"):
        ActivationCache(cache.folder.local)


def test_damaged_metadata_of_the_group_are_refused_in_one_line(cache) -> None:
    path = cache.folder.local / "activations.zarr/zarr.json"
    content = path.read_text()
    for damaged in (content.replace("node_type", "node_Type"), "{", '"text"'):
        path.write_text(damaged)
        with pytest.raises(DamagedCacheError, match=r"cannot be opened: .*") as error:
            ActivationCache(cache.folder.local).features("image", 0)
        assert "\n" not in str(error.value)


def test_the_number_of_rows_must_agree(cache) -> None:
    path = cache.folder.local / "rows.parquet"
    pq.write_table(pq.read_table(path).slice(0, 5), path)
    with pytest.raises(DamagedCacheError, match="has 5 rows, the cache 23"):
        cache.rows()


def test_chunks_are_read_from_many_threads(cache, features) -> None:
    faults = []

    def read() -> None:
        for _ in range(20):
            for chunk in range(3):
                rows = cache.info.chunk_rows(chunk)
                wanted = features["text"][rows.start : rows.stop]
                if not np.array_equal(cache.features("text", chunk), wanted):
                    faults.append(chunk)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_info_survives_its_file(cache) -> None:
    info = CacheInfo.read(cache.folder)
    assert info == cache.info
    cache.folder.write("cache.json", dataclasses.replace(info, dataset="ü ☃").to_json())
    assert CacheInfo.read(cache.folder).dataset == "ü ☃"


def test_any_tool_opens_it(cache, features) -> None:
    """What section 9 of CACHE.md promises."""
    import dask.array
    import duckdb
    import pandas
    import xarray

    where = cache.folder.local
    text = features["text"]
    group = zarr.open_group(where / "activations.zarr", mode="r")
    np.testing.assert_array_equal(group["text/features"][:], text)
    assert group["text"].attrs["origin"]["spec"] == "array"
    assert group["text/features"].metadata.dimension_names == ("row", "text_dim")
    blocks = dask.array.from_zarr(where / "activations.zarr", component="text/features")
    assert blocks.chunks[0] == (10, 10, 3)
    np.testing.assert_array_equal(blocks.compute(scheduler="synchronous"), text)
    assert cache.dask_features("text").chunks[0] == (10, 10, 3)
    stream = xarray.open_zarr(where / "activations.zarr", group="text", consolidated=False)
    assert stream["features"].dims == ("row", "text_dim")
    np.testing.assert_array_equal(stream["features"].values, text)
    assert pandas.read_parquet(where / "rows.parquet")["caption"][7] == "caption 7"
    counts = duckdb.sql(f"SELECT reason, count(*) FROM '{where}/rejects.parquet' GROUP BY reason")
    assert sorted(counts.fetchall()) == [
        ("the feature is not finite", 1),
        ("the feature is zero", 1),
    ]


def test_what_is_shown_of_a_cache_is_one_line_even_of_a_damaged_one(cache) -> None:
    assert repr(cache) == f"ActivationCache('{cache.folder}': 23 rows; image 6, text 4)"
    for document in cache.folder.inside("activations.zarr/text").rglob("zarr.json"):
        document.write_text("{}")
    assert "image 6, text (damaged)" in repr(ActivationCache(cache.folder))
