"""Names in the metadata stand for one file, or for none, or are refused."""

import unicodedata

import pytest

from sparc.common.errors import DatasetError
from sparc.extract.datasets.names import Names

FILES = (
    "images/a.jpg",
    "images/deep/B Ü.JPG",
    "train/1.png",
    "val/1.png",
    "val/2.png",
    "50%25.png",
    "x/same.jpg",
    "y/same.jpg",
)
DECOMPOSED = unicodedata.normalize("NFD", "B Ü.JPG")


@pytest.mark.parametrize(
    ("name", "file", "how"),
    [
        ("images/a.jpg", "images/a.jpg", None),
        ("./images//a.jpg", "images/a.jpg", None),
        ("50%25.png", "50%25.png", None),
        ("images\\a.jpg", "images/a.jpg", "backslashes"),
        ("images\\DEEP\\b ü.jpg", "images/deep/B Ü.JPG", "backslashes"),
        ("C:\\data\\images\\a.jpg", "images/a.jpg", "backslashes"),
        ("/home/me/images/a.jpg", "images/a.jpg", "the path of another machine or folder"),
        ("/home/me/pictures/a.jpg", "images/a.jpg", "the path of another machine or folder"),
        ("file:///home/me/val/1.png", "val/1.png", "the path of another machine or folder"),
        ("../val/2.png", "val/2.png", "the path of another machine or folder"),
        ("images/A.JPG", "images/a.jpg", "case"),
        (f"images/deep/{DECOMPOSED}", "images/deep/B Ü.JPG", "Unicode form"),
        ("images/deep/B%20%C3%9C.JPG", "images/deep/B Ü.JPG", "percent encoding"),
        ("50%.png", "50%25.png", "percent encoding"),
        ("images/a", "images/a.jpg", "suffix"),
        ("images/a.png", "images/a.jpg", "suffix"),
        ("a.jpg", "images/a.jpg", "folder"),
        ("data/images/a.jpg", "images/a.jpg", "folder"),
        # Another folder is another image; a beginning or end of a name is not the name.
        ("test/1.png", None, None),
        ("b/images/a2.jpg", None, None),
        ("mages/a.jpg", None, None),
        ("", None, None),
        ("../..", None, None),
        ("/", None, None),
    ],
)
def test_the_one_file_that_fits(name, file, how) -> None:
    names = Names(FILES, "here")
    assert names.resolve(name) == file
    assert [entry.how for entry in names.resolved()] == ([] if how is None else [how])


@pytest.mark.parametrize("name", ["1.png", "/elsewhere/1.png", "SAME.JPG", "1"])
def test_of_two_files_none_is_chosen(name) -> None:
    with pytest.raises(DatasetError, match=r"may be '.*(1\.png|same\.jpg)' or '.*'"):
        Names(FILES, "here").resolve(name)


def test_folders_that_a_name_may_be_relative_to_come_first_and_may_be_the_only_ones() -> None:
    names = Names(FILES, "here")
    assert names.resolve("1.png", below=("val/",)) == "val/1.png"
    assert names.resolve("1.PNG", below=("train/",)) == "train/1.png"
    assert names.resolve("2.png", below=("train/",)) is None
    assert names.resolve("2.png", below=("train/", "")) == "val/2.png"
    assert [(entry.how, entry.names) for entry in names.resolved()] == [("case", 1), ("folder", 1)]


def test_what_differs_alike_is_counted_with_the_first_example() -> None:
    names = Names(["a.jpg", "b.jpg"], "here")
    assert [names.resolve(name) for name in ("A.jpg", "B.jpg", "c.jpg")] == ["a.jpg", "b.jpg", None]
    (entry,) = names.resolved()
    assert (entry.how, entry.names, entry.example, entry.file) == ("case", 2, "A.jpg", "a.jpg")
