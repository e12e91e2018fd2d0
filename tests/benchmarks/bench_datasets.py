"""How fast, and in how much memory, shards, labels and narratives of real sizes become rows.

    python tests/benchmarks/bench_datasets.py shards [--size 1000] [--folder FOLDER]
    python tests/benchmarks/bench_datasets.py labels [--size 60000000]
    python tests/benchmarks/bench_datasets.py narratives [--size 500000]

`shards`: shards of 1,000 samples with .jpg, .txt and .json. `labels`: 10,000 images and a CSV of
labels of 9 million ids, theirs among them. `narratives`: full Localized Narratives, with traces, of
10,000 images. Then one process makes the manifest; its processor time and its most resident memory
are those of the whole process, Python and imports included, encoders' libraries not.
"""

import argparse
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

SAMPLES_A_SHARD = 1000
IMAGES = 10_000
IDS_A_LABEL = 9 / 60
MANIFEST = """
import sys
from pathlib import Path
from sparc.extract.datasets import DatasetOptions, open_dataset
folder, labels = sys.argv[1:]
options = DatasetOptions(labels=Path(labels) if labels else None)
manifest = open_dataset(folder, options).manifest()
print(len(manifest.rows), len(manifest.classes))
"""


def image_id(number: int) -> str:
    """As Open Images has them: 16 hexadecimal digits in no order."""
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}"


def make_shards(folder: Path, shards: int) -> int:
    """Shards of samples as img2dataset writes them; returns how many there are."""
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:05d}.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
            for number in range(SAMPLES_A_SHARD):
                key = f"{shard:05d}{number:04d}"
                caption = f"a caption of the image {key} on the web"
                document = {"caption": caption, "url": f"https://x/{key}.jpg", "key": key}
                document |= {"status": "success", "width": 256, "height": 256, "exif": "{}"}
                for suffix, content in (
                    ("jpg", bytes(400)),
                    ("txt", caption.encode()),
                    ("json", json.dumps(document).encode()),
                ):
                    header = tarfile.TarInfo(f"{key}.{suffix}")
                    header.size = len(content)
                    archive.addfile(header, io.BytesIO(content))
    return shards * SAMPLES_A_SHARD


def make_labels(folder: Path, lines: int) -> int:
    """Images and the labels of many more; returns how many labels there are."""
    _make_images(folder)
    ids = max(IMAGES, int(lines * IDS_A_LABEL))
    with (folder / "labels.csv").open("w") as file:
        file.write("ImageID,Source,LabelName,Confidence\n")
        generator = random.Random(0)
        classes = [f"/m/0{number:05x}" for number in range(20_000)]
        for number in range(lines):
            key = classes[int(20_000 * generator.random() ** 2)]
            label = f"{image_id(number % ids)},verification,{key},{number % 3 and 1}\n"
            file.write(label)
    return lines


def make_narratives(folder: Path, lines: int) -> int:
    """Narratives with traces, of images of which few are there; returns how many there are."""
    _make_images(folder)
    trace = [{"x": n / 1000, "y": 0.25, "t": n / 100} for n in range(60)]
    words = [{"utterance": "word", "start_time": 0.5, "end_time": 1.5}] * 20
    with (folder / "open_images_train_v6_localized_narratives.jsonl").open("w") as file:
        for number in range(lines):
            line = {"dataset_id": "open_images_train", "image_id": image_id(number)}
            line |= {"annotator_id": number % 99, "caption": f"In image {number} there is a dog."}
            line |= {"timed_caption": words, "traces": [trace], "voice_recording": "x.ogg"}
            file.write(json.dumps(line) + "\n")
    return lines


def _make_images(folder: Path) -> None:
    (folder / "train").mkdir()
    first = folder / "train" / f"{image_id(0)}.jpg"
    Image.new("RGB", (64, 48), (90, 90, 200)).save(first)
    for number in range(1, IMAGES):
        os.link(first, folder / "train" / f"{image_id(number)}.jpg")


MAKERS: dict[str, tuple[Callable[[Path, int], int], int]] = {
    "shards": (make_shards, 1000),
    "labels": (make_labels, 60_000_000),
    "narratives": (make_narratives, 500_000),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=MAKERS)
    parser.add_argument("--size", type=int, help="shards or lines")
    parser.add_argument("--folder", type=Path, help="where the dataset is or will be")
    arguments = parser.parse_args()
    make, usual = MAKERS[arguments.kind]
    size = arguments.size or usual
    with tempfile.TemporaryDirectory() as name:
        folder: Path = arguments.folder or Path(name) / "dataset"
        if not folder.exists():
            folder.mkdir(parents=True)
            make(folder, size)
        labels = folder / "labels.csv"
        given = str(labels) if labels.exists() else ""
        script = [sys.executable, "-c", MANIFEST, str(folder), given]
        process = subprocess.Popen(script, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        rows, classes = process.stdout.read().split()
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit("failed")
    print(f"{arguments.kind}: {rows} rows, {classes} classes")
    seconds, memory = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6
    print(f"{seconds:.1f} s of processor time, {memory:,.0f} MB")


if __name__ == "__main__":
    main()
