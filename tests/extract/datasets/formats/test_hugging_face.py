"""Datasets of Hugging Face, written here by pyarrow with the metadata that `datasets` writes."""

import io
import json
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sparc.common.errors import DatasetError, MissingFileError
from sparc.extract.datasets import DatasetOptions, open_dataset
from sparc.extract.datasets.tables import arrow_files

FEATURES = {
    "image": {"_type": "Image"},
    "text": {"dtype": "string", "_type": "Value"},
    "kind": {"names": ["cat", "dog"], "_type": "ClassLabel"},
}


def encoded(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def stored(numbers: range, *, names: bool = False) -> pa.Table:
    """Rows of these numbers: the image of that shade, a caption, a class, a further column."""
    images = [{"bytes": encoded(n), "path": f"{n}.png" if names else None} for n in numbers]
    columns = {
        "image": images,
        "text": [f"number {n}" for n in numbers],
        "kind": [n % 3 - 1 for n in numbers],
        "site": [f"site {n % 2}" for n in numbers],
    }
    metadata = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    return pa.table(columns).replace_schema_metadata(metadata)


def save(folder, table: pa.Table, files: int = 2) -> None:
    """As `save_to_disk` of `datasets` does."""
    folder.mkdir(parents=True)
    step = -(-len(table) // files)
    written = [f"data-{n:05d}-of-{files:05d}.arrow" for n in range(files)]
    for number, name in enumerate(written):
        with pa.ipc.new_stream(folder / name, table.schema) as stream:
            stream.write_table(table.slice(number * step, step), max_chunksize=2)
    (folder / "state.json").write_text(json.dumps({"_data_files": written}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))


def shades(folder, result) -> list[int]:
    """The shades of the images of the rows, read by several threads, as from a cache."""
    dataset = open_dataset(folder, DatasetOptions(format=result.dataset_format))

    def shade(name: str) -> int:
        return Image.open(io.BytesIO(dataset.read_image(name))).getpixel((0, 0))[0]

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(shade, result.rows["image"].to_pylist()))


def test_a_saved_dataset_is_read_without_datasets(tmp_path, manifest, labels) -> None:
    save(tmp_path / "train", stored(range(7)))
    save(tmp_path / "test", stored(range(7, 9)), files=1)
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    result = manifest(split="train", columns=("site",))
    assert (result.dataset_format, result.split) == ("hugging-face", "train")
    assert result.rows["caption"].to_pylist() == [f"number {n}" for n in range(7)]
    assert shades(tmp_path, result) == list(range(7))
    first = "train/data-00000-of-00002.arrow/image/0"
    assert result.rows["image"][0].as_py() == result.rows["sample_id"][0].as_py() == first
    assert list(labels(result).values()) == [[], ["cat"], ["dog"], [], ["cat"], ["dog"], []]
    assert result.rows["site"].to_pylist()[:3] == ["site 0", "site 1", "site 0"]
    used = {entry.what: entry.used for entry in result.account.used}
    assert used[".arrow files"] == ("image", "text", "kind", "site")
    assert [entry.what for entry in result.account.unused] == ["files of other splits"]
    assert shades(tmp_path, manifest(split="test")) == [7, 8]
    with pytest.raises(DatasetError, match=r"several splits.*: test, train"):
        manifest()


@pytest.mark.parametrize("folder", ["data", "", "default"])
def test_parquet_files_of_the_hub_are_divided_by_name(tmp_path, manifest, folder) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    for split, numbers in (("train", range(5)), ("validation", range(5, 8))):
        for part, rows in enumerate((numbers[:2], numbers[2:])):
            name = f"{split}-{part:05d}-of-00002-abc.parquet"
            pq.write_table(stored(rows, names=True), tmp_path / folder / name, row_group_size=2)
    result = manifest(split="train")
    assert shades(tmp_path, result) == list(range(5))
    assert result.rows["sample_id"].to_pylist() == ["0", "1", "2", "3", "4"]
    assert shades(tmp_path, manifest(split="val")) == [5, 6, 7]


def test_bytes_without_metadata_and_a_bad_file_or_row(tmp_path, manifest, captions) -> None:
    table = pa.table({"jpg": [encoded(3), None, encoded(5)], "caption": ["A", "B", None]})
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no PAR1")
    result = manifest()
    assert [caption for _, caption in captions(result)] == ["A", "B", None]
    said = [(entry.file, entry.what) for entry in result.account.left_out]
    assert said == [("a.parquet", "caption"), ("b.parquet", "file")]
    dataset = open_dataset(tmp_path, DatasetOptions(format="hugging-face"))
    assert dataset.read_image("a.parquet/jpg/2") == encoded(5)
    for name, message in (
        ("a.parquet/jpg/1", "has no image in it"),
        ("a.parquet/jpg/3", "cannot be read"),
        ("a.parquet/png/0", "cannot be read"),
        ("../a.parquet/jpg/0", "leaves the dataset's folder"),
        ("a.parquet", "is not file.arrow/column/row"),
    ):
        with pytest.raises(DatasetError, match=message):
            dataset.read_image(name)
    with pytest.raises(MissingFileError):
        dataset.read_image("c.parquet/jpg/0")
    with pytest.raises(DatasetError, match=r"a\.parquet: 1 caption left out"):
        manifest(strict=True)
    (tmp_path / "b.parquet").unlink()
    with pytest.raises(DatasetError, match="no column 'png' of images; such columns: jpg"):
        manifest(image_column="png")


def test_images_that_lie_elsewhere_are_refused_with_the_way(tmp_path, manifest) -> None:
    table = pa.table({"image": [{"bytes": None, "path": "/data/0.png"}], "text": ["A"]})
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = table.cast(pa.schema([("image", image), ("text", pa.string())]))
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(
        DatasetError, match=r"only where they were \(/data/0.png\): give the folder"
    ):
        manifest()


def test_a_row_group_is_decoded_once_for_all_its_images(tmp_path, manifest, monkeypatch) -> None:
    pq.write_table(stored(range(12)), tmp_path / "train.parquet", row_group_size=4)
    result = manifest()
    decoded = []
    decode = arrow_files.ParquetFile._decode
    monkeypatch.setattr(
        arrow_files.ParquetFile,
        "_decode",
        lambda file, column, number: decoded.append(number) or decode(file, column, number),
    )
    dataset = open_dataset(tmp_path, DatasetOptions(format=result.dataset_format))
    names = result.rows["image"].to_pylist()
    for row in (0, 4, 1, 5, 2, 6, 3, 7, 8, 9, 10, 11):  # as several threads may ask for them
        assert dataset.read_image(names[row]) == encoded(row)
    assert decoded == [0, 1, 2]


def test_links_of_a_hub_cache_lead_to_its_blobs(tmp_path, paint, captions) -> None:
    snapshot = tmp_path / "datasets--me--mine/snapshots/abc"
    blobs = tmp_path / "datasets--me--mine/blobs"
    paint(blobs, "0.png", "1.png")
    snapshot.mkdir(parents=True)
    (blobs / "m").write_text('{"file_name": "0.png", "text": "A"}\n')
    (snapshot / "metadata.jsonl").symlink_to("../../blobs/m")
    for name in ("0.png", "1.png"):
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    result = open_dataset(snapshot, DatasetOptions()).manifest()
    assert captions(result) == [("0.png", "A"), ("1.png", None)]


def test_a_file_that_is_missing_by_the_names_of_the_others_is_said(tmp_path, manifest) -> None:
    (tmp_path / "data").mkdir()
    for number in (0, 2):
        path = tmp_path / f"data/train-{number:05d}-of-00003.parquet"
        pq.write_table(stored(range(number, number + 1), names=True), path)
    (left_out,) = manifest().account.left_out
    assert (left_out.what, left_out.records) == ("file", 1)
    assert left_out.first == "data/train-00001-of-00003.parquet"
    with pytest.raises(DatasetError, match="it is not there"):
        manifest(strict=True)
