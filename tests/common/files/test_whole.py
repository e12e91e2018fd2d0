"""Subfolders that are there whole or not at all, on a disk and where nothing can be renamed."""

import re
import uuid

import pytest

from sparc.common.files.folder import Folder
from sparc.common.files.whole import (
    remove_half_written,
    remove_whole,
    whole_folders,
    writing_whole,
)

NAME = re.compile("made-[0-9]")


@pytest.fixture(params=["disk", "memory"])
def folder(request, tmp_path) -> Folder:
    return Folder(tmp_path if request.param == "disk" else f"memory://{uuid.uuid4().hex}")


def make(folder: Folder, name: str, content: bytes) -> None:
    with writing_whole(folder, f"all/{name}", "seal") as made:
        made.write("seal", content)
        made.write("b/data", content)


def test_it_is_there_once_it_is_whole(folder: Folder) -> None:
    with writing_whole(folder, "all/made-1", "seal") as made:
        made.write("seal", b"1")
        assert whole_folders(folder, "all", "seal") == []
    make(folder, "made-2", b"2")
    assert whole_folders(folder, "all", "seal") == ["made-1", "made-2"]
    make(folder, "made-1", b"other")
    assert folder.files() == [
        *("all/made-1/b/data", "all/made-1/seal", "all/made-2/b/data", "all/made-2/seal")
    ]
    assert folder.read("all/made-1/b/data") == b"other"
    remove_whole(folder, "all/made-2", "seal")
    remove_whole(folder, "all/made-2", "seal")
    assert whole_folders(folder, "all", "seal") == ["made-1"]


def test_an_error_leaves_what_was_there(folder: Folder) -> None:
    make(folder, "made-1", b"1")
    for name in ("made-1", "made-2"):
        with pytest.raises(RuntimeError), writing_whole(folder, f"all/{name}", "seal") as made:
            fail_in_the_middle(made)
    assert folder.files() == ["all/made-1/b/data", "all/made-1/seal"]
    assert folder.read("all/made-1/seal") == b"1"


def test_the_seal_is_put_last_and_removed_first(monkeypatch) -> None:
    folder = Folder(f"memory://{uuid.uuid4().hex}")
    make(folder, "made-1", b"1")
    make(folder, "made-2", b"2")
    data = "all/made-1/b/data"
    for method, killed_at in (("writing", "all/made-2/seal"), ("remove_files", [data])):
        with monkeypatch.context() as patch:
            patch.setattr(Folder, method, killing(getattr(Folder, method), killed_at))
            with pytest.raises(KeyboardInterrupt):
                make(folder, "made-2" if method == "writing" else "made-1", b"3")
    assert whole_folders(folder, "all", "seal") == []
    assert folder.read("all/made-2/b/data") == b"3"
    remove_half_written(folder, "all", "seal", NAME)
    assert folder.files() == []


def fail_in_the_middle(made: Folder) -> None:
    made.write("seal", b"2")
    raise RuntimeError


def killing(method, killed_at):
    def killed(self, names):
        if killed_at in (names, names[:1]):
            raise KeyboardInterrupt
        return method(self, names)

    return killed


def test_what_killed_processes_left_is_removed_and_nothing_else(folder: Folder) -> None:
    make(folder, "made-1", b"1")
    left = ["made-2.partial", "made-3.removed.partial"] if folder.local else ["made-2"]
    for name in (*left, "made-x", "mine.partial"):
        folder.write(f"all/{name}/data", b"")
    remove_half_written(folder, "all", "seal", NAME)
    assert folder.entries("all") == ["made-1", "made-x", "mine.partial"]
