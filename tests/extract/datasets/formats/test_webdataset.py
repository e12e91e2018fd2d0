import io
import json
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from sparc.common.errors import DatasetError
from sparc.extract.datasets import DatasetOptions, open_dataset


@pytest.fixture
def shard(tmp_path):
    """Writes a tar file of these members."""

    def write(name, members, **how):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, "w", **how) as archive:
            for member, content in members.items():
                content = content.encode() if isinstance(content, str) else content
                header = tarfile.TarInfo(member)
                header.size = len(content)
                archive.addfile(header, io.BytesIO(content))
        return path

    return write


def test_shards_of_img2dataset(tmp_path, shard, manifest, captions):
    (tmp_path / "00000.parquet").write_bytes(b"not read")
    (tmp_path / "00000_stats.json").write_text("{}")
    shard("00001.tar", {"000010000.png": b"three", "000010000.txt": ""})
    shard(
        "00000.tar",
        {
            "000000000.jpg": b"one",
            "000000000.json": json.dumps({"caption": "of json", "key": "000000000"}),
            "000000000.txt": "of text\nin one caption",
            "000000001.webp": b"two",
            "000000001.json": json.dumps({"caption": ["first", "second"]}),
            "000000002.txt": "no image",
            "000000003.jpg": b"bare",
            "000000003.json": json.dumps({"caption": None}),
            "000000004.jpg": b"empty",
            "000000004.txt": " ",
            "000000004.json": json.dumps({"caption": "instead"}),
        },
    )
    result = manifest()
    assert result.dataset_format == "webdataset"
    assert captions(result) == [
        ("00000.tar/000000000.jpg", "of text\nin one caption"),
        ("00000.tar/000000001.webp", "first"),
        ("00000.tar/000000001.webp", "second"),
        ("00000.tar/000000003.jpg", None),
        ("00000.tar/000000004.jpg", "instead"),
        ("00001.tar/000010000.png", None),
    ]
    assert result.rows["sample_id"][0].as_py() == "000000000"
    opened = open_dataset(tmp_path, DatasetOptions())
    assert opened.read_image("00001.tar/000010000.png") == b"three"  # without a manifest before
    assert opened.read_image("00000.tar/000000003.jpg") == b"bare"


def test_keys_that_repeat_between_shards(shard, manifest):
    shard("a.tar", {"x/0.jpg": b"1", "x/0.seg.png": b"1b"})
    shard("b.tar", {"./x/0.jpg": b"2", "x/0.txt": "caption"})
    rows = manifest().rows
    assert rows["sample_id"].to_pylist() == ["a/x/0", "b/x/0"]
    assert rows["image"].to_pylist() == ["a.tar/x/0.jpg", "b.tar/x/0.jpg"]
    assert rows["caption"].to_pylist() == [None, "caption"]


def test_subfolders_are_splits(shard, manifest, captions):
    shard("train/0.tar", {"a.jpg": b"1"})
    shard("test/0.tar", {"b.jpg": b"2"})
    assert captions(manifest(split="test")) == [("test/0.tar/b.jpg", None)]
    with pytest.raises(DatasetError, match="--split: test, train"):
        manifest()


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_images_are_read_by_many_threads(tmp_path, shard, kind):
    long = "deep/" * 40
    contents = {f"{long}{n:04}.png": bytes([n % 256]) * (n + 1) for n in range(200)}
    shard("0.tar", dict(list(contents.items())[:100]), format=kind)
    shard("1.tar", dict(list(contents.items())[100:]), format=kind)
    opened = open_dataset(tmp_path, DatasetOptions())
    images = opened.manifest().rows["image"].to_pylist()
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(opened.read_image, images))
    assert read == list(contents.values())


def test_members_that_are_no_regular_files_are_none(tmp_path, shard):
    path = shard("0.tar", {"a.jpg": b"1", "../up.jpg": b"2", "/abs.jpg": b"3"})
    with tarfile.open(path, "a") as archive:
        for name, kind in (("l", tarfile.SYMTYPE), ("h", tarfile.LNKTYPE), ("d", tarfile.CHRTYPE)):
            header = tarfile.TarInfo(f"{name}.jpg")
            header.type, header.linkname = kind, "/etc/passwd"
            archive.addfile(header)
    opened = open_dataset(tmp_path, DatasetOptions())
    images = opened.manifest().rows["image"].to_pylist()
    assert images == ["0.tar/a.jpg", "0.tar/../up.jpg", "0.tar//abs.jpg"]
    assert opened.read_image("0.tar/a.jpg") == b"1"
    for image in (*images[1:], "0.tar/l.jpg", "../0.tar/a.jpg", "a.jpg", "none.tar/a.jpg"):
        with pytest.raises(DatasetError):
            opened.read_image(image)


def test_a_shard_that_is_a_link_outside_is_not_read(tmp_path, shard, manifest):
    shard("good.tar", {"a.jpg": b"1"})
    (tmp_path / "bad.tar").symlink_to("/dev/zero")
    assert manifest().rows.num_rows == 1
    with pytest.raises(DatasetError, match="leaves the dataset's folder"):
        open_dataset(tmp_path, DatasetOptions()).read_image("bad.tar/a.jpg")


def test_damaged_shards_are_named(tmp_path, shard, manifest):
    path = shard("00000.tar", {f"{n}.jpg": bytes([n]) * 3000 for n in range(10)})
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[3584 + 2 : 3584 + 90] = b"?" * 88  # the second header
    for content, message in (
        (whole[:8000], "cut off|unexpected end"),
        (bytes(damaged), "damaged at byte 3,584"),
        (b"", "empty"),
        (b"no tar at all" * 100, "not readable as tar"),
    ):
        path.write_bytes(content)
        with pytest.raises(
            DatasetError, match=rf"00000\.tar is not readable as tar.*({message})|{message}"
        ):
            manifest()


def test_broken_texts(tmp_path, shard, manifest, captions, capsys):
    shard("0.tar", {"a.jpg": b"1", "a.txt": b"caf\xe9"})
    assert captions(manifest()) == [("0.tar/a.jpg", "caf�")]
    assert "replaced in 1 text" in capsys.readouterr().err
    shard("0.tar", {"a.jpg": b"1", "a.json": "{"})
    with pytest.raises(DatasetError, match=r"0\.tar/a\.json is not JSON"):
        manifest()
    shard("0.tar", {"a.jpg": b"1", "a.json": '{"caption": 5}'})
    with pytest.raises(DatasetError, match=r"0\.tar/a\.json: caption must be text"):
        manifest()


def test_shards_without_images(shard, manifest):
    shard("0.tar", {"a.txt": "x"})
    with pytest.raises(DatasetError, match="has no images"):
        manifest()


def test_a_header_that_claims_to_be_huge_is_not_read(tmp_path, shard, manifest):
    """A sparse shard with a pax header of a terabyte: whoever reads it is out of memory."""
    good = shard("0.tar", {"a.png": b"x"}).read_bytes()
    header = tarfile.TarInfo("pax")
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
        header.type, header.size = kind, 1 << 40
        path = tmp_path / "0.tar"
        path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + good)
        with path.open("r+b") as file:
            file.truncate((1 << 40) + len(good) + 512)
        with pytest.raises(DatasetError, match=r"0.tar is not readable .* a header has 1.1 TB"):
            manifest()


def test_an_image_that_claims_to_be_huge_is_not_read(tmp_path, shard, manifest):
    path = shard("0.tar", {"a.png": b"x"})
    header = tarfile.TarInfo("b.png")
    header.size = 1 << 40
    with path.open("r+b") as file:
        file.seek(1024)
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.truncate(1536 + (1 << 40) + 1024)
    dataset = open_dataset(tmp_path, DatasetOptions())
    assert dataset.manifest().rows["image"].to_pylist() == ["0.tar/a.png", "0.tar/b.png"]
    assert dataset.read_image("0.tar/a.png") == b"x"
    with pytest.raises(DatasetError, match=r"b.png has 1.1 TB, more than 1.1 GB"):
        dataset.read_image("0.tar/b.png")
