"""What is fetched of tar shards behind a URL: requests and bytes, by the size of the images.

    python tests/benchmarks/bench_urls.py [--faults]

Shards with texts and JSON are put into moto's S3 server. Then the rows are made three times (by a
first command, by one that finds what it learnt, and by four that begin at once) and all images are
read as the loader reads them. With `--faults` the server spoils a tenth of the requests, one after
another in each way, until a thousand were dropped and a thousand cut off, and what is read is
compared with the shards on the disk. Figures of time say nothing: the server is one process.
"""

import argparse
import io
import json
import os
import random
import sys
import tarfile
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "support"))

import fsspec
from object_store import ObjectStore

from sparc.extract.datasets import DatasetOptions, open_dataset
from sparc.extract.datasets.folders import store as stored

BATCH = 64


def pack(folder: Path, *, shards: int, images: int, size: int) -> None:
    """Write shards as img2dataset does; images are noise of about this many bytes."""
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:05}.tar", "w") as archive:
            for number in range(images):
                key = f"{shard:05}{number:04}"
                noise = random.Random(key)
                text = " ".join(noise.choices(["a", "dog", "on", "the", "beach", "photo"], k=12))
                about = {"caption": text, "key": key, "url": f"https://example.org/{key}.jpg",
                         "sha256": noise.randbytes(32).hex(), "status": "success"}  # fmt: skip
                members = {
                    "jpg": noise.randbytes(noise.randrange(size // 2, size * 3 // 2)),
                    "txt": text.encode(),
                    "json": json.dumps(about).encode(),
                }
                for suffix, content in members.items():
                    header = tarfile.TarInfo(f"{key}.{suffix}")
                    header.size = len(content)
                    archive.addfile(header, io.BytesIO(content))


@contextmanager
def counted(server: ObjectStore, what: str, total: int) -> Iterator[None]:
    """Print the requests and the share of the shards' bytes that were asked for meanwhile."""
    lock, asked = threading.Lock(), [0, 0]
    read = stored.StoredParts.read

    def reading(parts: stored.StoredParts, offset: int, length: int) -> bytes:
        content = read(parts, offset, length)
        with lock:
            asked[0] += 1
            asked[1] += len(content)
        return content

    stored.StoredParts.read = reading  # type: ignore[method-assign]
    try:
        with server.counting() as counts:
            yield
    finally:
        stored.StoredParts.read = read  # type: ignore[method-assign]
    kinds = ", ".join(f"{name} {number}" for name, number in sorted(counts.items()))
    print(f"  {what:<34} {asked[0]:6} ranges, {asked[1] / total:6.3f} of the bytes; {kinds}")


def read_all(dataset: Any, paths: Sequence[str], copy: Any = None) -> None:
    """Read images as the loader does, and compare them with a copy."""
    with ThreadPoolExecutor(8) as pool:
        for first in range(0, len(paths), BATCH):
            dataset.expect(paths[first : first + BATCH])
        for path, content in zip(paths, pool.map(dataset.read_image, paths), strict=True):
            assert copy is None or content == copy.read_image(path), path


def measure(server: ObjectStore, *, shards: int, images: int, size: int) -> None:
    """Print what is fetched of some shards."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pack(folder, shards=shards, images=images, size=size)
        total = sum(path.stat().st_size for path in folder.iterdir())
        print(f"{shards} shards of {images} images of {size:,} bytes, {total / 1e6:.0f} MB")
        bucket = server.bucket()
        fsspec.filesystem("s3").put(f"{folder}/", f"{bucket}/data/", recursive=True)
        copy = open_dataset(folder, DatasetOptions())
        wanted = copy.manifest()
        where = f"{bucket}/data/{{00000..{shards - 1:05}}}.tar"
        options = DatasetOptions(dataset_index=f"{bucket}/index")
        for what in ("rows, the first time", "rows, again"):
            with counted(server, what, total):
                dataset = open_dataset(where, options)
                assert dataset.manifest().rows.equals(wanted.rows)
        with counted(server, "images", total):
            read_all(dataset, wanted.rows["image"].to_pylist(), copy)
        at_once = DatasetOptions(dataset_index=f"{bucket}/index-4")
        with counted(server, "rows, four commands at once", total), ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: open_dataset(where, at_once).manifest(), range(4)))
        kept = fsspec.filesystem("s3").du(f"{bucket}/index")
        print(f"  kept of it: {kept / total:.5f} of the bytes")


def endure(server: ObjectStore, *, each: int) -> None:
    """Read shards until the server dropped and cut off so many requests each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pack(folder, shards=8, images=64, size=20_000)
        bucket = server.bucket()
        fsspec.filesystem("s3").put(f"{folder}/", f"{bucket}/data/", recursive=True)
        copy = open_dataset(folder, DatasetOptions())
        rows = copy.manifest().rows
        paths, faults, rounds = rows["image"].to_pylist(), Counter[str](), 0
        random.Random(0).shuffle(paths)  # a request an image: there are more of them to spoil
        while min(faults["dropped"], faults["truncated"]) < each:
            rounds += 1
            shares = {"dropped": 0.1, "truncated": 0.1, "short": 0.02, "failed": 0.02}
            with server.faults(**shares, seed=rounds):
                dataset = open_dataset(f"{bucket}/data", DatasetOptions())
                assert dataset.manifest().rows.equals(rows)
                with ThreadPoolExecutor(8) as pool:
                    contents = pool.map(dataset.read_image, paths)
                    for path, content in zip(paths, contents, strict=True):
                        assert content == copy.read_image(path), path
                faults.update(server.seen().faults)
        print(f"{rounds} times {len(paths):,} images, none lost or changed: {dict(faults)}")


def main() -> None:
    """Run the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", action="store_true")
    chosen = parser.parse_args()
    server = ObjectStore()
    os.environ.update(server.environment)
    try:
        if chosen.faults:
            endure(server, each=1000)
            return
        for size, images in ((30_000, 1000), (300_000, 120), (3_000_000, 16)):
            measure(server, shards=8, images=images, size=size)
    finally:
        server.close()


if __name__ == "__main__":
    main()
