"""What is written behind URLs arrives, and what is read is whole, though requests fail."""

import os
import re

import numpy as np
import pytest
import zarr

from sparc.common.errors import SparcError, StoreError
from sparc.common.files.folder import Folder
from sparc.common.files.remote import requests
from sparc.common.files.zarr_store import zarr_store


@pytest.mark.parametrize("kind", ["dropped", "lost", "truncated", "short", "failed"])
def test_every_fault_is_overcome(kind, bucket, object_store) -> None:
    folder, content = Folder(f"{bucket}/x"), os.urandom(10_000)
    with object_store.faults(**{kind: 1.0}, at_most=1, only="^PUT"):
        folder.write("a/b", content)
    for look in (
        lambda: folder.read("a/b") == content,
        lambda: folder.read_part("a/b", 3, 1000) == content[3:1000],
        lambda: folder.open("a/b", read_ahead=100).read() == content,
        lambda: folder.sizes() == {"a/b": 10_000},
        lambda: folder.exists("a"),
    ):
        with object_store.faults(**{kind: 1.0}, at_most=1):
            assert look()
            assert object_store.seen().faults[kind] == 1


def test_a_long_file_is_read_in_parts(bucket, object_store, tmp_path) -> None:
    folder, content = Folder(f"{bucket}/x"), os.urandom(50_000)
    with folder.writing("long") as path:
        path.write_bytes(content)
    with object_store.counting() as counts, folder.open("long", read_ahead=1000) as file:
        assert file.read(10) == content[:10]
        assert file.read(10) == content[10:20]
        assert file.seek(-5, os.SEEK_END) == 49_995
        assert file.read() == content[-5:]
        assert file.read(1) == b""
    assert counts == {"HEAD": 1, "GET": 2}
    with pytest.raises(OSError, match="ends before byte 50,001"):
        folder.read_part("long", 49_000, 50_001)
    with pytest.raises(FileNotFoundError):
        folder.open("longer")


def test_removing_takes_few_requests(bucket, object_store) -> None:
    folder = Folder(f"{bucket}/x")
    for number in range(30):
        folder.write(f"parts/{number}", b"1")
    with object_store.counting() as counts:
        folder.remove_files([f"parts/{number}" for number in range(10)])
        folder.remove("parts")
        folder.remove("parts")
    assert folder.files() == []
    assert counts["POST"] == 2
    assert counts.total() < 10


def test_what_a_store_will_not_remove_is_said(bucket, monkeypatch) -> None:
    folder = Folder(f"{bucket}/x")
    for name in "ab":
        folder.write(f"parts/{name}", b"1")
    monkeypatch.setattr(folder.remote._filesystem, "rm", lambda _: None)
    with pytest.raises(StoreError, match=r"cannot remove .*/x/parts: 2 objects stay"):
        folder.remove("parts")


def test_zarr_asks_by_the_same_requests(bucket, object_store) -> None:
    folder = Folder(f"{bucket}/x")
    with object_store.faults(dropped=1.0, at_most=1, only="^PUT .*/c/2$"):
        group = zarr.create_group(zarr_store(folder, "z", read_only=False))
        values = group.create_array("v", shape=(7,), chunks=(2,), dtype="i4")
        values[:] = np.arange(7)
    group = zarr.open_group(zarr_store(folder, "z", read_only=True), mode="r")
    with object_store.faults(short=1.0, at_most=1, only="^GET .*/c/1$"):
        assert group["v"][:].tolist() == list(range(7))
        assert object_store.seen().faults["short"] == 1
        assert object_store.seen().operations["LIST"] == 0
    assert list(group) == ["v"]
    with pytest.raises(ValueError, match="read-only"):
        group["v"][0] = 1


def test_what_stays_wrong_is_said_in_a_line_with_a_way_out(bucket, monkeypatch) -> None:
    with pytest.raises(SparcError, match="cannot open s3://: it names no bucket"):
        Folder("s3://")
    missing = Folder("s3://no-bucket-of-that-name/x")
    with pytest.raises(StoreError, match=r"write s3://no-bucket-of-that-name/x/a: .*; create the"):
        missing.write("a", b"")
    assert not missing.exists()
    folder = Folder(f"{bucket}/x")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(folder.remote._filesystem, "pipe_file", refused)
    way_out = re.escape(f"Access Denied; see that the credentials of this process are valid and "
                        f"allow that in {bucket}")  # fmt: skip
    with pytest.raises(StoreError, match=rf"^cannot write {folder}/a: {way_out}$"):
        folder.write("a", b"")

    def out_of_reach(*_: object, **__: object) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(folder.remote._filesystem, "pipe_file", out_of_reach)
    monkeypatch.setattr(requests, "PATIENCE", 0.3)
    with pytest.raises(StoreError, match="Connection refused; see that the store runs"):
        folder.write("a", b"")


def test_a_mistake_of_ours_is_not_tried_again(bucket, monkeypatch) -> None:
    folder, calls = Folder(f"{bucket}/x"), []

    def mistaken(*_: object, **__: object) -> None:
        calls.append(1)
        raise TypeError("a mistake")

    monkeypatch.setattr(folder.remote._filesystem, "pipe_file", mistaken)
    with pytest.raises(TypeError, match="a mistake"):
        folder.write("a", b"")
    assert calls == [1]
