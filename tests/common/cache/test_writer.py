import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sparc.common.cache import tables
from sparc.common.cache.features import bad_features
from sparc.common.cache.manifest import Manifest
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.verify import verify
from sparc.common.cache.writer import ChunkWriter
from sparc.common.errors import CacheError
from sparc.common.streams.info import StreamInfo
from sparc.common.streams.origin import StreamOrigin

INFO = StreamInfo(name="a", modality="image", dim=3, origin=StreamOrigin(spec="array"))
VALUES = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)


def manifest(rows: int, **changes) -> Manifest:
    table = pa.table(
        {
            "row": range(rows),
            "sample_id": [str(i) for i in range(rows)],
            "image": [f"{i}.jpg" for i in range(rows)],
            "caption": [None] * rows,
            "label_ids": [[]] * rows,
        },
        schema=tables.ROWS,
    )
    plain = Manifest(
        dataset="d", dataset_format="f", split="", rows=table, classes=tables.empty(tables.CLASSES)
    )
    return dataclasses.replace(plain, **changes)


def renamed(rows: pa.Table) -> pa.Table:
    captions = pa.array([None, None, "new", None], pa.string())
    return rows.set_column(3, tables.ROWS.field("caption"), captions)


def one_class(name: str) -> pa.Table:
    columns = {"class_id": [0], "key": ["k"], "name": [name], "parent_id": [None], "depth": [1]}
    return pa.table(columns, schema=tables.CLASSES)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_chunk_that_is_written_is_done_and_the_rest_follows(tmp_path) -> None:
    writer = ChunkWriter.open(tmp_path / "cache", manifest(10), rows_per_chunk=4)
    assert writer.open_stream(INFO) == [0, 1, 2]
    writer.write("a", 1, VALUES[4:8], {5: "broken"})
    again = ChunkWriter.open(tmp_path / "cache", manifest(10), rows_per_chunk=4)
    assert again.open_stream(INFO) == [0, 2]
    again.write("a", 0, VALUES[:4])
    again.write("a", 2, VALUES[8:], {9: "gone"})
    assert again.open_stream(INFO) == []
    cache = ActivationCache(tmp_path / "cache")
    assert [r["reason"] for r in cache.rejects().to_pylist()] == ["broken", "gone"]
    again.finish()
    assert [r["reason"] for r in cache.rejects().to_pylist()] == ["broken", "gone"]
    assert not cache.folder.exists("rejects")
    assert list(verify(cache)) == []


def test_an_all_zero_chunk_exists_on_disk(tmp_path) -> None:
    writer = ChunkWriter.open(tmp_path / "cache", manifest(10), rows_per_chunk=5)
    writer.open_stream(INFO)
    writer.write("a", 0, np.zeros((5, 3)), dict.fromkeys(range(5), "black"))
    assert ActivationCache(tmp_path / "cache").missing_chunks("a") == [1]
    assert not ActivationCache(tmp_path / "cache").features("a", 0).any()
    assert not ActivationCache(tmp_path / "cache").valid("a", 0).any()


def test_rejects_of_an_interrupted_chunk_do_not_outlive_it(tmp_path) -> None:
    writer = ChunkWriter.open(tmp_path / "cache", manifest(4), rows_per_chunk=4)
    writer.open_stream(INFO)
    # As if it were killed between the rejects and the features.
    writer.explain("a", {2: "no such file"})
    again = ChunkWriter.open(tmp_path / "cache", manifest(4), rows_per_chunk=4)
    again.open_stream(INFO)
    again.write("a", 0, VALUES[:4])
    again.finish()
    assert len(ActivationCache(tmp_path / "cache").rejects()) == 0


def test_a_start_killed_anywhere_is_begun_again(tmp_path) -> None:
    whole = tmp_path / "whole"
    ChunkWriter.open(whole, manifest(4), rows_per_chunk=4).open_stream(INFO)
    begun = (
        ["rows.parquet.0123456789abcdef0123456789abcdef.partial"],
        ["rows.parquet"],
        ["rows.parquet", "classes.parquet", "cache.json.0123456789abcdef0123456789abcdef.partial"],
    )
    for attempt, kept in enumerate(begun):
        location = tmp_path / str(attempt)
        location.mkdir()
        for name in kept:
            is_whole = not name.endswith(".partial")
            (location / name).write_bytes((whole / name).read_bytes() if is_whole else b"half")
        ChunkWriter.open(location, manifest(4), rows_per_chunk=4).open_stream(INFO)
        assert files(location) == files(whole)


def test_a_stream_killed_while_it_was_written_is_written_again(tmp_path) -> None:
    writer = ChunkWriter.open(tmp_path / "cache", manifest(4), rows_per_chunk=4)
    writer.open_stream(INFO)
    info = (tmp_path / "cache/cache.json").read_text()
    (tmp_path / "cache/cache.json").write_text(info.replace('"a"', ""))  # and not yet named there
    other = dataclasses.replace(INFO, dim=2)
    ChunkWriter.open(tmp_path / "cache", manifest(4), rows_per_chunk=4).open_stream(other)
    assert ActivationCache(tmp_path / "cache").streams["a"] == other


def test_a_cache_without_streams_defends_nothing(tmp_path) -> None:
    ChunkWriter.open(tmp_path / "cache", manifest(4), rows_per_chunk=4)
    writer = ChunkWriter.open(tmp_path / "cache", manifest(7), rows_per_chunk=5)
    assert writer.info.rows == 7
    assert ActivationCache(tmp_path / "cache").info.rows_per_chunk == 5


def test_settings_may_change_while_a_stream_has_no_chunk(tmp_path) -> None:
    writer = ChunkWriter.open(tmp_path / "cache", manifest(4), rows_per_chunk=4)
    writer.open_stream(INFO)
    wide = dataclasses.replace(INFO, dtype="float32")
    writer.open_stream(wide)
    writer.write("a", 0, VALUES[:4])
    with pytest.raises(CacheError, match=r"stream a .*\(dtype: 'float32' there, 'float16' now\)"):
        writer.open_stream(INFO)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (manifest(5), "rows: 4 there, 5 now"),
        (manifest(4, classes=one_class("cat")), "made with other classes"),
        (
            dataclasses.replace(manifest(4), rows=renamed(manifest(4).rows)),
            r"row 2, caption: None there, 'new' now",
        ),
    ],
)
def test_another_dataset_is_refused(tmp_path, other, message) -> None:
    ChunkWriter.open(tmp_path / "cache", manifest(4), rows_per_chunk=4).open_stream(INFO)
    with pytest.raises(CacheError, match=message):
        ChunkWriter.open(tmp_path / "cache", other, rows_per_chunk=4)


def test_a_difference_in_what_made_a_stream_is_named(tmp_path) -> None:
    writer = ChunkWriter.open(tmp_path / "cache", manifest(4), rows_per_chunk=4)
    writer.open_stream(INFO)
    writer.write("a", 0, VALUES[:4])
    other = dataclasses.replace(INFO, origin=StreamOrigin(spec="array", input_size=(2, 2)))
    with pytest.raises(CacheError, match=r"input_size: \(\) there, \(2, 2\) now"):
        writer.open_stream(other)


def test_a_stream_goes_on_when_its_weights_were_moved(tmp_path) -> None:
    def with_weights(place: str, digest: str) -> StreamInfo:
        origin = StreamOrigin(spec=f"timm:vit@{place}", weights_sha256=digest)
        return dataclasses.replace(INFO, origin=origin)

    writer = ChunkWriter.open(tmp_path / "cache", manifest(4), rows_per_chunk=4)
    writer.open_stream(with_weights("/old/vit.safetensors", "12ab"))
    writer.write("a", 0, VALUES[:4])
    assert writer.open_stream(with_weights("/new/vit.safetensors", "12ab")) == []
    with pytest.raises(CacheError, match="weights_sha256: '12ab' there, '34cd' now"):
        writer.open_stream(with_weights("/old/vit.safetensors", "34cd"))
    same_weights = StreamOrigin(spec="timm:tf_vit@/old/vit.safetensors", weights_sha256="12ab")
    with pytest.raises(CacheError, match=r"made in another way \(spec: 'timm:vit@"):
        writer.open_stream(dataclasses.replace(INFO, origin=same_weights))


def test_values_that_cannot_be_stored_stop_the_writer(tmp_path) -> None:
    writer = ChunkWriter.open(tmp_path / "cache", manifest(4), rows_per_chunk=4)
    writer.open_stream(INFO)
    for value, message in (
        (7e4, "stream a: the value 70000 does not fit float16"),
        (np.nan, "stream a, row 2: the feature is not finite"),
        (0.0, "stream a, row 2: the feature is zero"),
    ):
        values = VALUES[:4].copy()
        values[2] = value
        with pytest.raises(CacheError, match=message):
            writer.write("a", 0, values)
        writer.write("a", 0, values, {2: "excused"})
    with pytest.raises(CacheError, match=r"features of shape \(3, 3\) where \(4, 3\) belongs"):
        writer.write("a", 0, VALUES[:3])


@given(
    arrays.arrays(
        np.float32,
        (5, 2),
        elements=st.sampled_from([0.0, -0.0, 1e-9, 1.0, np.nan, np.inf, 65_000.0]),
    )
)
def test_bad_features_are_just_those_that_the_writer_refuses(values: np.ndarray) -> None:
    reasons = bad_features(values, 100, dtype="float16")
    for row, value in enumerate(values):
        good = np.isfinite(value).all() and value.astype(np.float16).any()
        assert (100 + row in reasons) == (not good)


def test_masks_may_join_later(tmp_path) -> None:
    ChunkWriter.open(tmp_path / "cache", manifest(4), rows_per_chunk=4).open_stream(INFO)
    assert ActivationCache(tmp_path / "cache").masks() is None
    masks = pa.table(
        {"sample_id": ["1"], "class_id": [0], "height": [2], "width": [2], "counts": [[1, 3]]},
        schema=tables.MASKS,
    )
    ChunkWriter.open(tmp_path / "cache", manifest(4, masks=masks), rows_per_chunk=4)
    assert ActivationCache(tmp_path / "cache").masks().equals(masks)


def test_a_dataset_without_rows_is_refused(tmp_path) -> None:
    with pytest.raises(CacheError, match="d has no rows to encode"):
        ChunkWriter.open(tmp_path / "cache", manifest(0))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("compression", "keep_bits"), [("lz4", 7), ("zstd", 7), ("zstd", None)])
def test_compression_and_bit_rounding(tmp_path, compression, keep_bits) -> None:
    writer = ChunkWriter.open(tmp_path / "cache", manifest(10), rows_per_chunk=4)
    info = dataclasses.replace(INFO, dtype="float32", compression=compression, keep_bits=keep_bits)
    for chunk in writer.open_stream(info):
        rows = writer.info.chunk_rows(chunk)
        writer.write("a", chunk, VALUES[rows.start : rows.stop])
    writer.finish()
    cache = ActivationCache(tmp_path / "cache")
    assert cache.streams["a"] == info
    values = np.concatenate([cache.features("a", chunk) for chunk in range(3)])
    np.testing.assert_allclose(values, VALUES, rtol=2**-8 if keep_bits else 0)
    assert list(verify(cache)) == []
    array = zarr.open_array(tmp_path / "cache/activations.zarr/a/features", mode="r")
    assert type(array.metadata.codecs[-1]).__name__ == "Crc32cCodec"
    if keep_bits:
        assert not (values.view(np.uint32) & ((1 << (23 - keep_bits)) - 1)).any()


@pytest.mark.parametrize("name", ["rows.parquet", "classes.parquet"])
def test_a_table_that_was_removed_is_written_again(tmp_path, name) -> None:
    writer = ChunkWriter.open(tmp_path / "cache", manifest(4), rows_per_chunk=4)
    writer.open_stream(INFO)
    before = files(tmp_path / "cache")
    (tmp_path / "cache" / name).unlink()
    ChunkWriter.open(tmp_path / "cache", manifest(4), rows_per_chunk=4)
    assert files(tmp_path / "cache") == before


def test_counts_of_cut_captions_lie_beside_the_chunks_until_they_are_gathered(tmp_path) -> None:
    text = dataclasses.replace(INFO, name="t", modality="text")
    writer = ChunkWriter.open(tmp_path, manifest(10), rows_per_chunk=4)
    writer.open_stream(text)
    before = (tmp_path / "activations.zarr/t/valid/zarr.json").read_bytes()
    for chunk, cut in enumerate((3, 0, 1)):
        writer.write("t", chunk, VALUES[4 * chunk : 4 * chunk + 4], cut=cut)
    parts = sorted((tmp_path / "captions_cut").iterdir())
    assert [part.name for part in parts] == [f"t-0000000{chunk}.json" for chunk in range(3)]
    assert (tmp_path / "activations.zarr/t/valid/zarr.json").read_bytes() == before
    assert ActivationCache(tmp_path).cut("t") == 4
    # One of them is damaged: the writer that continues does not know it any more.
    parts[0].write_bytes(parts[0].read_bytes().replace(b"3", b"4", 1))
    assert "captions_cut/t-00000000.json: its content does not fit its sha256" in [
        str(damage) for damage in verify(ActivationCache(tmp_path))
    ]
    again = ChunkWriter.open(tmp_path, manifest(10), rows_per_chunk=4)
    assert again.open_stream(text) == []
    assert again.uncounted("t") == [0]
    again.count_cut("t", {0: 3})
    again.finish()
    assert not (tmp_path / "captions_cut").exists()
    assert ActivationCache(tmp_path).cut("t") == 4
    assert list(verify(ActivationCache(tmp_path))) == []
