"""Whatever happens to the files of a dataset: rows that are sound, or one line that says no.

Beside `test_fuzz.py`, which looks into single metadata files, this harms whole folders: images,
captions and metadata of every format, several at once. FUZZ_ROUNDS=1000 looks at more of them.
"""

import io
import json
import os
import random
import shutil
import signal
import tarfile
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sparc.common import rle
from sparc.common.cache import tables
from sparc.common.errors import SparcError
from sparc.common.images.decoding import decode
from sparc.extract.datasets import DatasetOptions, open_dataset

ROUNDS = int(os.environ.get("FUZZ_ROUNDS", "40"))
SECONDS_A_CASE = 20
NAMES = [f"{number:03d}" for number in range(6)]


def image(number: int) -> bytes:
    buffer = io.BytesIO()
    kind = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")[number % 6]
    Image.new("RGB", (9 + number, 7), (40 * number, 90, 10)).save(buffer, kind)
    return buffer.getvalue()


def write(folder: Path, files: dict[str, bytes | str]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def images(below: str = "") -> dict[str, bytes | str]:
    return {f"{below}{name}.png": image(number) for number, name in enumerate(NAMES)}


def sidecars(folder: Path) -> None:
    write(folder, images() | {f"{name}.txt": f"one of {name}\ntwo\n" for name in NAMES})


def with_csv(folder: Path) -> None:
    lines = [f'{name}.png,"a, b {name}",cat;dog' for name in NAMES]
    write(folder, images() | {"metadata.csv": "\n".join(["file_name,text,labels", *lines, ""])})


def with_json_lines(folder: Path) -> None:
    lines = [
        json.dumps({"file_name": f"{n}.png", "text": [n, "ü"], "labels": ["cat"]}) for n in NAMES
    ]
    write(folder, images() | {"metadata.jsonl": "\n".join(lines)})


def with_parquet(folder: Path) -> None:
    write(folder, images())
    columns = {
        "file_name": [f"{name}.png" for name in NAMES],
        "text": [[name, "two"] for name in NAMES],
        "labels": [["cat", "dog"]] * len(NAMES),
    }
    pq.write_table(pa.table(columns), folder / "metadata.parquet", row_group_size=3)


def coco(folder: Path) -> None:
    entries = [
        {"id": number, "file_name": f"{name}.png", "height": 7, "width": 9 + number}
        for number, name in enumerate(NAMES)
    ]
    categories = [
        {"id": 1, "name": "cat", "supercategory": "animal"},
        {"id": 2, "name": "animal", "supercategory": ""},
    ]
    shapes = [
        [[0, 0, 5, 0, 5, 5, 0, 5]],
        {"size": [7, 10], "counts": rle.compress([3, 20, 47])},
        {"size": [7, 11], "counts": [0, 7, 70]},
    ]
    objects = [
        {"id": n, "image_id": n, "category_id": 1 + n % 2, "segmentation": shapes[n % 3]}
        for n in range(len(NAMES))
    ]
    captions = [{"image_id": n // 2, "id": n, "caption": f"c{n}"} for n in range(2 * len(NAMES))]
    write(
        folder,
        images("val2017/")
        | {
            "annotations/captions_val2017.json": json.dumps(
                {"images": entries, "annotations": captions}
            ),
            "annotations/instances_val2017.json": json.dumps(
                {"images": entries, "annotations": objects, "categories": categories}
            ),
        },
    )


def open_images(folder: Path) -> None:
    narratives = [json.dumps({"image_id": n, "caption": f"narrated {n}"}) for n in NAMES]
    labels = [f"{n},verification,/m/{i % 2},{i % 3 and 1}" for i, n in enumerate(NAMES)]
    tree = {"LabelName": "/m/e", "Subcategory": [{"LabelName": "/m/0"}, {"LabelName": "/m/1"}]}
    write(
        folder,
        images("train/")
        | {
            "open_images_train_v6_captions.jsonl": "\n".join(narratives),
            "oidv7-train-annotations-human-imagelabels.csv": "\n".join(
                ["ImageID,Source,LabelName,Confidence", *labels]
            ),
            "oidv7-class-descriptions.csv": "LabelName,DisplayName\n/m/0,Cat\n/m/1,Dog\n",
            "bbox_labels_600_hierarchy.json": json.dumps(tree),
        },
    )


def webdataset(folder: Path) -> None:
    for number in range(2):
        with tarfile.open(folder / f"{number:05d}.tar", "w") as archive:
            for name, content in enumerate(map(image, range(3)), start=3 * number):
                members = {
                    f"{name:09d}.png": content,
                    f"{name:09d}.txt": f"caption {name}".encode(),
                    f"{name:09d}.json": json.dumps({"caption": "other"}).encode(),
                }
                for member, data in members.items():
                    header = tarfile.TarInfo(member)
                    header.size = len(data)
                    archive.addfile(header, io.BytesIO(data))


def with_images_inside(names: list[str]) -> pa.Table:
    features = {"image": {"_type": "Image"}, "label": {"names": ["a", "b"], "_type": "ClassLabel"}}
    numbers = [int(name) for name in names]
    return pa.table(
        {
            "image": [{"bytes": image(number), "path": None} for number in numbers],
            "text": [[f"one of {number}", "two"] for number in numbers],
            "label": [number % 2 for number in numbers],
        }
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def saved(folder: Path) -> None:
    write(folder, {"state.json": "{}", "dataset_info.json": "{}"})
    for number, names in enumerate((NAMES[:3], NAMES[3:])):
        table = with_images_inside(names)
        with pa.ipc.new_stream(
            folder / f"data-{number:05d}-of-00002.arrow", table.schema
        ) as stream:
            stream.write_table(table, max_chunksize=2)


def hub(folder: Path) -> None:
    (folder / "data").mkdir()
    for number, names in enumerate((NAMES[:3], NAMES[3:])):
        path = folder / f"data/train-{number:05d}-of-00002.parquet"
        pq.write_table(with_images_inside(names), path, row_group_size=2)


MAKERS = [
    saved,
    hub,
    sidecars,
    with_csv,
    with_json_lines,
    with_parquet,
    coco,
    open_images,
    webdataset,
]

PIECES = [b'"', b"\n", b"\xff\xfe", b"\0", b"../", b"{", b"[", b"null", b"-1", b",,", b"1e999"]
PIECES += [b"9" * 30, b"\r", b"/etc/passwd", b"[" * 5000, b'{"a":' * 3000, b"\x1b]0;x\x07"]


def harm(folder: Path, dice: random.Random) -> str:
    """Do something to a file of a folder; returns what was done."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        return "nothing 0 left"
    path = dice.choice(files)
    metadata = [p for p in files if p.suffix != ".png"]
    if metadata and dice.random() < 0.7:
        path = dice.choice(metadata)
    kinds = ("flip", "truncate", "delete", "insert", "swap", "link", "fifo", "folder", "double")
    kind = dice.choice((*kinds, "flip", "insert", "truncate"))
    content = bytearray(path.read_bytes())
    place = dice.randrange(len(content) + 1)
    if kind == "flip":
        for _ in range(dice.randrange(1, 4)):
            if content:
                content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    elif kind == "truncate":
        del content[place:]
    elif kind == "insert":
        content[place:place] = dice.choice(PIECES)
    elif kind == "double":
        content *= 2
    elif kind == "swap":
        other = dice.choice(files)
        aside = other.read_bytes()
        other.write_bytes(content)
        content[:] = aside
    path.unlink()
    if kind == "link":
        target = dice.choice(["/etc/passwd", "..", path.name, "/dev/zero", "../../x"])
        path.symlink_to(target)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "delete":
        path.write_bytes(content)
    return f"{kind} {place} {path.relative_to(folder)}"


@contextmanager
def within(seconds: float):
    """Fails what takes longer."""

    def give_up(_number, _frame):
        raise TimeoutError(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome(call):
    """What a call gives; None where it refuses, in one line that can be shown."""
    message = "fine"
    try:
        return call()
    except SparcError as error:
        message = str(error)
    assert message
    assert message.isprintable(), repr(message)
    return None


def texts(manifest) -> list[tuple[str, str | None]]:
    """The captions of images, by path without suffix: Open Images does not name it."""
    rows = manifest.rows.to_pylist()
    return sorted((row["image"].rpartition(".")[0], row["caption"] or "") for row in rows)


def sound(manifest) -> bool:
    rows = manifest.rows
    assert rows.schema == tables.ROWS
    assert rows.num_rows
    rows.validate(full=True)
    manifest.classes.validate(full=True)
    tables.manifest_digest(rows)
    ids = rows["sample_id"].to_pylist()
    starts = [i for i, name in enumerate(ids) if i == 0 or ids[i - 1] != name]
    assert len(starts) == len(set(ids)), "the rows of an image follow one another"
    for labels in rows["label_ids"].to_pylist():
        assert all(0 <= i < manifest.classes.num_rows for i in labels)
    if manifest.masks is not None:
        for mask in manifest.masks.to_pylist():
            rle.decode(mask["counts"], mask["height"], mask["width"])
    return True


def look(folder: Path):
    """The manifest of a folder and the images that its rows name; None where it is refused."""
    dataset = outcome(lambda: open_dataset(folder, DatasetOptions(masks=True)))
    manifest = outcome(dataset.manifest) if dataset else None
    if manifest is None:
        return None
    assert sound(manifest)
    seen = {}
    for image in dict.fromkeys(manifest.rows["image"].to_pylist()):
        data = outcome(lambda name=image: dataset.read_image(name))
        seen[image] = None if data is None else outcome(lambda content=data: decode(content))
    return manifest, seen


@pytest.mark.parametrize("make", MAKERS)
def test_a_dataset_that_was_harmed(tmp_path, make, capsys) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    make(whole)
    good, good_images = look(whole)
    assert len(good_images) == len(NAMES)
    assert all(good_images.values())
    read = 0
    for seed in range(ROUNDS):
        dice = random.Random(seed)
        folder = tmp_path / "harmed"
        shutil.copytree(whole, folder)
        done = [harm(folder, dice) for _ in range(dice.choice((1, 1, 1, 3)))]
        case = f"seed {seed}: {done}"
        with within(SECONDS_A_CASE):
            reading = look(folder)
        capsys.readouterr()
        shutil.rmtree(folder)
        if reading is None:
            continue
        read += 1
        manifest, seen = reading
        names = {step.split()[-1] for step in done}
        if all(name.endswith(".png") for name in names) and len(done) == 1:
            # Only an image was harmed: all others, and all that is said of them, are as before.
            for image, value in good_images.items():
                if not any(image.endswith(name) for name in names) and "swap" not in case:
                    assert seen[image].tobytes() == value.tobytes(), case
            if make is not sidecars and not done[0].startswith(("double", "insert")):
                # (The rows of missing images of a folder come last.)
                assert texts(manifest) == texts(good), case
        if make is webdataset and not case.count("swap"):
            # Nothing ends a shard early without being noticed.
            lost = set(good_images) - set(seen)
            gone = {name for step in done for name in [step.split()[-1]] if "tar" in name}
            kinds = {step.split()[0] for step in done}
            removed = kinds & {"delete", "link", "fifo", "folder"}
            assert not lost or removed or manifest.account.left_out, (case, lost, gone)
    assert read > ROUNDS // 8
