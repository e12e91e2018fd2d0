"""An extraction, a training and an analysis on an S3 server that drops and truncates requests.

    python tests/benchmarks/bench_object_store.py [--chunks 160] [--dropped 0.1] [--truncated 0.1]

The three commands run as processes, once on a disk and once behind URLs of the server of the tests
(`tests/support/object_store.py`), which spoils these shares of all requests; a command that takes
longer than `--seconds` counts as hanging. What they leave is compared file by file. Printed are
the requests of each command, what was spoilt, and the requests that each chunk costs.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from sparc.common.files.folder import Folder

sys.path.append(str(Path(__file__).parents[1] / "support"))
from object_store import ObjectStore

ROWS_PER_CHUNK = 8
NAMING = ("config.json", "report.json", "digests.json", "summary.html", "timings.jsonl")
STREAMS = {"vit": "test_vit", "net": "test_efficientnet"}
TRAINING = (
    *("--latents=64", "--k=8", "--auxk=4", "--batch-size=32", "--steps=300", "--device=cpu"),
    *("--checkpoint-every=30", "--log-every=10", "--kernels=torch"),
)


def make_images(folder: Path, images: int) -> None:
    """Small images of noise in four classes."""
    generator = np.random.default_rng(0)
    for number in range(images):
        place = folder / f"class-{number % 4}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{number:06d}.png")


def make_streams(folder: Path) -> list[str]:
    """Options that name two small encoders with random weights."""
    folder.mkdir()
    torch.manual_seed(0)
    options = []
    for name, model in STREAMS.items():
        path = folder / f"{name}.safetensors"
        save_file(timm.create_model(model, pretrained=False).state_dict(), path)
        options.append(f"--stream={name}=timm:{model}@{path}?size=32")
    return options


def commands(images: Path, streams: list[str], where: str) -> dict[str, list[str]]:
    """The three commands, by stage, that write below a place."""
    cache, run, report = (f"{where}/{name}" for name in ("cache", "run", "report"))
    cut = f"--rows-per-chunk={ROWS_PER_CHUNK}"
    return {
        "extract": ["run", str(images), cache, *streams, cut, "--device=cpu"],
        "train": ["run", cache, run, *TRAINING],
        "analyze": ["run", run, cache, report, "--device=cpu", "--no-untrained"],
    }


def call(stage: str, arguments: list[str], seconds: float) -> None:
    """Run a command; its last words are shown if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", f"sparc.{stage}.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    if done.returncode:
        sys.exit(f"sparc-{stage} ended with status {done.returncode}:\n{done.stderr[-4000:]}")


def contents(where: str) -> dict[str, str]:
    """The digests of all files below a place; of tables, of what they hold.

    Left out are documents and figures of time: they name places and seconds.
    """
    folder = Folder(where)
    digests = {}
    for name in folder.files():
        if name.endswith(".parquet") and not where.endswith("cache"):
            with folder.open(name) as file:
                table = pq.read_table(file).replace_schema_metadata(None)
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table.combine_chunks())
            digests[name] = hashlib.sha256(sink.getvalue()).hexdigest()
        elif where.endswith("cache") or not name.endswith(NAMING):
            digests[name] = hashlib.sha256(folder.read(name)).hexdigest()
    return digests


def compare(local: dict[str, str], remote: dict[str, str]) -> str:
    """What two lots of files have in common, in a line."""
    differing = sorted(n for n in local.keys() & remote.keys() if local[n] != remote[n])
    missing = sorted(local.keys() - remote.keys())
    further = sorted(remote.keys() - local.keys())
    same = len(local) - len(differing) - len(missing)
    return f"{same} files alike, differing {differing}, missing {missing}, further {further}"


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--chunks", type=int, default=160)
    parser.add_argument("--dropped", type=float, default=0.1)
    parser.add_argument("--truncated", type=float, default=0.1)
    parser.add_argument("--seconds", type=float, default=1800)
    given = parser.parse_args()
    store = ObjectStore()
    os.environ.update(store.environment)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        make_images(work / "images", given.chunks * ROWS_PER_CHUNK)
        streams = make_streams(work / "encoders")
        local, remote = str(work / "local"), store.bucket()
        Path(local).mkdir()
        operations: dict[str, Counter[str]] = {}
        faults: Counter[str] = Counter()
        for stage, arguments in commands(work / "images", streams, local).items():
            call(stage, arguments, given.seconds)
        for stage, arguments in commands(work / "images", streams, remote).items():
            began = time.monotonic()
            with store.faults(dropped=given.dropped, truncated=given.truncated, seed=1):
                call(stage, arguments, given.seconds)
                seen = store.seen()
            operations[stage] = seen.operations
            faults += seen.faults
            took = time.monotonic() - began
            print(f"{stage}: {took:.0f} s, {dict(seen.operations)}, spoilt {dict(seen.faults)}")
            per_chunk = seen.operations.total() / given.chunks
            print(f"  {per_chunk:.1f} requests a chunk, repeated ones included", flush=True)
        print(f"all: spoilt {dict(faults)}")
        for name in ("cache", "run", "report"):
            print(f"{name}: {compare(contents(f'{local}/{name}'), contents(f'{remote}/{name}'))}")
    store.close()


if __name__ == "__main__":
    main()
