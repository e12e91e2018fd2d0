"""The analysis against its targets: two cores, 8192 latents, k 64, three streams; run it by hand.

    python tests/benchmarks/bench_analyze.py [--repeats 5] [--threads 2] [--check]
    python tests/benchmarks/bench_analyze.py --rows 1000000 [--folder FOLDER]

Without `--rows`: single figures in this one process; whatever makes up a ratio is measured in turn,
repeatedly, and the least time of each counts, since a neighbour on the machine can only add to it.

With `--rows N`: makes a cache of N rows (64 values per row in each of three streams) and a model
of skewed latents, and runs `sparc-analyze run`, `bias` and `search` on them as a user does, as
processes. It watches them from outside: a step is over when its tables are there, and the memory of
each step is the largest resident set since the one before. What is looked for is in the data:
every image is made of concepts that have a class, a word and a direction in each stream.

`--check` fails when a target is missed.
"""

import argparse
import contextlib
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.codes.encode import encode_missing
from sparc.analyze.codes.store import CodeLayout, CodeStore
from sparc.analyze.config import AnalyzeConfig
from sparc.analyze.maths.reduction import Reducer
from sparc.analyze.metrics import latents, retrieval
from sparc.analyze.metrics.agreement.counts import count_classes
from sparc.analyze.metrics.agreement.table import table as agreement_table
from sparc.analyze.report.folder import Report
from sparc.analyze.rows import top_rows
from sparc.analyze.rows.folds import Folds, assign_folds, no_folds
from sparc.analyze.rows.images import Images
from sparc.analyze.rows.labels import labels_of
from sparc.analyze.rows.sample import choose_sample
from sparc.analyze.search.searcher import Searcher
from sparc.analyze.timings import AnalysisTimes
from sparc.common.cache import tables
from sparc.common.cache.arrays import write_arrays
from sparc.common.cache.manifest import Manifest
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.writer import ChunkWriter
from sparc.common.errors import SparcError
from sparc.common.files.folder import Folder
from sparc.common.streams.info import Modality, StreamInfo
from sparc.common.streams.origin import StreamOrigin
from sparc.train.config import ModelConfig, StreamShape
from sparc.train.kernels.choice import screen_of
from sparc.train.model.initialize import create_model
from sparc.train.model.network import Sparc

LATENTS, K = 8192, 64
BATCH = AnalyzeConfig().batch_size
WIDE = {"dino": 768, "clip_image": 512, "clip_text": 512}
NARROW = dict.fromkeys(WIDE, 64)
CHUNK = 4096
CONCEPTS, CONCEPTS_PER_IMAGE, CAPTIONS_PER_IMAGE = 2000, 6, 2
CLASSES, DEPTHS = 600, 6
STORED = (CodeSet("joint"), CodeSet("independent"), CodeSet("joint", "permuted_before"))
BOTH_MODES = (CodeSet("joint"), CodeSet("independent"))

Floats = npt.NDArray[np.float32]


class Target(NamedTuple):
    """A figure, and what it may be at most."""

    name: str
    value: float
    most: float
    unit: str

    @property
    def met(self) -> bool:
        return self.value <= self.most

    def __str__(self) -> str:
        verdict = "met" if self.met else "missed"
        return f"{self.name:<62} {self.value:9.3f} {self.unit:<4} at most {self.most:g}: {verdict}"


# ---------------------------------------------------------------------- made-up data


class World:
    """Concepts that images are made of, frequent and rare ones, and what each looks like.

    Args:
        dims: By stream, the width of its features.
    """

    def __init__(self, dims: Mapping[str, int]) -> None:
        self.dims = dims
        draws = np.random.default_rng(0)
        frequency = 1 / (np.arange(CONCEPTS) + 10)
        self.cumulated = np.cumsum(frequency / frequency.sum())
        self.directions = {n: _unit(draws.standard_normal((CONCEPTS, d))) for n, d in dims.items()}
        self.parents = _tree(draws)
        self.words = np.array([f"word{concept}" for concept in range(CONCEPTS)], dtype=object)

    def concepts(self, images: range) -> npt.NDArray[np.int64]:
        """The concepts of some images, (images, concepts per image)."""
        draws = np.random.default_rng([1, images.start])
        chances = draws.random((len(images), CONCEPTS_PER_IMAGE))
        return np.minimum(np.searchsorted(self.cumulated, chances), CONCEPTS - 1)

    def features(self, concepts: npt.NDArray[np.int64], seed: int) -> dict[str, Floats]:
        """Features of rows that show some concepts, by stream."""
        draws = np.random.default_rng([2, seed])
        features = {}
        for name, directions in self.directions.items():
            noise = draws.standard_normal((len(concepts), self.dims[name]), np.float32)
            noise *= 0.7 / np.sqrt(self.dims[name])
            features[name] = directions[concepts].sum(axis=1) + noise
        return features

    def rows(self, first: int, concepts: npt.NDArray[np.int64]) -> pa.Table:
        """The table of rows of a cache, from the concepts of each row."""
        n = len(concepts)
        label_ids = np.sort(concepts[:, :3] % CLASSES, axis=1).ravel().astype(np.int32)
        names = [f"image {(first + row) // CAPTIONS_PER_IMAGE}" for row in range(n)]
        columns = {
            "row": np.arange(first, first + n),
            "sample_id": names,
            "image": [f"{name}.jpg" for name in names],
            "caption": [" ".join(words) for words in self.words[concepts]],
            "label_ids": pa.ListArray.from_arrays(np.arange(0, 3 * n + 1, 3, np.int32), label_ids),
        }
        return pa.table(columns, schema=tables.ROWS)

    def model(self) -> Sparc:
        """A model with a latent for each concept, and others that fire here and there."""
        streams = tuple(StreamShape(name, dim) for name, dim in self.dims.items())
        model = create_model(ModelConfig(streams=streams, latents=LATENTS, k=K), seed=0)
        draws = np.random.default_rng(3)
        bias = torch.from_numpy(draws.standard_normal(LATENTS).astype(np.float32))
        with torch.no_grad():
            for name in self.dims:
                directions = torch.from_numpy(self.directions[name])
                model.encoder[name].data[:CONCEPTS] = directions
                model.decoder[name].data[:CONCEPTS] = directions
                norms = model.encoder[name].norm(dim=1, keepdim=True)
                model.encoder[name].data /= norms
                model.latent_bias[name].data[:] = 0.5 / np.sqrt(self.dims[name]) * bias
        return model

    def classes(self) -> pa.Table:
        """The classes' table."""
        depth = [0] * CLASSES
        for c, parent in enumerate(self.parents):
            depth[c] = 1 if parent is None else depth[parent] + 1
        names = [f"class {c}" for c in range(CLASSES)]
        columns = [range(CLASSES), names, names, self.parents, depth]
        return pa.table(dict(zip(tables.CLASSES.names, columns, strict=True)), tables.CLASSES)


def _tree(draws: np.random.Generator) -> list[int | None]:
    """Parents of classes, in six levels below a virtual root that grow wider and wider."""
    levels = np.array_split(np.arange(CLASSES), np.cumsum([5, 15, 40, 90, 150])[: DEPTHS - 1])
    parents: list[int | None] = [None] * len(levels[0])
    for above, level in pairwise(levels):
        parents += draws.choice(above, len(level)).tolist()
    return parents


def _unit(vectors: npt.NDArray[np.float64]) -> Floats:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


# ---------------------------------------------------------------------- figures of one process


class Took(NamedTuple):
    """The least seconds that a job took: passed, and of processors' time."""

    wall: float
    processors: float


def least_seconds(jobs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Took]:
    """The least times of each job, all measured in turn; the first round warms up."""
    least = dict.fromkeys(jobs, Took(float("inf"), float("inf")))
    for repeat in range(repeats + 1):
        for name, job in jobs.items():
            begin = time.perf_counter(), time.process_time()
            job()
            took = time.perf_counter() - begin[0], time.process_time() - begin[1]
            if repeat:
                least[name] = Took(*map(min, least[name], took))
    return least


def _top_rows(shared: tuple[CodeStore, CodeSet], chunk: int) -> latents.LatentCounts:
    store, code_set = shared
    return latents.count_latents(store.read(code_set, chunk), LATENTS, top=100)


def encoding(folder: Path, repeats: int, threads: int) -> list[Target]:
    """Codes of both modes, latents and top rows, against the products alone."""
    world, rows = World(WIDE), 3 * CHUNK
    concepts = world.concepts(range(rows))
    cache = write_arrays(folder / "cache", world.features(concepts, 0), dtype="float16")
    model = world.model()
    batches = [
        {n: torch.from_numpy(cache.features(n, c)).float() for n in WIDE}
        for c in range(cache.info.chunks)
    ]
    layout = CodeLayout(streams=tuple(WIDE), latents=LATENTS, k=K, rows=rows, rows_per_chunk=CHUNK)
    reducer = Reducer("threads", threads)
    made: list[Path] = []

    def products() -> None:
        with torch.inference_mode():
            for batch in batches:
                for name, features in batch.items():
                    for part in features.split(BATCH):
                        torch.mm(part, model.encoder[name].T)

    def encode() -> None:
        if made:
            shutil.rmtree(made.pop())
        made.append(folder / "codes")
        store = CodeStore(Folder(made[0]))
        store.create(layout, np.ones(rows, np.bool_), BOTH_MODES)
        times = AnalysisTimes()
        encode_missing(store, cache, model, control="trained", batch_size=BATCH, times=times)
        for code_set in BOTH_MODES:
            merge = partial(latents.merge, top=100)
            reducer.reduce(_top_rows, merge, (store, code_set), layout.chunks)

    least = least_seconds({"products": products, "all": encode}, repeats)
    print(f"the {len(WIDE)} products alone: {rows / least['products'].wall:,.0f} rows/s")
    print(f"codes of both modes, latents, top rows: {rows / least['all'].wall:,.0f} rows/s")
    # A CPU without instructions for bfloat16 computes all products in float32, as those alone.
    screened = screen_of(torch.device("cpu"), LATENTS, K) is not None
    most = 1.0 if screened else 1.5
    sizes = {s.mode: Folder(made[0] / "codes.zarr/trained" / s.mode).size() for s in BOTH_MODES}
    return [
        Target(
            "codes of both modes, latents, top rows / products alone",
            least["all"].wall / least["products"].wall,
            most,
            "",
        ),
        Target(
            "the same by processors' time",
            least["all"].processors / least["products"].processors,
            most,
            "",
        ),
        *(Target(f"bytes a row on disk, {m}", s / rows, 1200, "B") for m, s in sizes.items()),
    ]


def five_thousand_rows(repeats: int) -> list[Target]:
    """Agreement and retrieval on 5,000 rows."""
    world = World(WIDE)
    images = 5000 // CAPTIONS_PER_IMAGE
    concepts = world.concepts(range(images)).repeat(CAPTIONS_PER_IMAGE, axis=0)
    features = {n: torch.from_numpy(x) for n, x in world.features(concepts, 0).items()}
    with torch.inference_mode():
        _, results = world.model().encode_both(features)
    order = {n: codes.indices.argsort(dim=1) for n, codes in results.items()}
    codes = CodeRows(
        np.arange(len(concepts)),
        {n: f.indices.gather(1, order[n]).numpy().astype(np.uint16) for n, f in results.items()},
        {n: f.values.gather(1, order[n]).numpy() for n, f in results.items()},
    )
    labels = labels_of(world.rows(0, concepts)["label_ids"].chunks, world.classes(), where="here")
    assert labels is not None
    assert len(labels.lifts) == DEPTHS + 1

    of_row = np.arange(images).repeat(CAPTIONS_PER_IMAGE)
    every_image = Images(of_row, np.ones(images, np.bool_))
    folds = assign_folds(every_image, 42)

    def agree(folds: Folds) -> None:
        spare = top_rows.with_spare(100)
        agreement_table(
            count_classes(codes, labels, LATENTS),
            [top_rows.strongest(codes, stream, spare) for stream in WIDE],
            labels,
            CodeSet("independent"),
            top=100,
            images=every_image,
            sample=codes.take(folds.rows),
            seed=42,
        )

    matrices = {n: codes.matrix(n, LATENTS) for n in WIDE}
    sample = choose_sample(every_image, np.ones(len(concepts), np.bool_), 5000, 42)

    def retrieve() -> None:
        retrieval.table(
            "codes",
            "independent",
            "trained",
            [("dino", "clip_text")],
            sample,
            {"dino": "text", "clip_text": "text"},
            lambda source, _: matrices[source],
            lambda target: matrices[target],
        )

    jobs = {
        "figure": partial(agree, no_folds(len(concepts))),
        "intervals": partial(agree, folds),
        "retrieval": retrieve,
    }
    least = least_seconds(jobs, repeats)
    print(f"agreement with 96 intervals: {least['intervals'].wall:.2f} s")
    return [
        Target(
            f"agreement without intervals, 5,000 rows, {CLASSES} classes, {DEPTHS} depths",
            least["figure"].wall,
            0.5,
            "s",
        ),
        Target(
            "retrieval on codes between two streams, 5,000 rows", least["retrieval"].wall, 0.5, "s"
        ),
    ]


# ---------------------------------------------------------------------- figures of whole commands


def make_cache(location: Path, rows: int) -> ActivationCache:
    """Write a cache of `rows` rows, chunk by chunk."""
    world = World(NARROW)
    spans = [range(first, min(first + CHUNK, rows)) for first in range(0, rows, CHUNK)]

    def concepts(span: range) -> npt.NDArray[np.int64]:
        images = range(span.start // CAPTIONS_PER_IMAGE, -(-span.stop // CAPTIONS_PER_IMAGE))
        return world.concepts(images).repeat(CAPTIONS_PER_IMAGE, axis=0)[: len(span)]

    manifest = Manifest(
        dataset="made up",
        dataset_format="arrays",
        split="",
        rows=pa.concat_tables([world.rows(span.start, concepts(span)) for span in spans]),
        classes=world.classes(),
    )
    writer = ChunkWriter.open(Folder(location), manifest, rows_per_chunk=CHUNK)
    for name, dim in NARROW.items():
        modality: Modality = "text" if name == "clip_text" else "image"
        origin = StreamOrigin(spec="array")
        writer.open_stream(StreamInfo(name=name, modality=modality, dim=dim, origin=origin))
    for chunk, span in enumerate(spans):
        for name, values in world.features(concepts(span), chunk).items():
            writer.write(name, chunk, values)
    writer.finish()
    return ActivationCache(location)


class Watched(NamedTuple):
    """What a step of a process took.

    Attributes:
        seconds: Wall time.
        peak: Largest resident set meanwhile, in bytes.
    """

    seconds: float
    peak: int


def watch(arguments: Sequence[object], step: Callable[[], str]) -> dict[str, Watched]:
    """Run a command of `sparc-analyze`, and say what each of its steps took.

    Args:
        arguments: Of the command.
        step: Says which step the command is at, by what it has written.
    """
    command = [sys.executable, "-m", "sparc.analyze.cli", *map(str, arguments)]
    results: dict[str, Watched] = {}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        folder = Path("/proc", str(process.pid))
        current, began, peak = step(), time.perf_counter(), 0
        while process.poll() is None:
            with contextlib.suppress(OSError):  # the process may end at any time
                peak = max(peak, _largest_resident_set(folder))
                now = step()
                if now != current:
                    results[current] = Watched(time.perf_counter() - began, peak)
                    current, began, peak = now, time.perf_counter(), 0
                    (folder / "clear_refs").write_text("5")  # begins a new largest resident set
            time.sleep(0.25)
        results[current] = Watched(time.perf_counter() - began, peak)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed")
    return results


def _largest_resident_set(process: Path) -> int:
    for line in (process / "status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    return 0  # it is ending, and its memory is gone


def step_of_a_run(report: Path) -> str:
    """What `sparc-analyze run` has done last, by what it has written."""
    if (report / "summary.json").exists():
        return "summary"
    pieces = list((report / "pieces").glob("*.parquet"))
    if pieces:
        newest = max(pieces, key=lambda piece: piece.stat().st_mtime_ns)
        return newest.stem.partition(".")[2]
    store = CodeStore(Folder(report))
    with contextlib.suppress(SparcError):  # there is no store yet
        if not any(store.missing(code_set) for code_set in STORED):
            return "codes"
    return "nothing"


def whole_commands(folder: Path, rows: int, threads: int) -> list[Target]:
    """The commands on a cache of `rows` rows."""
    cache, model, report = folder / "cache", folder / "model", folder / "report"
    if not (model / "config.json").exists():
        # In a process of its own: what it takes is not measured.
        maker = multiprocessing.get_context("spawn").Process(target=make_cache, args=(cache, rows))
        maker.start()
        maker.join()
        World(NARROW).model().save(model)
    workers = ["--workers", threads]
    run = watch(["run", model, cache, report, *workers], lambda: step_of_a_run(report))
    # While a step runs, what can be seen is the one before it.
    steps = dict(zip([*list(run)[1:], "the end"], run.values(), strict=True))
    bias = ["bias", report, "--attribute", "words:word7", *workers]
    query = ["search", report, "--row", 7, "--in", "dino", "--from", "clip_text"]
    steps["bias"] = watch(bias, str)[""]
    steps["first search, which makes the index"] = watch(query, str)[""]
    steps["search"] = watch(query, str)[""]
    for name, watched in steps.items():
        print(
            f"{name:<40} {watched.seconds:9.1f} s   at most {watched.peak / 1e9:5.2f} GB resident"
        )
    first, again = _seconds_of_a_search(report)
    print(f"a search of latents that are looked at first: {1e3 * first:.1f} ms")
    counts = ["counts-none-joint", "counts-none-independent", "bias"]
    sampled = [name for name in steps if name.startswith(("retrieval", "classes"))]
    return [
        Target(
            "latents, agreement, overlap, naming, bias, by 100,000 rows",
            sum(steps[name].seconds for name in counts) * 100_000 / rows,
            120,
            "s",
        ),
        Target(
            "retrieval and classification on their default samples",
            sum(steps[name].seconds for name in sampled),
            300,
            "s",
        ),
        Target(
            "largest resident set of any command",
            max(watched.peak for watched in steps.values()) / 1e9,
            2,
            "GB",
        ),
        Target("a search in an open index, median", 1e3 * again, 10, "ms"),
    ]


def _seconds_of_a_search(report: Path, queries: int = 50) -> tuple[float, float]:
    """The median time of a search by a code, of rows of another stream.

    Returns:
        Of codes whose latents may not have been looked at since the index was opened, so that their
        entries are read and checked; and of the same codes again.
    """
    searcher = Searcher(Report(report), "dino")
    rows = np.random.default_rng(0).integers(searcher.report.info.rows, size=queries)
    codes = [searcher.row_code(row, "clip_text") for row in rows.tolist()]
    medians = []
    for _ in range(2):
        taken = []
        for code in codes:
            begin = time.perf_counter()
            searcher.find(code)
            taken.append(time.perf_counter() - begin)
        medians.append(float(np.median(taken)))
    return medians[0], medians[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where what is made is kept")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if arguments.rows:
            targets = whole_commands(folder, arguments.rows, arguments.threads)
        else:
            targets = encoding(folder, arguments.repeats, arguments.threads)
            targets += five_thousand_rows(arguments.repeats)
    print(*targets, sep="\n")
    if arguments.check and not all(target.met for target in targets):
        sys.exit(1)


if __name__ == "__main__":
    main()
