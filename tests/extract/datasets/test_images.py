"""The one door to images: every format opens, and nothing outside or without end is read.

A reader that hangs or fills memory fails by the timeout, not by patience.
"""

import io
import os
import stat
import tarfile

import pytest
from PIL import Image

from sparc.common.cache.info import ARRAYS_DATASET, CacheInfo
from sparc.common.errors import DatasetError, MissingFileError, SparcError
from sparc.common.images.decoding import ImageError
from sparc.common.images.files import open_image_file
from sparc.extract.datasets.images import CacheImages

pytestmark = pytest.mark.timeout(60)


def info(dataset, dataset_format="folder") -> CacheInfo:
    return CacheInfo(
        dataset=str(dataset),
        dataset_format=dataset_format,
        split="",
        rows=1,
        rows_per_chunk=1,
        manifest_digest="",
        streams=(),
        versions={},
    )


def png(color="red", size=(8, 6)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def dataset(tmp_path):
    for name, color in (("data/a.png", "red"), ("data/sub/b.png", "blue"), ("out/c.png", "lime")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(color))
    (tmp_path / "data/sub/again.png").symlink_to("../a.png")
    return tmp_path / "data"


@pytest.mark.parametrize("dataset_format", ["folder", "coco", "open-images", "of another program"])
def test_an_image_of_a_folder_is_opened_wherever_the_folder_is_now(
    dataset, tmp_path, dataset_format
):
    images = CacheImages(info(dataset, dataset_format))
    assert images.open("a.png").getpixel((0, 0)) == (255, 0, 0)
    assert images.open("sub/again.png").getpixel((0, 0)) == (255, 0, 0)
    dataset.rename(tmp_path / "moved")
    with pytest.raises(DatasetError, match="dataset="):
        CacheImages(info(dataset, dataset_format))
    moved = CacheImages(info(dataset, dataset_format), tmp_path / "moved")
    assert moved.open("sub/b.png").getpixel((0, 0)) == (0, 0, 255)


def hostile(dataset) -> dict[str, str]:
    """Names of a dataset made to harm, and what is said of each."""
    outside = dataset.parent / "out"
    (dataset / "link.png").symlink_to(outside / "c.png")
    (dataset / "linked").symlink_to(outside)
    (dataset / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(dataset / "pipe.png")
    (dataset / "loop.png").symlink_to("loop.png")
    (dataset / "text.png").write_text("no image")
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "BMP")
    claimed = (60_000).to_bytes(4, "little") * 2
    (dataset / "bomb.png").write_bytes(buffer.getvalue()[:18] + claimed + buffer.getvalue()[26:])
    with (dataset / "huge.png").open("wb") as file:
        file.truncate(1 << 42)
    names = {
        "link.png": "leaves", "linked/c.png": "leaves", "../out/c.png": "leaves",
        "sub/../../out/c.png": "leaves", str(outside / "c.png"): "leaves", "/dev/zero": "leaves",
        "zero.png": "leaves", "pipe.png": "not a regular file", "sub": "not a regular file",
        "loop.png": "cannot open", "nul\0.png": "cannot open", "huge.png": "more than",
        "text.png": "not a picture", "bomb.png": "pixels", "none.png": "dataset=",
        "a.png/none": "dataset=", "": "no image",
    }  # fmt: skip
    try:
        os.mknod(dataset / "device.png", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    except (PermissionError, OSError):
        return names  # a common user cannot make one
    return {**names, "device.png": "not a regular file"}


def test_nothing_outside_or_without_end_is_read(dataset):
    names = hostile(dataset)
    images = CacheImages(info(dataset))
    for name, message in names.items():
        with pytest.raises(SparcError, match=message) as caught:
            images.open(name)
        assert str(caught.value).isprintable(), name
    with pytest.raises(DatasetError, match="no image"):
        images.open(None)


def test_an_image_of_a_webdataset_is_a_regular_member_of_a_shard(tmp_path):
    kinds = {
        "link.png": tarfile.SYMTYPE, "hard.png": tarfile.LNKTYPE, "pipe.png": tarfile.FIFOTYPE,
        "device.png": tarfile.CHRTYPE, "block.png": tarfile.BLKTYPE, "folder.png": tarfile.DIRTYPE,
        "sparse.png": tarfile.GNUTYPE_SPARSE,
    }  # fmt: skip
    (tmp_path / "data").mkdir()
    with tarfile.open(tmp_path / "data/0.tar", "w") as archive:
        for name, kind in kinds.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/hostname"
            archive.addfile(member)
        for name in ("a.png", "../up.png", "/root.png"):
            member = tarfile.TarInfo(name)
            member.size = len(png())
            archive.addfile(member, io.BytesIO(png()))
    os.mkfifo(tmp_path / "data/1.tar")
    (tmp_path / "data/2.tar").symlink_to("/dev/zero")
    images = CacheImages(info(tmp_path / "data", "webdataset"))
    assert images.open("0.tar/a.png").size == (8, 6)
    for name in kinds:
        with pytest.raises(MissingFileError, match="dataset="):
            images.open(f"0.tar/{name}")
    for name, message in {
        "0.tar/../up.png": "leaves", "0.tar//root.png": "leaves", "1.tar/a.png": "not a regular",
        "2.tar/a.png": "leaves", "../0.tar/a.png": "leaves", "3.tar/a.png": "dataset=",
        "a.png": "shard.tar/member",
    }.items():  # fmt: skip
        with pytest.raises(DatasetError, match=message):
            images.open(name)


def test_a_cache_without_a_folder_says_what_to_give(dataset):
    with pytest.raises(DatasetError, match=r"arrays.*dataset="):
        CacheImages(info(ARRAYS_DATASET, ARRAYS_DATASET))
    assert CacheImages(info(ARRAYS_DATASET, ARRAYS_DATASET), dataset).open("a.png")
    with pytest.raises(DatasetError, match=r"is a URL.*dataset="):
        CacheImages(info("http://example.org/images"))


def test_a_file_that_the_user_names_is_regular_and_of_bounded_size(dataset):
    hostile(dataset)
    assert open_image_file(dataset / "link.png").getpixel((0, 0)) == (0, 255, 0)
    for name, message in {
        "pipe.png": "regular file", "zero.png": "regular file", "huge.png": "regular file",
        "sub": "is a folder", "none.png": "there is no image", "text.png": "not a picture",
        "loop.png": "is not a regular file", "bomb.png": "pixels",
    }.items():  # fmt: skip
        with pytest.raises(ImageError, match=message) as caught:
            open_image_file(dataset / name)
        assert str(caught.value).count(str(dataset)) == 1
