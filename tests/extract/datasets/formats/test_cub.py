import pytest

from sparc.common.errors import DatasetError

LISTS = {
    "images.txt": "1 001.Red_Bird/a.jpg\n2 001.Red_Bird/b.jpg\n3 002.Owl/c.jpg\n",
    "image_class_labels.txt": "1 1\n2 1\n3 2\n",
    "classes.txt": "1 001.Red_Bird\n2 002.Owl\n",
    "train_test_split.txt": "1 1\n2 0\n3 1\n",
    "attributes/image_attribute_labels.txt": "1 1 1 3 0.5\n1 2 0 3 0.5\n2 1 0 4 1 0 9\n3 2 1 3 1\n",
}


@pytest.fixture
def cub(tmp_path, paint, write):
    """A folder in the form of CUB."""

    def build(base="CUB_200_2011/", attributes="attributes.txt", **lists):
        paint(
            tmp_path / base / "images", "001.Red_Bird/a.jpg", "001.Red_Bird/b.jpg", "002.Owl/c.jpg"
        )
        for name, content in {**LISTS, **lists}.items():
            write(f"{base}{name}", content)
        write(attributes, "1 has_bill::curved\n2 has_size::small (5 - 9 in)\n")

    return build


@pytest.mark.parametrize("base", ["CUB_200_2011/", ""])
def test_classes_splits_and_attributes(cub, manifest, labels, base):
    cub(base)
    result = manifest(split="train")
    assert result.dataset_format == "cub"
    assert result.rows["image"].to_pylist() == [
        f"{base}images/001.Red_Bird/a.jpg",
        f"{base}images/002.Owl/c.jpg",
    ]
    assert labels(result) == {"1": ["Red Bird"], "3": ["Owl"]}
    unused = {e.what: e.advice for e in result.account.unused}
    attributes = f"{base}attributes/image_attribute_labels.txt"
    assert unused[attributes] == "--column all keeps the attributes"
    assert unused[f"{base}images/001.Red_Bird/b.jpg"] == "--split chooses another"
    kept = manifest(split="train", columns=("has_bill::curved",))
    assert kept.rows["has_bill::curved"].to_pylist() == [True, None]
    (used,) = (e for e in kept.account.used if e.what == attributes)
    assert (used.used, used.unused) == (("has_bill::curved",), ("has_size::small (5 - 9 in)",))
    of_test = manifest(split="test", columns=("all",)).rows
    assert of_test["has_bill::curved"].to_pylist() == [False]


def test_the_hierarchy_of_nabirds(cub, manifest):
    cub(
        **{
            "hierarchy.txt": "1 10\n2 11\n10 0\n11 0\n",
            "classes.txt": "0 Birds\n1 Red\n10 Finches\n",
        }
    )
    classes = manifest(split="train").classes.to_pylist()
    assert [(c["key"], c["name"], c["depth"]) for c in classes] == [
        ("10", "Finches", 1),
        ("1", "Red", 2),
        ("11", "11", 1),
        ("2", "2", 2),
    ]


def test_bad_lines(cub, manifest, labels):
    cub(**{"image_class_labels.txt": "1 1\n2\n", "train_test_split.txt": ""})
    result = manifest()
    assert labels(result) == {"1": ["Red Bird"], "2": [], "3": []}
    assert [(e.what, e.records, e.first) for e in result.account.left_out] == [
        ("line", 1, "line 2"),
        ("label", 2, "image 2"),
    ]
    cub(**{"images.txt": "1 001.Red_Bird/a.jpg\n1 002.Owl/c.jpg\n"})
    with pytest.raises(
        DatasetError, match=r"line 2: '1' occurs twice, as '001\.Red_Bird/a\.jpg' and"
    ):
        manifest(split="train")
