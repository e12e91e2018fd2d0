import pytest

from sparc.common.errors import DatasetError

TEXT = """4
Male Smiling Young
1.jpg  1 -1  1
2.jpg -1 -1 -1
3.jpg -1  1  1
4.jpg  1  1 -1
"""
TABLE = "image_id,Male,Smiling,Young\n1.jpg,1,-1,1\n2.jpg,-1,-1,-1\n3.jpg,-1,1,1\n4.jpg,1,1,-1\n"


@pytest.fixture
def celeba(tmp_path, paint, write):
    """A folder in the form of CelebA, its lists as text or as tables."""

    def build(suffix="txt", images="img_align_celeba"):
        paint(tmp_path / images, "1.jpg", "2.jpg", "3.jpg", "4.jpg")
        is_text = suffix == "txt"
        write(f"list_attr_celeba.{suffix}", TEXT if is_text else TABLE)
        lines = {"1.jpg": 0, "2.jpg": 0, "3.jpg": 1, "4.jpg": 2}.items()
        text = "".join(f"{name}{' ' if is_text else ','}{value}\n" for name, value in lines)
        write(f"list_eval_partition.{suffix}", text if is_text else f"image_id,partition\n{text}")
        write("identity_CelebA.txt", "1.jpg 7\n2.jpg 7\n3.jpg 8\n4.jpg 9\n")

    return build


@pytest.mark.parametrize("suffix", ["txt", "csv"])
@pytest.mark.parametrize("images", ["img_align_celeba/img_align_celeba", "elsewhere"])
def test_labels_columns_and_splits(tmp_path, celeba, paint, manifest, labels, suffix, images):
    celeba(suffix, images)
    paint(tmp_path / "img_celeba", "other.jpg")
    result = manifest(split="train", columns=("all",))
    assert (result.dataset_format, result.split) == ("celeba", "train")
    assert labels(result) == {"1": ["Male", "Young"], "2": []}
    names = ["image", "Male", "Smiling", "Young", "identity"]
    assert result.rows.select(names).to_pylist() == [
        dict(zip(names, values, strict=True))
        for values in (
            (f"{images}/1.jpg", True, False, True, "7"),
            (f"{images}/2.jpg", False, False, False, "7"),
        )
    ]
    assert labels(manifest(split="validation")) == {"3": ["Smiling", "Young"]}
    unused = {e.what: e.advice for e in manifest(split="test").account.unused}
    assert unused == {
        "identity_CelebA.txt": "--column identity keeps the person",
        "img_celeba/other.jpg": "",
        "files of other splits": "--split chooses another",
    }


def test_without_partition_persons_are_held_out_whole(tmp_path, celeba, manifest):
    celeba()
    (tmp_path / "list_eval_partition.txt").unlink()
    assert manifest().rows.num_rows == 4
    parts = [
        {
            *manifest(holdout=0.5, holdout_by="identity", split=split, columns=("identity",))
            .rows["identity"]
            .to_pylist()
        }
        for split in ("train", "test")
    ]
    assert sorted(parts[0] | parts[1]) == ["7", "8", "9"]
    assert not parts[0] & parts[1]


def test_one_bad_line_is_one_omission(celeba, write, manifest, labels):
    celeba()
    write("list_attr_celeba.txt", TEXT.replace("2.jpg -1", "2.jpg ?") + "5.jpg 1 1 1\n6.jpg 1\n")
    result = manifest(split="train", columns=("Male",))
    assert result.rows["Male"].to_pylist() == [True, None]
    assert [(e.what, e.first) for e in result.account.left_out] == [
        ("attribute", "line 4"),
        ("image", "line 7"),
        ("image", "line 8"),
    ]
    with pytest.raises(DatasetError, match=r"list_attr_celeba\.txt.*without --strict"):
        manifest(split="train", strict=True)
    write("list_attr_celeba.txt", "0\n")
    with pytest.raises(DatasetError, match="line 2 should name the attributes"):
        manifest(split="train")
