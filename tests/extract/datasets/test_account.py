"""Nothing of a dataset is passed over in silence: block, cache and inspection say the same."""

import os
import subprocess
import sys

from sparc.common.cache.account.account import DatasetAccount
from sparc.extract.datasets import open_dataset
from sparc.extract.datasets.account import Omissions
from sparc.extract.datasets.base import DatasetOptions
from sparc.extract.datasets.folders.local import LocalFolder
from sparc.extract.datasets.formats.folder import FolderDataset


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


def test_the_block_is_short_for_files_of_many_kinds(tmp_path, paint) -> None:
    paint(tmp_path, "a.png")
    for number in range(120):
        folder = tmp_path / f"part{number}"
        folder.mkdir()
        (folder / f"file.x{number % 40}").write_bytes(b"")
    (tmp_path / "features.npy").write_bytes(b"")
    lines = [line for line in account_of(tmp_path).lines() if line.startswith("not used")]
    assert len(lines) == 17
    assert lines[0] == "not used  features.npy (features are read by sparc-extract import)"
    assert lines[-1].startswith("not used  105 other files, such as part")


def test_columns_that_nobody_read_are_named_with_the_options_that_read_them(
    tmp_path, paint
) -> None:
    paint(tmp_path, "a.png", "b.png")
    (tmp_path / "metadata.csv").write_text(
        "file_name,tags,split\na.png,one,train\nb.png,two,test\n"
    )
    advice = (
        "not used  metadata.csv: tags, split (--caption-column NAME for captions; --label-column "
        "NAME for classes; --table metadata.csv --split NAME divides by split; --column NAME keeps "
        "one)"
    )
    assert advice in account_of(tmp_path).lines()
    assert account_of(tmp_path, caption_column="tags").captioned == 2
    assert account_of(tmp_path, label_column="tags").labelled == 2
    of_table = account_of(tmp_path, table="metadata.csv", split="test", caption_column="tags")
    assert (of_table.rows, of_table.captioned) == (1, 1)


def test_tables_without_usual_columns_are_named_with_the_options_that_read_them(
    tmp_path, paint
) -> None:
    paint(tmp_path, "a.png", "b.png")
    (tmp_path / "dogs.csv").write_text("id,breed\na,poodle\nb,beagle\n")
    (tmp_path / "list.txt").write_text("a.png 0\nb.png 1\n")
    assert {
        "not used  dogs.csv (--table dogs.csv with --caption-column NAME or --label-column NAME "
        "reads it; its columns: breed)",
        "not used  list.txt (--table list.txt --separator ' ' --label-column 2 reads classes of "
        "it)",
    } <= {*account_of(tmp_path).lines()}
    assert account_of(tmp_path, table="dogs.csv", label_column="breed").labelled == 2
    of_list = account_of(tmp_path, table="list.txt", separator=" ", label_column="2")
    assert of_list.labelled == 2


def test_folders_of_numbered_images_may_be_classes_or_videos(tmp_path, paint) -> None:
    paint(tmp_path, *(f"p/{folder}/{n:04}.png" for folder in ("cat", "dog") for n in range(3)))
    lines = list(account_of(tmp_path).lines())
    assert (
        f"not used  names of 2 folders (cat, dog) ({tmp_path}/p --format class-folders takes them "
        "for classes)"
    ) in lines
    assert any("--format frames" in line for line in lines)
    assert account_of(tmp_path / "p", format="class-folders").labelled == 6


def test_boxes_of_yolo_are_no_captions(tmp_path, paint) -> None:
    paint(tmp_path, "a.png", "b.png")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.1 0.25\n3 0.1 0.2 0.3 1e-3\n")
    (tmp_path / "b.txt").write_text("5 cats on 2 mats at 7\n")
    account = account_of(tmp_path)
    assert account.captioned == 1
    advice = "not used  a.txt (boxes of YOLO are not read: convert them to COCO)"
    assert advice in account.lines()


def test_exports_that_are_not_read_are_named_with_those_that_are(tmp_path, paint) -> None:
    paint(tmp_path, "a.png")
    (tmp_path / "cvat.xml").write_text("<annotations><version>1.1</version></annotations>")
    (tmp_path / "project-1.json").write_text(
        '[{"id": 1, "data": {}, "annotations": [{"result": []}]}]'
    )
    assert {
        "not used  cvat.xml (export it from CVAT as COCO 1.0)",
        "not used  project-1.json (export it from Label Studio as COCO or CSV)",
    } <= {*account_of(tmp_path).lines()}


def test_names_of_files_tear_no_line_and_move_no_cursor(tmp_path, paint) -> None:
    paint(tmp_path, "a.png", "b.png")
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("a caption")
    (tmp_path / "\x1b[31m\nrows.csv").write_text("filename,caption\na.png,x\nb.png,y\n")
    lines = list(account_of(tmp_path).lines())
    assert any("--table" in line for line in lines)
    assert all(line.isprintable() for line in lines)


def test_a_table_whose_images_are_not_there_is_not_recommended(tmp_path, paint) -> None:
    paint(tmp_path, "a.png")
    (tmp_path / "here.csv").write_text("image,caption\na.png,one\n")
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,one\n")
    (tmp_path / "other.csv").write_text("image,caption\nz.png,one\n")
    assert {
        "not used  here.csv (--table here.csv reads it)",
        "not used  other.csv (the images that it names are not there)",
    } <= {*account_of(tmp_path).lines()}


def test_reasons_that_repeat_what_a_file_has_are_bounded() -> None:
    omissions = Omissions("file")
    for number in range(1000):
        omissions.add("caption", f"it is {number}", f"line {number}")
    left_out = list(omissions.left_out())
    assert len(left_out) == 101
    assert (left_out[-1].records, left_out[-1].first) == (900, "line 100")


def test_captions_that_were_read_in_another_encoding_are_said(tmp_path, paint) -> None:
    paint(tmp_path, "a.png", "b.png", "c.png", "d.png")
    texts = ("Käse, it’s".encode().decode("cp1252"), "Käse, Ça", "SÃO PAULO", "plain")
    for name, text in zip("abcd", texts, strict=True):
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    (note,) = account_of(tmp_path).notes
    assert note.startswith("1 caption in UTF-8 that was read as Windows-1252 and saved so, such as")


def test_an_account_is_the_same_whenever_it_is_made(tmp_path, paint) -> None:
    paint(tmp_path, "a.png", "b.png", "c.png")
    for name in ("a.txt", "b.caption"):
        (tmp_path / name).write_text(name)
    (tmp_path / "c.json").write_text("{")
    script = (
        "import sys; from sparc.extract.datasets import DatasetOptions, open_dataset; "
        "print(*open_dataset(sys.argv[1], DatasetOptions()).manifest().account.lines(), sep='\\n')"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "1234"
    }
    assert len(said) == 1
    dataset = open_dataset(tmp_path, DatasetOptions())
    assert dataset.manifest().account == dataset.manifest().account


def test_images_that_are_encoded_are_not_remembered(tmp_path, paint) -> None:
    paint(tmp_path, *(f"{number}.png" for number in range(5)))
    (tmp_path / "0.txt").write_text("a caption")
    folder = LocalFolder(tmp_path)
    dataset = FolderDataset(folder, DatasetOptions(format="folder"))
    for path in dataset.manifest().rows["image"].to_pylist():
        assert dataset.read_image(path) == (tmp_path / path).read_bytes()
    assert folder.opened == {"0.txt"}
