"""Datasets of every kind behind URLs: rows, account and images are those of a local copy."""

import io
import json
import pickle

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sparc.common.errors import DatasetError
from sparc.extract.datasets import DatasetOptions, open_dataset
from sparc.extract.datasets.folders.store import StoredParts


def picture(shade: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 9, 99)).save(content, "PNG")
    return content.getvalue()


def with_table() -> dict[str, bytes]:
    names = [f"train/{n}.png" for n in range(4)]
    lines = ["file_name,text", *(f"{name},picture {n}" for n, name in enumerate(names))]
    images = {name: picture(n) for n, name in enumerate(names)}
    return {"metadata.csv": "\n".join(lines).encode(), **images, ".hidden/x.png": b"", "a.md": b""}


def coco() -> dict[str, bytes]:
    document = {
        "images": [{"id": n, "file_name": f"{n}.png"} for n in range(3)],
        "annotations": [{"id": n, "image_id": n, "caption": f"of {n}"} for n in range(3)],
    }
    images = {f"train/{n}.png": picture(n) for n in range(3)}
    return {"annotations/captions_train.json": json.dumps(document).encode(), **images}


def parquet(*, rows: int = 40, padding: int = 100) -> dict[str, bytes]:
    images = [{"bytes": picture(n) + bytes(padding), "path": f"{n}.png"} for n in range(rows)]
    table = pa.table({"image": images, "text": [f"row {n}" for n in range(rows)]})
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=5, compression="none")
    return {"data/train-00000-of-00001.parquet": file.getvalue()}


def texts() -> dict[str, bytes]:
    captions = {f"{n:03}.txt": b"" if n % 9 == 0 else b"picture %d" % n for n in range(80)}
    return {**captions, "005.txt": b"long " * 20_000} | {
        f"{n:03}.png": picture(n) for n in range(80)
    }


def classes() -> dict[str, bytes]:
    return {f"{kind}/{n}.png": picture(n) for n in range(3) for kind in ("cat", "dog")}


@pytest.mark.parametrize("kind", [with_table, coco, parquet, texts, classes])
def test_what_lies_behind_a_url_is_read_as_a_copy_of_it(bucket, tmp_path, kind):
    for name, content in kind().items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    fsspec.filesystem("s3").put(f"{tmp_path}/", f"{bucket}/", recursive=True)
    here, there = (open_dataset(where, DatasetOptions()) for where in (tmp_path, f"{bucket}/"))
    rows = there.manifest().rows
    assert rows.equals(here.manifest().rows)
    assert there.manifest().account == here.manifest().account
    worker = pickle.loads(pickle.dumps(there))
    for image in rows["image"].to_pylist():
        assert worker.read_image(image) == there.read_image(image) == here.read_image(image)
    with pytest.raises(DatasetError, match=r"leaves the dataset's folder|is not file"):
        there.read_image("../outside.png")


def test_of_a_parquet_file_only_what_is_wanted_is_fetched(bucket, monkeypatch):
    ((name, content),) = parquet(padding=200_000).items()
    store = fsspec.filesystem("s3")
    store.pipe_file(f"{bucket}/{name}", content)
    store.pipe_file(f"{bucket}/more/data.arrow", b"ARROW1")
    fetched = []
    read = StoredParts.read
    monkeypatch.setattr(
        StoredParts,
        "read",
        lambda parts, offset, length: fetched.append(length) or read(parts, offset, length),
    )
    dataset = open_dataset(bucket, DatasetOptions(format="hugging-face", split="train"))
    assert len(dataset.manifest().rows) == 40
    assert dataset.read_image(f"{name}/image/17")
    assert sum(fetched) < len(content) / 2
    with pytest.raises(DatasetError, match=r"data\.arrow is read through the memory .* copy"):
        dataset.read_image("more/data.arrow/image/0")
    with pytest.raises(DatasetError, match=r"data\.arrow: copy the dataset to this machine"):
        open_dataset(f"{bucket}/more", DatasetOptions())
