import pytest

from sparc.common.errors import DatasetError
from sparc.extract.datasets.base import DatasetOptions
from sparc.extract.datasets.splits import choose_split


@pytest.mark.parametrize(
    ("asked", "splits", "expected"),
    [
        ("train", ["train", "train2017"], "train"),
        ("val", ["train2017", "val2017"], "val2017"),
        ("validation", ["train2017", "val2017"], "val2017"),
        ("Test", ["test", "train"], "test"),
        ("train2", ["train2017", "val2017"], "train2017"),
        ("", ["only"], "only"),
        ("", [], ""),
    ],
)
def test_names(asked, splits, expected):
    assert choose_split(DatasetOptions(split=asked), splits, "data") == expected


def test_ambiguous_names_list_the_splits():
    with pytest.raises(
        DatasetError, match="several splits that fit 'train'; its splits: train2014"
    ):
        choose_split(DatasetOptions(split="train"), ["train2017", "train2014"], "data")


def test_holdout_draws_from_the_only_split():
    options = DatasetOptions(split="test", holdout=0.1)
    assert choose_split(options, ["train2017"], "data") == "train2017"
    assert choose_split(options, [], "data") == ""
