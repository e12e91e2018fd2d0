"""What a person may type for a dataset: folders, URLs, patterns and lists of shards."""

import pytest

from sparc.common.errors import DatasetError
from sparc.extract.datasets.folders import locations
from sparc.extract.datasets.folders.locations import parse_location


def test_patterns_and_lists_of_shards_are_understood_as_webdataset_has_them(tmp_path):
    for typed, root, files in (
        ("s3://b/data/{00008..00010}.tar", "s3://b/data", ["00008.tar", "00009.tar", "00010.tar"]),
        ("s3://b/{x,y}-{1..2}.tar", "s3://b", ["x-1.tar", "x-2.tar", "y-1.tar", "y-2.tar"]),
        ("gs://b/a/{0..1}.tar::gs://b/c/7.tar", "gs://b", ["a/0.tar", "a/1.tar", "c/7.tar"]),
        ("https://h.org/d/0.tar", "https://h.org/d", ["0.tar"]),
        ("/data/{0..1}.tar::/data/{0..1}.tar", "/data", ["0.tar", "1.tar"]),
    ):
        location = parse_location(typed)
        assert (location.root, sorted(location.chosen.files)) == (root, files)
        assert location.name == typed
    listed = tmp_path / "shards.txt"
    listed.write_text("# of today\ns3://b/d/1.tar\n\n  s3://b/d/0.tar  \n", encoding="utf-8")
    location = parse_location(f"@{listed}")
    assert (location.root, sorted(location.chosen.files)) == ("s3://b/d", ["0.tar", "1.tar"])
    folder = parse_location("s3://b/data/")
    assert (folder.name, folder.root, folder.chosen) == ("s3://b/data/", "s3://b/data", None)


def test_relative_patterns_are_recorded_so_that_they_hold_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "a{0..1}").mkdir()
    monkeypatch.chdir(tmp_path)
    assert parse_location("{0..1}.tar").name == f"{tmp_path}/{{0..1}}.tar"
    assert parse_location("{0..1}.tar").root == "."
    assert parse_location("a{0..1}").chosen is None  # a folder of that very name
    (tmp_path / "list").write_text("x.tar\n")
    location = parse_location("@list")
    assert (location.name, location.root) == (f"@{tmp_path}/list", ".")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("s3://a/0.tar::s3://b/1.tar", r"several stores, such as s3://a/0.tar and s3://b/1.tar"),
        ("s3://a/{0..1}.tar::/here/2.tar", "some shards lie here, others behind a URL"),
        ("simplecache::s3://a/0.tar", "simplecache is not called like a tar shard"),
        ("s3://a/{x,y}", "s3://a/x is not called like a tar shard"),
        ("s3://a/{0..9.tar::s3://a/1.tar}", "its braces do not match"),
        ("s3://a/{0..2000}.tar", "more than 1,000 shards"),
        ("@nowhere.txt", "cannot read the list of shards nowhere.txt: No such file"),
        ("https://name:secret@host/data/{0..1}.tar", "credentials"),
        ("https://host/0.tar?X-Amz-Signature=secret", "credentials"),
        ("s3://key:secret@bucket/data", "credentials"),
    ],
)
def test_what_cannot_be_meant_is_refused(typed, message, monkeypatch):
    monkeypatch.setattr(locations, "MOST_SHARDS", 1000)
    with pytest.raises(DatasetError, match=message) as caught:
        parse_location(typed)
    assert "secret" not in str(caught.value)
