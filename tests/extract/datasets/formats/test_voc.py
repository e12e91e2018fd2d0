import numpy as np
import pytest
from PIL import Image

from sparc.common import rle
from sparc.common.errors import DatasetError
from sparc.extract.datasets.formats.published.safe_xml import parse_xml


def annotation(file_name, *names):
    objects = "".join(
        f"<object><name>{name}</name><difficult>1</difficult><bndbox><xmin>1</xmin></bndbox>"
        f"<part><name>head</name></part></object>"
        for name in names
    )
    return f"<annotation><filename>{file_name}</filename>{objects}</annotation>"


@pytest.fixture
def voc(tmp_path, paint, write):
    """A dataset in VOC's layout, below a folder."""

    def build(base="VOCdevkit/VOC2012/"):
        paint(tmp_path / base / "JPEGImages", "1.jpg", "2.jpg", "3.jpg")
        write(f"{base}Annotations/1.xml", annotation("1.jpg", "cat", "dog", "cat"))
        write(f"{base}Annotations/2.xml", annotation("2.jpg", "person"))
        for name, content in {
            "train": "2\n1\n",
            "val": "3\n",
            "trainval": "1\n2\n3\n",
            "cat_train": "2 -1\n1  1\n",
            "cat_val": "3  1\n",
            "dog_val": "3 -1\n",
            "sheep_val": "3  0\n",
        }.items():
            write(f"{base}ImageSets/Main/{name}.txt", content)

    return build


@pytest.mark.parametrize("base", ["", "VOCdevkit/VOC2012/"])
def test_splits_and_labels(voc, manifest, labels, base):
    voc(base)
    result = manifest(split="train")
    assert result.dataset_format == "voc"
    assert result.rows["image"].to_pylist() == [f"{base}JPEGImages/{n}.jpg" for n in (2, 1)]
    assert labels(result) == {"2": ["person"], "1": ["cat", "dog"]}
    # The image of this split has no .xml, so the lists of the classes say what is in it.
    assert labels(manifest(split="val")) == {"3": ["cat", "sheep"]}
    assert labels(manifest(split="trainval")).keys() == {"1", "2", "3"}
    used = {entry.what: entry for entry in manifest(split="trainval").account.used}
    assert used[".xml files"].unused == ("object/bndbox",)
    unused = {e.what: e.advice for e in manifest(split="train").account.unused}
    assert unused == {"files of other splits": "--split chooses another"}
    with pytest.raises(DatasetError, match=r"has several splits: .* train, trainval, val"):
        manifest()


def masks_of(result):
    keys = result.classes["key"].to_pylist()
    return [
        (m["sample_id"], keys[m["class_id"]], rle.decode(m["counts"], m["height"], m["width"]))
        for m in result.masks.to_pylist()
    ]


def paletted(numbers, path):
    path.parent.mkdir(exist_ok=True)
    image = Image.fromarray(numbers, mode="P")
    image.putpalette([n % 256 for n in range(768)])
    image.save(path)


def test_masks_of_objects_and_else_of_classes(tmp_path, voc, manifest):
    voc("")
    numbers = np.zeros((6, 8), np.uint8)
    numbers[1:3, 2:5], numbers[4, 1], numbers[5, 5], numbers[0] = 1, 3, 255, 9
    paletted(numbers, tmp_path / "SegmentationObject/1.png")
    of_classes = np.full((6, 8), 15, np.uint8)
    paletted(of_classes, tmp_path / "SegmentationClass/2.png")
    images = {e.what: e.advice for e in manifest(split="trainval").account.unused}
    assert images["images"] == "--masks reads them"
    result = manifest(split="trainval", masks=True)
    first, second, third = masks_of(result)
    assert (first[:2], second[:2], third[:2]) == (("1", "cat"), ("1", "cat"), ("2", "person"))
    np.testing.assert_array_equal(first[2], numbers == 1)
    np.testing.assert_array_equal(second[2], numbers == 3)
    assert third[2].all()
    (bad,) = result.account.left_out
    assert (bad.why, bad.first) == ("its number is that of no object", "number 9")
    with pytest.raises(DatasetError, match=r"no object.*number 9.*without --strict"):
        manifest(split="trainval", masks=True, strict=True)


@pytest.mark.parametrize(
    ("images", "annotations"),
    [("images", "annotations"), ("images", "annotations/xmls"), ("train", "train"), (".", ".")],
)
def test_other_layouts(tmp_path, paint, write, manifest, labels, images, annotations):
    paint(tmp_path / images, "a.png", "b.png", "c.png")
    write(f"{annotations}/a.xml", annotation("a.png", "cat"))
    write(f"{annotations}/other.xml", annotation("B.PNG", "dog"))
    if annotations in ("train", "."):  # beside the images only those of an image's name are taken
        (tmp_path / annotations / "other.xml").rename(tmp_path / annotations / "b.xml")
    result = manifest()
    assert result.dataset_format == "voc"
    assert labels(result) == {"a": ["cat"], "b": ["dog"], "c": []}


def test_one_bad_annotation_is_one_row_without_labels(tmp_path, voc, write, manifest, labels):
    voc("")
    bomb = '<!DOCTYPE a [<!ENTITY x "y"><!ENTITY z "&x;&x;">]><annotation>&z;</annotation>'
    write("Annotations/3.xml", bomb)
    write("Annotations/2.xml", "<annotation><object>")
    write("Annotations/1.xml", annotation("1.jpg", "cat", ""))
    result = manifest(split="trainval")
    assert labels(result) == {"1": ["cat"], "2": [], "3": []}
    assert [(e.file, e.what, e.why.partition(":")[0]) for e in result.account.left_out] == [
        ("Annotations/1.xml", "object", "it has no name"),
        ("Annotations/2.xml", "annotation", "it is not XML"),
        ("Annotations/3.xml", "annotation", "it has entities of its own, which are not read"),
    ]
    with pytest.raises(DatasetError, match=r"Annotations/1\.xml.*without --strict"):
        manifest(split="trainval", strict=True)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b"<a>" * 200 + b"</a>" * 200, "nested"),
        (b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', "entities"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a>&x;</a>', "entities"),
        (b"", "not XML"),
        (b"<a></b>", "not XML"),
    ],
)
def test_xml_is_not_trusted(document, why):
    with pytest.raises(ValueError, match=why):
        parse_xml(document)
