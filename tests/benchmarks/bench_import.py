"""How fast features become a cache: imported from files and appended in batches, against a copy.

    python tests/benchmarks/bench_import.py [--rows 200000] [--dim 768] [FOLDER]

Each takes its turn in a process of its own, whose largest resident set is printed. The copy writes
the same bytes to a file and syncs it, as every chunk of a cache is synced; the source is in the
page cache. HDF5 is left out where h5py is not installed.
"""

import argparse
import importlib.util
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import sparc
from sparc.extract.importing import job
from sparc.extract.importing.config import ImportConfig
from sparc.extract.importing.plan import make_plan

BATCH = 4000


def batches(rows: int, dim: int):
    block = np.random.default_rng(0).standard_normal((BATCH, dim), np.float32)
    for start in range(0, rows, BATCH):
        yield start, block[: rows - start]


def make_sources(folder: Path, rows: int, dim: int) -> dict[str, Path]:
    mapped = np.lib.format.open_memmap(folder / "a.npy", "w+", np.float32, (rows, dim))
    for start, block in batches(rows, dim):
        mapped[start : start + len(block)] = block
    mapped.flush()
    np.savez(folder / "a.npz", a=mapped)
    schema = pa.schema([("id", pa.string()), ("a", pa.list_(pa.float32(), dim))])
    with pq.ParquetWriter(folder / "a.parquet", schema, compression="none") as writer:
        for start, block in batches(rows, dim):
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), dim)
            ids = [str(row) for row in range(start, start + len(block))]
            writer.write_table(pa.table([ids, vectors], schema=schema))
    sources = {name: folder / f"a.{name}" for name in ("npy", "npz", "parquet")}
    if importlib.util.find_spec("h5py"):
        import h5py

        with h5py.File(folder / "a.h5", "w") as file:
            dataset = file.create_dataset("features", (rows, dim), "float32")
            for start, block in batches(rows, dim):
                dataset[start : start + len(block)] = block
        sources["hdf5"] = folder / "a.h5"
    return sources


def copy(source: Path, target: Path) -> None:
    with source.open("rb") as old, target.open("wb") as new:
        shutil.copyfileobj(old, new, 1 << 23)
        os.fsync(new.fileno())


def import_file(source: Path, target: Path) -> None:
    config = ImportConfig()
    job.run(make_plan(source, config), str(target), config)


def append(rows: int, dim: int, target: Path) -> None:
    with sparc.CacheWriter.open(target) as cache:
        for _, block in batches(rows, dim):
            cache.append({"a": block})


def measured(work: Callable[..., None], *arguments: object) -> tuple[float, int]:
    """Seconds that work takes in a process of its own, and its largest resident set in MB."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, work, arguments).result()


def _measure(work: Callable[..., None], arguments: tuple[object, ...]) -> tuple[float, int]:
    began = time.perf_counter()
    work(*arguments)
    seconds = time.perf_counter() - began
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return seconds, int(peak) >> 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=768)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        sources = make_sources(folder, given.rows, given.dim)
        size = sources["npy"].stat().st_size >> 20
        print(f"{given.rows:,} rows of {given.dim} float32, {size:,} MB")
        plain, _ = measured(copy, sources["npy"], folder / "copy")
        print(f"{'copy':<10} {given.rows / plain:>10,.0f} rows/s")
        target = folder / "cache"
        for kind, source in sources.items():
            seconds, peak = measured(import_file, source, target)
            shutil.rmtree(target)
            rate = f"{given.rows / seconds:>10,.0f} rows/s, {seconds / plain:.1f} copies"
            print(f"{kind:<10} {rate}, {peak:,} MB resident")
        seconds, peak = measured(append, given.rows, given.dim, target)
        rate = f"{given.rows / seconds:>10,.0f} rows/s, {seconds / plain:.1f} copies"
        print(f"{'batches':<10} {rate}, {peak:,} MB resident")


if __name__ == "__main__":
    main()
