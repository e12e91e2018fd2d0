"""Extraction against the bare encoder: rows/s of the whole job over rows/s of its forward passes.

The job reads, decodes, prepares, encodes, checks and writes; the bare encoder gets batches that lie
in memory. Both run in turn, several rounds in one process, with the same model of random weights;
the median of the rounds' ratios is the result. The ratio of processor time says the same of a
machine that has other work to do: what an encoded row costs on top of its forward pass. The share
of the system is mostly that of clearing memory: `--heap usual` leaves the C library as it is, where
`sparc-extract run` keeps the memory of activations (`sparc.common.heap`). The first round makes the
heap grow.

    python tests/benchmarks/bench_extract.py [--model vit_small_patch16_224] [--pictures 192] …
"""

import argparse
import dataclasses
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from sparc.common import heap
from sparc.common.cache.thumbnails.picture import thumbnail_of
from sparc.common.devices import choose_devices
from sparc.common.images.decoding import decode
from sparc.extract import job
from sparc.extract.config import ExtractConfig
from sparc.extract.datasets import open_dataset
from sparc.extract.encoders import build_encoders
from sparc.extract.encoders.encoder import ImageEncoder


def make_pictures(folder: Path, count: int) -> None:
    """Smooth noise of 640 x 480 pixels: JPEGs of about 80 kB, like photographs."""
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = random.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)
        picture.save(folder / f"{number:06d}.jpg", quality=90)


class Cost(NamedTuple):
    """What encoding took, in seconds a row."""

    wall: float
    processor: float


def bare_cost(encoder: ImageEncoder, pixels: torch.Tensor, batches: int) -> Cost:
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(batches):
        encoder.encode(pixels).cpu()
    rows = batches * len(pixels)
    return Cost((time.perf_counter() - wall) / rows, (time.process_time() - processor) / rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="vit_small_patch16_224")
    parser.add_argument("--pictures", type=int, default=192)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--heap", choices=("kept", "usual"), default="kept")
    options = parser.parse_args()
    if options.heap == "kept":
        heap.keep_large_arrays()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        weights = root / "weights.safetensors"
        save_file(timm.create_model(options.model).state_dict(), weights)
        (root / "pictures").mkdir()
        make_pictures(root / "pictures", options.pictures)
        config = ExtractConfig(
            streams=(f"vit=timm:{options.model}@{weights}",),
            rows_per_chunk=2 * options.batch_size,
            batch_size=options.batch_size,
            device=options.device,
        )
        dataset = open_dataset(root / "pictures", config.dataset_options())
        built = build_encoders(config.specs, choose_devices(config.device)[0])
        encoder = built["vit"]
        assert hasattr(encoder, "prepare")
        files = sorted((root / "pictures").iterdir())[: options.batch_size]
        started = time.process_time()
        images = [decode(file.read_bytes()) for file in files]
        decoding = (time.process_time() - started) / len(files)
        pixels = torch.stack([encoder.prepare(image) for image in images])
        loading = (time.process_time() - started) / len(files)
        started = time.process_time()
        thumbnails = [thumbnail_of(image, config.thumbnails) for image in images]
        shrinking = (time.process_time() - started) / len(files)
        bare_cost(encoder, pixels, 1)
        print(
            f"{options.model}, batches of {options.batch_size}, {torch.get_num_threads()} threads"
        )
        print(
            f"one picture, of one core: {decoding * 1e3:.1f} ms to read and decode, "
            f"{(loading - decoding) * 1e3:.1f} ms to prepare; its thumbnail "
            f"{shrinking * 1e3:.1f} ms, {statistics.mean(map(len, thumbnails)):.0f} bytes"
        )
        for workers in options.workers:
            ratios = []
            for number in range(options.rounds):
                batches = options.pictures // options.batch_size
                before = bare_cost(encoder, pixels, batches)
                processor, system = time.process_time(), os.times().system
                summary = job.run(
                    dataset,
                    root / f"cache-{workers}-{number}",
                    dataclasses.replace(config, workers=workers),
                    build=lambda *_: built,
                )
                processor = (time.process_time() - processor) / summary.encoded_rows
                system = (os.times().system - system) / summary.encoded_rows
                wall = summary.timings.seconds / summary.encoded_rows
                after = bare_cost(encoder, pixels, batches)
                bare = Cost(*((a + b) / 2 for a, b in zip(before, after, strict=True)))
                ratios.append(bare.wall / wall)
                print(
                    f"  bare {1 / bare.wall:7.2f} rows/s, job {1 / wall:7.2f} rows/s: "
                    f"{bare.wall / wall:.3f}; processor time {bare.processor / processor:.3f}, "
                    f"{processor * 1e3:.0f} ms a row, of which thumbnails "
                    f"{shrinking / processor:.1%}, system {system / processor:.1%}"
                )
            print(f"workers {workers}: median ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
