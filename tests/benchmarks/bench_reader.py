"""How fast rows are read: chunks against plain reads, batches against what training needs.

    python tests/benchmarks/bench_reader.py [FOLDER]

Makes a cache of 768 + 512 + 512 values a row (float16, as extracted by default), then measures in
turn, in this one process, repeated and best taken, so that both sides of a ratio see the same
machine: reading all chunk files with plain reads, reading the same chunks through the cache (which
checks every CRC32C), and taking shuffled float32 batches with the rows in memory and streamed. The
files are in the page cache: this compares software, not disks.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from sparc.common.cache.arrays import write_arrays
from sparc.common.cache.reader import ActivationCache
from sparc.train.data.reader import BatchReader

DIMS = {"dino": 768, "clip_image": 512, "clip_text": 512}
REPEATS = 10
THREADS = 2


def make_cache(folder: Path, rows: int) -> ActivationCache:
    if not (folder / "cache.json").exists():
        generator = np.random.default_rng(0)
        features = {n: generator.standard_normal((rows, d), np.float32) for n, d in DIMS.items()}
        write_arrays(folder, features, dtype="float16")
    return ActivationCache(folder)


def seconds(job: Callable[[], object]) -> float:
    began = time.perf_counter()
    job()
    return time.perf_counter() - began


def read_plainly(path: Path) -> int:
    with path.open("rb") as file:
        return len(file.read())


def compare_reads(cache: ActivationCache) -> None:
    folder = cache.folder.local
    assert folder is not None
    chunks = [(n, c) for n in cache.stream_names for c in range(cache.info.chunks)]
    files = [folder / "activations.zarr" / n / "features" / "c" / str(c) / "0" for n, c in chunks]
    size = sum(path.stat().st_size for path in files)
    plain, checked = [], []
    with ThreadPoolExecutor(THREADS) as threads:
        for _ in range(REPEATS):
            plain.append(seconds(lambda: list(threads.map(read_plainly, files))))
            checked.append(
                seconds(lambda: list(threads.map(lambda job: cache.features(*job).size, chunks)))
            )
    ratio = min(plain) / min(checked)
    print(f"plain reads, {THREADS} threads:         {size / min(plain) / 1e9:6.2f} GB/s")
    print(f"checked chunks, {THREADS} threads:      {size / min(checked) / 1e9:6.2f} GB/s")
    print(f"ratio (at least 0.33 wanted):   {ratio:6.2f}")


def rows_per_second(reader: BatchReader, *, at_least: float = 2.0) -> float:
    reader.next_batch()
    began, rows = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < at_least:
        rows += len(reader.next_batch().features["dino"])
    return rows / passed


def compare_residencies(cache: ActivationCache) -> None:
    for batch_size in (256, 4096):
        for residency in ("host", "stream"):
            with BatchReader(
                cache,
                cache.stream_names,
                batch_size=batch_size,
                block_chunks=4,
                seed=0,
                residency=residency,
            ) as reader:
                rate = rows_per_second(reader)
                name = f"{residency}, batches of {batch_size}:"
                goal = f"   {rate / 150_000:.2f} of 150,000" if residency == "host" else ""
                print(f"{name:31s} {rate:9,.0f} rows/s{goal}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="where the cache is kept")
    parser.add_argument("--rows", type=int, default=65_536)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        cache = make_cache(arguments.folder or Path(temporary) / "cache", arguments.rows)
        compare_reads(cache)
        compare_residencies(cache)


if __name__ == "__main__":
    main()
