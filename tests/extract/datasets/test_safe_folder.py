import os
import socket
from pathlib import Path

import pytest

from sparc.common.errors import DatasetError
from sparc.extract.datasets import DatasetOptions, open_dataset
from sparc.extract.datasets.folders.local import LocalFolder
from sparc.extract.datasets.safe_folder import split_suffix


@pytest.fixture
def dataset(tmp_path, paint) -> Path:
    paint(tmp_path, "data/a.png", "outside/secret.png")
    return tmp_path / "data"


@pytest.mark.parametrize(
    "name",
    [
        "../outside/secret.png",
        "sub/../../outside/secret.png",
        "/etc/hostname",
        "link.png",
        "linked/secret.png",
        "link_to_device.png",
        "nul\0.png",
        "..",
    ],
)
def test_nothing_outside_is_read(dataset, name):
    (dataset / "sub").mkdir()
    (dataset / "link.png").symlink_to(dataset.parent / "outside/secret.png")
    (dataset / "linked").symlink_to(dataset.parent / "outside")
    (dataset / "link_to_device.png").symlink_to("/dev/zero")
    with pytest.raises(DatasetError, match=r"leaves the dataset's folder|cannot open") as caught:
        LocalFolder(dataset).read(name)
    assert caught.value.args[0].isprintable()


def test_metadata_may_name_what_leaves_but_it_cannot_be_read(dataset):
    text = "file_name,text\na.png,A\n../outside/secret.png,up\n/etc/passwd,absolute\n"
    (dataset / "metadata.csv").write_text(text)
    opened = open_dataset(dataset, DatasetOptions())
    images = opened.manifest().rows["image"].to_pylist()
    assert images == ["a.png", "../outside/secret.png", "/etc/passwd"]
    assert opened.read_image("a.png").startswith(b"\x89PNG")
    for image in images[1:]:
        with pytest.raises(DatasetError, match="leaves the dataset's folder"):
            opened.read_image(image)


def test_metadata_that_is_a_link_outside_is_not_read(dataset):
    outside = dataset.parent / "captions.csv"
    outside.write_text("file_name,text\na.png,A\n")
    (dataset / "metadata.csv").symlink_to(outside)
    rows = open_dataset(dataset, DatasetOptions()).manifest().rows
    assert rows["caption"].to_pylist() == [None]


def test_special_files_are_neither_listed_nor_read(dataset, monkeypatch):
    os.mkfifo(dataset / "pipe.png")
    (dataset / "loop.png").symlink_to("loop.png")
    monkeypatch.chdir(dataset)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.png")
        folder = LocalFolder(dataset)
        assert folder.images == ["a.png"]
        for name in ("pipe.png", "socket.png", ""):
            with pytest.raises(DatasetError, match="is not a regular file"):
                folder.read(name)
        with pytest.raises(DatasetError, match=r"cannot open loop\.png"):
            folder.read("loop.png")


def test_links_are_followed_within_the_folder_alone(dataset, capsys):
    (dataset / "again.png").symlink_to("a.png")
    (dataset / "round").symlink_to(".")
    (dataset / "out.png").symlink_to(dataset.parent / "outside/secret.png")
    (dataset / "outside").symlink_to(dataset.parent / "outside")
    folder = LocalFolder(dataset)
    assert folder.images == ["a.png", "again.png"]
    assert "2 links out of the folder left out" in capsys.readouterr().err
    assert folder.read("again.png") == folder.read("a.png")


def test_the_folder_itself_may_be_a_link(dataset):
    link = dataset.parent / "link"
    link.symlink_to(dataset)
    assert LocalFolder(link).read("a.png")


def test_names_that_are_not_utf8_are_left_out_and_said(dataset, capsys):
    (dataset / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    assert LocalFolder(dataset).images == ["a.png"]
    assert "1 name not in UTF-8" in capsys.readouterr().err


def test_a_folder_must_be_there(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="there is no dataset folder"):
        open_dataset(tmp_path / "none", DatasetOptions())
    with pytest.raises(DatasetError, match="is not a folder"):
        open_dataset(tmp_path / "file", DatasetOptions())
    with pytest.raises(DatasetError, match="there is nothing below memory://none"):
        open_dataset("memory://none", DatasetOptions())
    with pytest.raises(DatasetError, match="cannot open nothing://known: Protocol not known"):
        open_dataset("nothing://known", DatasetOptions())


def test_a_file_that_claims_to_be_huge_is_not_read(tmp_path):
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(1 << 42)  # takes no room on the disk
    with pytest.raises(DatasetError, match=r"huge.png has 4.4 TB, more than 1.1 GB"):
        LocalFolder(tmp_path).read("huge.png")


def test_files_beside_images_are_read_without_following_links(dataset):
    (dataset / "a.txt").write_text("beside")
    (dataset / "b.txt").symlink_to("a.txt")
    (dataset / "c.txt").symlink_to(dataset.parent / "outside/secret.png")
    (dataset / "metadata.csv").touch()
    folder = LocalFolder(dataset)
    assert folder.loose == ["b.txt", "metadata.csv"]
    assert folder.read_beside("a.txt", largest=9) == folder.read_beside("b.txt", largest=9)
    for name, message in (("c.txt", "leaves the dataset"), ("metadata.csv/x", "cannot open")):
        with pytest.raises(DatasetError, match=message):
            folder.read_beside(name, largest=9)
    with pytest.raises(DatasetError, match="more than"):
        folder.read_beside("a.txt", largest=2)
    assert folder.opened == {"a.txt", "b.txt"}


@pytest.mark.parametrize("name", ["a/b.JPG", "a.b/c", ".x", "a/..x.y", "a/.b.c", "a.", "", "a/."])
def test_suffixes_are_those_of_the_library(name):
    stem, suffix = os.path.splitext(name)
    assert split_suffix(name) == (stem, suffix.lower())
