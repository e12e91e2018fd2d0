"""Chunks read straight from their files are those that Zarr reads, damage included."""

import numpy as np
import pytest
import zarr

from sparc.common.cache import plain_chunks
from sparc.common.cache.arrays import write_arrays
from sparc.common.cache.plain_chunks import PlainChunks
from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import DamagedCacheError, IncompleteCacheError
from sparc.common.files.folder import Folder


@pytest.fixture(params=["float16", "float32"])
def cache(tmp_path, request):
    """10 rows in chunks of 4: the last chunk is padded."""
    features = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)
    features[5] = 0
    return write_arrays(tmp_path / "cache", {"a": features}, dtype=request.param, rows_per_chunk=4)


def array(cache, name="features"):
    store = zarr.open_group(cache.folder.path("activations.zarr"), mode="r")
    return store[f"a/{name}"]


def chunk_file(cache, name="features"):
    return (
        cache.folder.local
        / "activations.zarr/a"
        / name
        / ("c/1/0" if name == "features" else "c/1")
    )


@pytest.mark.parametrize("piece", [1, 5, 1 << 20])
def test_they_are_what_zarr_reads(cache, monkeypatch, piece):
    monkeypatch.setattr(plain_chunks, "_PIECE_BYTES", piece)
    assert PlainChunks.fits(cache.folder, array(cache))
    for chunk in range(3):
        rows = cache.info.chunk_rows(chunk)
        expected = array(cache)[rows.start : rows.stop]
        assert np.array_equal(cache.features("a", chunk), expected)
        assert cache.features("a", chunk).dtype == expected.dtype
        assert np.array_equal(
            cache.valid("a", chunk), array(cache, "valid")[rows.start : rows.stop]
        )
        out = np.full_like(expected, -1)
        assert cache.features("a", chunk, out=out) is out
        assert np.array_equal(out, expected)


@pytest.mark.parametrize("name", ["features", "valid"])
@pytest.mark.parametrize("damage", ["first", "last", "cut", "longer", "empty"])
def test_damage_is_found(cache, name, damage):
    path = chunk_file(cache, name)
    content = bytearray(path.read_bytes())
    if damage in ("first", "last"):
        content[0 if damage == "first" else -1] ^= 0x80
    path.write_bytes(
        {"cut": content[:-1], "longer": content + b"0", "empty": b""}.get(damage, content)
    )
    read = cache.features if name == "features" else cache.valid
    with pytest.raises(DamagedCacheError, match=f"chunk 1 of a/{name} .* is damaged"):
        read("a", 1)


def test_a_missing_chunk_is_not_zeros(cache):
    chunk_file(cache).unlink()
    with pytest.raises(IncompleteCacheError, match="chunk 1 of a/features has not been written"):
        cache.features("a", 1)


def test_other_arrays_are_left_to_zarr(tmp_path):
    folder = Folder(tmp_path)
    compressed = zarr.create_array(tmp_path / "x", shape=(4, 2), chunks=(2, 2), dtype="float32")
    plain_without_checksum = zarr.create_array(
        tmp_path / "y", shape=(4, 2), chunks=(2, 2), dtype="float32", compressors=None
    )
    big_endian = zarr.create_array(
        tmp_path / "z",
        shape=(4, 2),
        chunks=(2, 2),
        dtype="float32",
        serializer=zarr.codecs.BytesCodec(endian="big"),
        compressors=(zarr.codecs.Crc32cCodec(),),
    )
    for kind in (compressed, plain_without_checksum, big_endian):
        assert not PlainChunks.fits(folder, kind)
    assert not PlainChunks.fits(Folder("memory://cache"), compressed)


@pytest.mark.parametrize(("order", "fits"), [("little", True), ("big", False)])
def test_a_byte_order_may_be_a_text(cache, order, fits):
    """As Zarr gives it from release 3.4 on."""
    stored = array(cache)
    object.__setattr__(stored.metadata.codecs[0], "endian", order)
    assert PlainChunks.fits(cache.folder, stored) == fits


def test_a_cache_behind_a_url_is_read_by_zarr(cache):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(cache.folder.local), "/remote", recursive=True)
    remote = ActivationCache("memory://remote")
    try:
        for chunk in range(3):
            out = np.empty_like(cache.features("a", chunk))
            remote.features("a", chunk, out=out)
            assert np.array_equal(out, cache.features("a", chunk))
    finally:
        memory.rm("/remote", recursive=True)
