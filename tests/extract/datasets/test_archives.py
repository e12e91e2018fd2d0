import re
import stat
import threading
import zipfile

import pytest

from sparc.common.errors import DatasetError
from sparc.extract.datasets import DatasetOptions, open_dataset
from sparc.extract.datasets.archives import archive
from sparc.extract.datasets.folders.local import LocalFolder


@pytest.fixture
def pack(tmp_path, paint):
    """Packs files, by name, into an archive; images are painted."""

    def write(name, *images, method=zipfile.ZIP_DEFLATED, **files):
        source = tmp_path / "packed"
        paint(source, *images)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(tmp_path / name, "w", method) as file:
            for image in images:
                file.write(source / image, image)
            for path, content in files.items():
                file.writestr(path.replace("__", "/").replace("_dot_", "."), content)
        return {image: (source / image).read_bytes() for image in images}

    return write


TABLE = "file_name,text\n0.jpg,x\n1.jpg,y\n"


def read(location, **options):
    dataset = open_dataset(location, DatasetOptions(**options))
    return dataset, dataset.manifest()


def test_a_table_beside_the_archive_of_its_images(tmp_path, pack, captions):
    content = pack("data/images.zip", "0.jpg", "1.jpg")
    (tmp_path / "data/metadata.csv").write_text(TABLE)
    dataset, manifest = read(tmp_path / "data")
    assert captions(manifest) == [("0.jpg", "x"), ("1.jpg", "y")]
    assert dataset.read_image("1.jpg") == content["1.jpg"]
    assert [e.what for e in manifest.account.used] == ["metadata.csv", "images.zip"]
    assert not manifest.account.unused
    # A cache that was made of the archive is right for the unpacked folder as well.
    (tmp_path / "data/images.zip").unlink()
    (tmp_path / "packed/1.jpg").rename(tmp_path / "data/1.jpg")
    assert open_dataset(tmp_path / "data", DatasetOptions()).read_image("1.jpg") == content["1.jpg"]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_is_a_dataset(tmp_path, pack, captions, method):
    files = {"train__metadata_dot_csv": TABLE, "__MACOSX__train__._0_dot_jpg": "x"}
    content = pack("data.zip", "train/0.jpg", "train/1.jpg", "test/2.jpg", method=method, **files)
    dataset, manifest = read(tmp_path / "data.zip", split="train")
    assert captions(manifest) == [("train/0.jpg", "x"), ("train/1.jpg", "y")]
    assert manifest.dataset == str(tmp_path / "data.zip")
    got = {}
    threads = [
        threading.Thread(target=lambda n=name: got.update({n: dataset.read_image(n)}))
        for name in [*content] * 5
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == content


def test_archives_of_coco(tmp_path, pack, captions):
    pack("train2017.zip", "train2017/1.jpg")
    document = '{"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [%s]}'
    caption = '{"image_id": 1, "caption": "a fish"}'
    annotations = {"annotations__captions_train2017_dot_json": document % caption}
    pack("annotations_trainval2017.zip", **annotations)
    for image in (tmp_path / "packed/train2017").iterdir():
        image.unlink()
    _, manifest = read(tmp_path)
    assert manifest.dataset_format == "coco"
    assert captions(manifest) == [("train2017/1.jpg", "a fish")]


def test_beside_images_an_archive_is_not_read(tmp_path, pack, paint):
    pack("data/images.zip", "0.jpg", "1.jpg")
    paint(tmp_path / "data/images", "0.jpg")
    _, manifest = read(tmp_path / "data")
    assert len(manifest.rows) == 1
    (unused,) = manifest.account.unused
    assert (unused.what, unused.advice.partition(":")[0]) == ("images.zip", "unpack it")


def test_names_never_lead_out(tmp_path, capsys):
    link = zipfile.ZipInfo("link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name in ("../b.jpg", "/c.jpg", "x/../../d.jpg", "e//f.jpg", "C:\\g.jpg", "good\\h.jpg"):
            file.writestr(name, "x")
        file.writestr(link, "/etc/passwd")
        file.writestr("good/K\u00e4se.jpg", "cheese")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    for header, place in ((b"PK\x03\x04", 7), (b"PK\x01\x02", 9)):  # as macOS writes: no flag
        for start in re.finditer(re.escape(header), data):
            data[start.start() + place] &= ~8
    (tmp_path / "a.zip").write_bytes(data)
    folder = LocalFolder(tmp_path / "a.zip")
    assert folder.images == ["good/K\u00e4se.jpg", "good/h.jpg"]
    assert "6 members left out" in capsys.readouterr().err
    for name in ("../b.jpg", "/c.jpg", "link.jpg", "absent.jpg"):
        with pytest.raises(DatasetError):
            folder.read(name)


def test_bombs_are_bounded(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb.jpg", bytes(5_000_000))
        file.writestr("metadata.csv", bytes(5_000_000))
    folder = LocalFolder(tmp_path / "a.zip")
    with pytest.raises(DatasetError, match=r"bomb\.jpg has 5\.0 MB, more than 1\.0 MB"):
        folder.read("bomb.jpg", largest=1_000_000)
    monkeypatch.setattr(archive, "LARGEST_UNPACKED", 1_000_000)
    with pytest.raises(DatasetError, match=r"metadata\.csv has 5\.0 MB"):
        folder.path("metadata.csv")
    # A member that is longer than the archive says.
    data = bytearray((tmp_path / "a.zip").read_bytes())
    size = (5_000_000).to_bytes(4, "little")
    (tmp_path / "b.zip").write_bytes(data.replace(size, (5).to_bytes(4, "little")))
    with pytest.raises(DatasetError, match=r"cannot read bomb\.jpg"):
        LocalFolder(tmp_path / "b.zip").read("bomb.jpg")


def test_what_cannot_be_read_in_place_is_said(tmp_path, pack, capsys):
    pack("data/good.zip", "0.jpg")
    data = (tmp_path / "data/good.zip").read_bytes()
    (tmp_path / "data/cut.zip").write_bytes(data[: len(data) // 2])
    pack("data/odd.zip", "1.jpg", method=zipfile.ZIP_LZMA)
    encrypted = bytearray(data)
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "data/secret.zip").write_bytes(encrypted)
    _, manifest = read(tmp_path / "data")
    assert manifest.rows["image"].to_pylist() == ["0.jpg"]
    said = capsys.readouterr().err
    for message in ("cut.zip is no zip", "odd.zip is compressed in an unu", "secret.zip is encryp"):
        assert message in said
    assert [e.what for e in manifest.account.unused] == ["cut.zip", "odd.zip", "secret.zip"]
    with pytest.raises(DatasetError, match=r"secret\.zip is encrypted: unpack it with its passwo"):
        list(LocalFolder(tmp_path / "data/secret.zip").files)


def test_two_files_for_one_path_are_refused_by_name(tmp_path, pack):
    pack("data/part1.zip", "0.jpg")
    pack("data/part2.zip", **{"0_dot_jpg": "another"})
    with pytest.raises(
        DatasetError, match=r"part1\.zip and part2\.zip hold different files '0\.jpg'"
    ):
        read(tmp_path / "data")
    with zipfile.ZipFile(tmp_path / "data/val.zip", "w") as file:
        file.writestr("a.jpg", "x")
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("a.jpg", "y")
    with pytest.raises(DatasetError, match=r"holds two different files 'a\.jpg'"):
        list(LocalFolder(tmp_path / "data/val.zip").files)


def test_archives_called_after_splits_are_splits(tmp_path, pack):
    pack("data/train.zip", "0.jpg", "1.jpg")
    pack("data/val.zip", "0.jpg")
    with pytest.raises(DatasetError, match="choose one with --split: train, val"):
        read(tmp_path / "data")
    files = LocalFolder(tmp_path / "data").files
    assert files == ["train.zip", "train/0.jpg", "train/1.jpg", "val.zip", "val/0.jpg"]


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a.tar", "--format webdataset"),
        ("a.tar.gz", "tar -xf a.tar.gz"),
        ("a.csv", "--table"),
        ("captions.json", "--table"),
        ("a.parquet", "--table"),
        ("a.7z", "unpack it"),
        ("a.pkl", "a pickle can run code"),
        ("a.npz", "sparc-extract import"),
        ("a.jpg", "give the folder that holds the dataset"),
    ],
)
def test_a_dataset_that_is_a_file_is_answered_with_what_to_type(tmp_path, name, advice):
    (tmp_path / name).touch()
    with pytest.raises(DatasetError, match=rf"{name} is not a folder: .*{advice}"):
        LocalFolder(tmp_path / name)
