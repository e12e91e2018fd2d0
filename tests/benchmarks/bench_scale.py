"""The analysis of very many rows: what each step of each command takes; run it by hand.

    python tests/benchmarks/bench_scale.py --rows 100000 1000000 [--folder FOLDER] [--cluster 2]

For each number of rows it makes a cache (two narrow streams, captions, classes, two rows an image)
and a model, and runs `sparc-analyze run`, `search`, `bias` and `concepts` on them as processes of
one thread. It watches them from outside: a step is over when its tables are there. What it prints
is the measured part of the table in docs/SCALE.md: seconds of the processor, the largest resident
set, and bytes read and written by system calls, step by step. Neighbours on the machine move these
little, unlike the time on the clock.

With `--cluster N` they run on N workers of a Dask cluster on this machine, and it prints
what each process of it took, and the bytes that went between them.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.codes.store import CodeStore
from sparc.common.cache import tables
from sparc.common.cache.manifest import Manifest
from sparc.common.cache.writer import ROWS_PER_CHUNK, ChunkWriter
from sparc.common.errors import SparcError
from sparc.common.files.folder import Folder
from sparc.common.streams.info import StreamInfo
from sparc.common.streams.origin import StreamOrigin
from sparc.train.config import ModelConfig, StreamShape
from sparc.train.model.initialize import create_model

DIMS = {"image": 8, "text": 8}
LATENTS, K = 256, 4
CLASSES, CONCEPTS, ROWS_PER_IMAGE = 60, 500, 2
RARE = 0.05
"""The share of the captions that have a word of their own, as captions of the web do."""


# ---------------------------------------------------------------------- made-up data


def make(folder: Path, rows: int) -> None:
    """Write a cache and a model, unless they are there."""
    if (folder / "model" / "config.json").exists():
        return
    spans = [slice(at, min(at + ROWS_PER_CHUNK, rows)) for at in range(0, rows, ROWS_PER_CHUNK)]
    manifest = Manifest(
        dataset="made up",
        dataset_format="arrays",
        split="",
        rows=pa.concat_tables([_rows(span) for span in spans]),
        classes=_classes(),
    )
    writer = ChunkWriter.open(Folder(folder / "cache"), manifest)
    directions = np.random.default_rng(0).standard_normal((len(DIMS), CONCEPTS, 8), np.float32)
    for name, dim in DIMS.items():
        writer.open_stream(
            StreamInfo(
                name=name,
                modality="text" if name == "text" else "image",
                dim=dim,
                dtype="float16",
                origin=StreamOrigin(spec="array"),
            )
        )
    for chunk, span in enumerate(spans):
        shown = _concepts(span)
        for name, of_stream in zip(DIMS, directions, strict=True):
            # A stream of images has the same feature in all rows of an image.
            noise = np.random.default_rng([1, chunk]).standard_normal((len(shown), 8), np.float32)
            noise = noise[np.arange(len(shown)) // ROWS_PER_IMAGE * ROWS_PER_IMAGE]
            features = of_stream[shown].sum(axis=1) + noise
            writer.write(name, chunk, features.astype(np.float16))
    writer.finish()
    shapes = tuple(StreamShape(name, dim) for name, dim in DIMS.items())
    create_model(ModelConfig(streams=shapes, latents=LATENTS, k=K), seed=0).save(folder / "model")


def _concepts(span: slice) -> npt.NDArray[np.int64]:
    """The concepts of some rows, three each; few are frequent, as words are."""
    images = np.arange(span.start, span.stop) // ROWS_PER_IMAGE
    chances = np.random.default_rng([2, span.start]).random((len(images), 3))
    of_image = chances[np.arange(len(images)) // ROWS_PER_IMAGE * ROWS_PER_IMAGE]
    return np.minimum((CONCEPTS**of_image).astype(np.int64), CONCEPTS - 1)


def _rows(span: slice) -> pa.Table:
    """The rows of a cache's table."""
    shown = _concepts(span)
    number = pa.array(np.arange(span.start, span.stop))
    image = pc.cast(pa.array(np.arange(span.start, span.stop) // ROWS_PER_IMAGE), pa.string())
    names = pc.binary_join_element_wise("image", image, "_")
    words = [
        pc.binary_join_element_wise("word", pc.cast(pa.array(of), pa.string()), "")
        for of in shown.T
    ]
    rare = pa.array(np.random.default_rng([3, span.start]).random(len(shown)) < RARE)
    own = pc.binary_join_element_wise("rare", pc.cast(number, pa.string()), "")
    caption = pc.binary_join_element_wise(*words, pc.if_else(rare, own, "a"), " ")
    labels = np.sort(shown[:, :2] % CLASSES, axis=1).astype(np.int32)
    columns = {
        "row": number,
        "sample_id": names,
        "image": pc.binary_join_element_wise(names, "jpg", "."),
        "caption": caption,
        "label_ids": pa.ListArray.from_arrays(
            np.arange(0, labels.size + 1, 2, np.int32), labels.ravel()
        ),
    }
    return pa.table(columns, schema=tables.ROWS)


def _classes() -> pa.Table:
    """Classes in two levels."""
    parents = [None if c < 6 else c % 6 for c in range(CLASSES)]
    depth = [1 if parent is None else 2 for parent in parents]
    names = [f"class {c}" for c in range(CLASSES)]
    columns = [range(CLASSES), names, names, parents, depth]
    return pa.table(dict(zip(tables.CLASSES.names, columns, strict=True)), tables.CLASSES)


# ---------------------------------------------------------------------- watching processes

ANALYZE = ("-m", "sparc.analyze.cli")


class Usage(NamedTuple):
    """What a process has used so far, or in a step.

    Attributes:
        seconds: Of the processor.
        read: Bytes read by system calls; what is mapped into memory does not count.
        written: Bytes written by system calls.
        peak: The largest resident set, in bytes.
    """

    seconds: float
    read: int
    written: int
    peak: int

    def since(self, before: "Usage") -> "Usage":
        """What was used since; the peak is that of the step, not a sum."""
        return Usage(
            self.seconds - before.seconds,
            self.read - before.read,
            self.written - before.written,
            self.peak,
        )

    def __str__(self) -> str:
        return (
            f"{self.seconds:9.1f} s CPU {self.peak / 1e6:8.0f} MB resident "
            f"{self.read / 1e6:9.0f} MB read {self.written / 1e6:8.0f} MB written"
        )


def usage(process: int) -> Usage:
    """What a process has used so far.

    Raises:
        OSError: It has ended.
    """
    folder = Path("/proc", str(process))
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    counts = dict(line.split(": ") for line in (folder / "io").read_text().splitlines())
    status = (folder / "status").read_text().splitlines()
    peak = next((1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM")), 0)
    ticks = os.sysconf("SC_CLK_TCK")
    seconds = (int(fields[11]) + int(fields[12])) / ticks
    return Usage(seconds, int(counts["rchar"]), int(counts["wchar"]), peak)


def watch(
    arguments: Sequence[object], step: Callable[[], str], program: Sequence[str] = ANALYZE
) -> dict[str, Usage]:
    """Run a command of `sparc-analyze`; what each of its steps took.

    Args:
        arguments: Of the command.
        step: Says which step the command has done last, by what it has written.
        program: What is run with these arguments.
    """
    command = [sys.executable, *program, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as process:
        results: dict[str, Usage] = {}
        done, before, last = step(), Usage(0, 0, 0, 0), Usage(0, 0, 0, 0)
        while process.poll() is None:
            with contextlib.suppress(OSError, StopIteration, KeyError):  # it may end at any time
                now = usage(process.pid)
                last = now._replace(peak=max(now.peak, last.peak))
                if step() != done:
                    done = step()
                    results[done] = last.since(before)
                    before = last = now._replace(peak=0)
                    Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # a new peak begins
            time.sleep(0.1)
        results["the end"] = last.since(before)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed")
    return results


def step_of_a_run(report: Path) -> str:
    """What `sparc-analyze run` has done last, by what it has written."""
    if (report / "summary.json").exists():
        return "summary"
    pieces = list((report / "pieces").glob("*.parquet"))
    if pieces:
        newest = max(pieces, key=lambda piece: piece.stat().st_mtime_ns)
        return newest.stem
    store = CodeStore(Folder(report))
    with contextlib.suppress(SparcError):  # there is no store yet
        stored = (CodeSet("joint"), CodeSet("independent"), CodeSet("joint", "permuted_before"))
        if not any(store.missing(code_set) for code_set in stored):
            return "codes"
        return "opened"
    return "nothing"


def measure(folder: Path) -> Iterator[tuple[str, Usage]]:
    """Run the commands in one process of one thread; name and usage of each step."""
    report, alone = folder / "report", ["--workers", 1]
    run = ["run", folder / "model", folder / "cache", report, *alone]
    for name, used in watch(run, lambda: step_of_a_run(report)).items():
        yield f"run: {name}", used
    query = ["search", report, "--row", 7, "--in", "image", "--from", "text"]
    commands: Mapping[str, Sequence[object]] = {
        "search, which makes the index": query,
        "search again": query,
        "bias": ["bias", report, "--attribute", "words:word7", *alone],
        "concepts": ["concepts", report],
    }
    for name, command in commands.items():
        yield name, watch(command, str)["the end"]


# ---------------------------------------------------------------------- a cluster


@contextlib.contextmanager
def cluster(workers: int, counts: Path) -> Iterator[tuple[str, dict[str, int]]]:
    """A scheduler and workers of one thread; the address, and the processes by name."""
    counter = str(Path(__file__).with_name("count_bytes.py"))
    address = f"tcp://127.0.0.1:{_free_port()}"
    os.environ |= {"COUNT_BYTES": str(counts), "COUNT_BYTES_SCHEDULER": address}
    plain = ["--no-dashboard", "--preload", counter]
    command = [sys.executable, "-m", "dask", "scheduler", "--host", address, *plain]
    with contextlib.ExitStack() as stack:

        def start(command: Sequence[str]) -> int:
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return process.pid

        processes = {"scheduler": start(command)}
        worker = [sys.executable, "-m", "dask", "worker", address, "--nthreads", "1", "--no-nanny"]
        for number in range(workers):
            processes[f"worker {number + 1}"] = start([*worker, *plain])
        yield address, processes


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def measure_cluster(folder: Path, workers: int) -> None:
    """Run the measurements on a cluster, and print what each of its processes took."""
    report = folder / f"report-{workers}-workers"
    with tempfile.TemporaryDirectory() as name, cluster(workers, Path(name)) as (at, processes):
        counter = str(Path(__file__).with_name("count_bytes.py"))
        run = ["run", folder / "model", folder / "cache", report, "--scheduler", at]
        begin = time.perf_counter()
        steps = watch(run, str, [counter])
        print(f"{'clock':<20} {time.perf_counter() - begin:.1f} s")
        print(f"{'client':<20} {steps['the end']}")
        for process, number in processes.items():
            print(f"{process:<20} {usage(number)}")
        for file in sorted(Path(name).glob("*.json")):
            sent = json.loads(file.read_text())
            print(
                f"{file.stem:<20} sent {sent['scheduler'] / 1e6:9.2f} MB to the scheduler, "
                f"{sent['others'] / 1e6:9.2f} MB to others"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000])
    parser.add_argument("--folder", type=Path, help="where what is made is kept")
    parser.add_argument("--cluster", type=int, default=0, help="workers of a Dask cluster")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for rows in arguments.rows:
            folder = (arguments.folder or Path(temporary)) / str(rows)
            folder.mkdir(parents=True, exist_ok=True)
            # In a process of its own: what it takes is not measured.
            maker = multiprocessing.get_context("spawn").Process(target=make, args=(folder, rows))
            maker.start()
            maker.join()
            if arguments.cluster:
                print(f"{rows:,} rows, {arguments.cluster} workers")
                measure_cluster(folder, arguments.cluster)
                continue
            for name, used in measure(folder):
                print(f"{rows:>10,} rows  {name:<60} {used}", flush=True)


if __name__ == "__main__":
    main()
