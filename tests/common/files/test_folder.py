import hashlib
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from sparc.common.errors import SparcError, UnsafeError
from sparc.common.files.folder import Folder


@pytest.fixture(params=["disk", "memory"])
def folder(request, tmp_path) -> Folder:
    if request.param == "disk":
        return Folder(tmp_path / "räume und ☃")
    return Folder(f"memory://{uuid.uuid4().hex}/räume und ☃")


def test_what_is_written_is_read(folder: Folder) -> None:
    assert folder.files() == []
    assert folder.size() == 0
    assert not folder.exists("a/b")
    folder.create()
    folder.write("a/b", b"one")
    folder.write("a/b", b"two")
    folder.write("c", b"")
    assert folder.exists("a/b")
    assert folder.exists("a")
    assert folder.read("a/b") == b"two"
    with folder.open("a/b") as file:
        assert file.read() == b"two"
    assert folder.files() == ["a/b", "c"]
    assert folder.files("a") == ["a/b"]
    assert folder.files("nothing") == []
    assert folder.entries() == ["a", "c"]
    assert folder.entries("a") == folder.below("a").entries() == ["b"]
    assert folder.entries("nothing") == folder.entries("c") == []
    assert folder.below("a").name == "a"
    assert str(next(folder.below("a").above())) == str(folder)
    assert folder.size() == 3
    folder.remove("a")
    folder.remove("a")
    assert folder.files() == ["c"]
    with pytest.raises(FileNotFoundError):
        folder.read("a/b")


def test_a_part_and_the_digest_of_a_file(folder: Folder) -> None:
    folder.write("a", b"0123456789")
    assert folder.read_part("a", 2, 5) == b"234"
    assert folder.read_part("a", 10, 10) == b""
    if folder.local is not None:  # a store is asked again, as if bytes were lost on the way
        with pytest.raises(OSError, match="ends before byte 11"):
            folder.read_part("a", 8, 11)
    assert folder.digest("a", largest=10) == hashlib.sha256(b"0123456789").hexdigest()
    with pytest.raises(UnsafeError, match="more than the 9"):
        folder.digest("a", largest=9)


def test_a_name_that_begins_like_the_folder_is_kept_whole(tmp_path) -> None:
    folder = Folder(f"memory://{uuid.uuid4().hex}/x")
    folder.write("x/x/y", b"1")
    assert folder.files() == ["x/x/y"]


def test_local_paths_are_known_as_such(tmp_path) -> None:
    assert Folder(tmp_path).local == tmp_path
    assert Folder(f"file://{tmp_path}").local == tmp_path
    assert Folder("memory://x").local is None
    assert str(Folder(tmp_path)) == str(tmp_path)


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(SparcError, match="cannot open nothing://x"):
        Folder("nothing://x")


def test_partial_files_are_removed_and_nothing_else(tmp_path) -> None:
    folder = Folder(tmp_path)
    folder.write("a/b", b"1")
    (tmp_path / "a/b.0123456789abcdef0123456789abcdef.partial").write_bytes(b"half")
    (tmp_path / "a/c.0123456789abcdef0123456789abcdef.partial").mkdir()
    (tmp_path / "thesis.partial").write_bytes(b"years of work")
    folder.remove_partial_files()
    assert folder.files() == ["a/b", "thesis.partial"]


WRITER = """
import sys
from sparc.common.files.folder import Folder
folder = Folder(sys.argv[1])
for number in range(10**9):
    folder.write("file", bytes([number % 256]) * 200_000)
    if number == 0:
        print("ready", flush=True)
"""


def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path: Path) -> None:
    moments = random.Random(3)
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0.05, 0.2))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        content = (tmp_path / "file").read_bytes()
        assert len(content) == 200_000
        assert len(set(content)) == 1


def test_a_failed_write_leaves_the_old_content(tmp_path, monkeypatch) -> None:
    folder = Folder(tmp_path)
    folder.write("file", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        folder.write("file", b"new")
    assert folder.read("file") == b"old"
    assert folder.files() == ["file"]


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path) -> None:
    (tmp_path / "file").touch()
    for location in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SparcError, match=rf"cannot write to {location}: .*; choose another"):
            Folder(location).create()


@pytest.mark.parametrize("location", ["local", "memory://written-by-others"])
def test_what_something_else_writes_is_whole_or_not_there(tmp_path, location) -> None:
    folder = Folder(tmp_path if location == "local" else location)
    with folder.writing("a/b") as path:
        path.write_bytes(b"one")
        assert not folder.exists("a/b")
    assert folder.read("a/b") == b"one"
    with pytest.raises(RuntimeError), folder.writing("a/b") as path:
        fail_in_the_middle(path)
    assert folder.read("a/b") == b"one"
    assert folder.files() == ["a/b"]


def fail_in_the_middle(path: Path) -> None:
    path.write_bytes(b"tw")
    raise RuntimeError
