"""Nothing of a dataset is passed over in silence: block, cache and inspection say the same."""

from sparc.common.cache.account.account import DatasetAccount
from sparc.extract.datasets import open_dataset
from sparc.extract.datasets.base import DatasetOptions


def account_of(folder, **options) -> DatasetAccount:
    account = open_dataset(folder, DatasetOptions(**options)).manifest().account
    assert account is not None
    return account


def test_files_that_were_not_read_are_listed_with_what_would_use_them(tmp_path, paint) -> None:
    paint(tmp_path, "train/a.png", "train/b.png", "val/c.png")
    (tmp_path / "train/a.txt").write_text("a caption\n")
    for name in ("features.npy", "notes.pkl", "README.md", ".DS_Store", "train/Thumbs.db"):
        (tmp_path / name).write_bytes(b"")
    for number in range(30):
        (tmp_path / f"train/{number}.xyz").write_bytes(b"")
    account = account_of(tmp_path, split="train")
    assert (account.images, account.rows, account.captioned, account.labelled) == (2, 2, 1, 0)
    assert list(account.lines()) == [
        "rows      2 of 2 images",
        "captions  1 of 2 rows with a caption",
        "labels    0 of 2 rows with a label",
        "used      train/a.txt",
        "not used  features.npy (features are read by sparc-extract import)",
        "not used  notes.pkl (a pickle can run code, so it is not read: save its content as "
        "Parquet or JSON)",
        "not used  30 .xyz files, such as train/0.xyz",
        "not used  val/c.png (--split chooses another)",
        "not used  2 hidden files, such as .DS_Store",
    ]


def test_few_captions_are_said_even_where_no_text_stream_asks(tmp_path, paint) -> None:
    paint(tmp_path, "a.png", "b.png", "c.png")
    assert "captions  NONE: no row has a caption" in account_of(tmp_path).lines()
    (tmp_path / "a.txt").write_text("one")
    few = "captions  ONLY 1 of 3 rows with a caption"
    assert few in account_of(tmp_path).lines()
