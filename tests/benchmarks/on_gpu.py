"""Is training right on this GPU, and how fast is it? One command, at most five minutes, no network.

    python tests/benchmarks/on_gpu.py [--out FILE.json] [--seconds 280] [--only PART …]

First it checks what `gpu_checks.py` describes, then it measures, the most important things first:
the machine's own limits, each kernel against the bytes that it must move, whole steps, where the
time of a step goes, steps fed with rows from the device, from the host and from disk, the dense
ways, and extraction. A part that fails or finds no time says so, and the others go on. The exit
status is 1 if a check failed. Figures appear as they are found, and the file is complete after
every one of them. Without a GPU only the checks run, small, in Triton's interpreter.

Needs torch, triton and numpy; what else a part needs, it says when that is missing. `sparc` need
not be installed.

The floor of a kernel is the longer of two times. Its bytes at the rate of a copy: every operand
once, of weights the rows that are used. And its gathers at the rate at which the second-level cache
is read: weight rows or vectors, each as often as it is used, k times a row of the batch and vector.
"""

import argparse
import contextlib
import copy
import functools
import importlib.util
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("common", "extract", "train", "analyze", "pipelines")


def find_sparc() -> None:
    """Make `sparc` importable where it is not installed: by links, as for mypy."""
    with contextlib.suppress(ModuleNotFoundError):
        if importlib.util.find_spec("sparc.train"):
            return
    tree = Path(tempfile.mkdtemp()) / "sparc"
    tree.mkdir()
    for stage in STAGES:
        (tree / stage).symlink_to(ROOT / stage)
    sys.path.insert(0, str(tree.parent))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(tree.parent), os.environ.get("PYTHONPATH", "")])


find_sparc()
import torch  # noqa: E402

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

import triton  # noqa: E402
import triton.language as tl  # noqa: E402
from bench_step import DenseStep, kill  # noqa: E402
from gpu_checks import all_checks  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402

from sparc.train.config import (  # noqa: E402
    ModelConfig,
    StreamShape,
    TrainConfig,
)
from sparc.train.kernels.adam import AdamStep, Moments  # noqa: E402
from sparc.train.kernels.choice import choose  # noqa: E402
from sparc.train.kernels.graph import EAGER_STEPS  # noqa: E402
from sparc.train.kernels.interface import WeightGradient, fill_bags, invert  # noqa: E402
from sparc.train.model.initialize import create_model  # noqa: E402
from sparc.train.model.network import Sparc  # noqa: E402
from sparc.train.step.learner import GRAPHED_LOGITS, Learner  # noqa: E402

WIDTHS = {"dino": 768, "clip_image": 512, "clip_text": 512}
K = 64
BATCHES = (256, 1024, 4096, 16384)


class Figure(NamedTuple):
    """A number that was measured."""

    part: str
    name: str
    value: float
    unit: str


class Report:
    """Prints figures as they come, and keeps a JSON file of all.

    Args:
        path: The file; None for none.
        seconds: When to stop measuring, from now.
    """

    def __init__(self, path: Path | None, seconds: float) -> None:
        self._path = path
        self._began = time.monotonic()
        self._ends = self._began + seconds
        self._part = ""
        self.environment: dict[str, object] = {}
        self.figures: list[Figure] = []
        self.failed: list[str] = []

    def begin(self, part: str) -> None:
        self._part = part
        print(f"\n{part} ({time.monotonic() - self._began:.0f} s)", flush=True)

    def add(self, name: str, value: float, unit: str, note: str = "") -> None:
        self.figures.append(Figure(self._part, name, value, unit))
        print(f"  {name:62s} {value:14,.4g} {unit:10s} {note}", flush=True)
        self.write()

    def say(self, text: str) -> None:
        print(f"  {text}", flush=True)

    def fail(self, text: str) -> None:
        self.failed.append(f"{self._part}: {text}")
        self.say(f"FAILED {text}")
        self.write()

    def time_left(self, needed: float = 3.0) -> bool:
        return time.monotonic() + needed < self._ends

    def write(self) -> None:
        if self._path is None:
            return
        content = {
            **self.environment,
            "seconds": round(time.monotonic() - self._began, 1),
            "failed": self.failed,
            "figures": [figure._asdict() for figure in self.figures],
        }
        self._path.write_text(json.dumps(content, indent=1))


def describe() -> dict[str, object]:
    """Where this is measured."""
    found: dict[str, object] = {
        "torch": torch.__version__,
        "triton": triton.__version__,
        "python": sys.version.split()[0],
        "commit": os.environ.get("SPARC_COMMIT") or output("git", "rev-parse", "HEAD"),
        "processors": os.cpu_count(),
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "chip": properties.name,
            "memory": properties.total_memory,
            "multiprocessors": properties.multi_processor_count,
            "driver": output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        }
    return found


def output(*command: str) -> str:
    try:
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return result.stdout.strip()


def milliseconds(run: Callable[[], object], *, most: float = 0.6) -> float:
    """The median time of a call on the device, in about `most` seconds."""
    for _ in range(2):
        run()
    torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    torch.cuda.synchronize()
    once = max(1e-5, time.perf_counter() - began)
    inner = max(1, int(0.004 / once))
    times = []
    ends = time.perf_counter() + most
    while len(times) < 5 or (time.perf_counter() < ends and len(times) < 40):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(inner):
            run()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / inner)
    return statistics.median(times)


def nbytes(*tensors: Tensor) -> int:
    return sum(each.nbytes for each in tensors)


def new_model(latents: int, device: torch.device) -> Sparc:
    shapes = tuple(StreamShape(name, dim) for name, dim in WIDTHS.items())
    return create_model(ModelConfig(streams=shapes, latents=latents, k=K)).to(device)


def new_batch(rows: int, device: torch.device) -> dict[str, Tensor]:
    draws = torch.Generator(device).manual_seed(0)
    return {
        name: torch.randn(rows, dim, generator=draws, device=device) for name, dim in WIDTHS.items()
    }


# ------------------------------------------------------------------------------------ the parts


def check(report: Report, device: torch.device) -> None:
    """Whether everything is right."""
    for group in all_checks(device, small=device.type != "cuda"):
        count, worst = 0, 0.0
        name = ""
        try:
            with torch.no_grad():
                for each in group():
                    count, name = count + 1, each.name
                    if each.tolerance:
                        worst = max(worst, each.error / each.tolerance)
                    if not each.holds:
                        report.fail(f"{name}: off by {each.error:.3g}, at most {each.tolerance:g}")
        except Exception:
            report.fail(f"after {name}: {traceback.format_exc()[-1500:]}")
        report.say(f"{count} checks up to: {name}; worst error {worst:.2g} of what it may be")


@triton.jit
def read_kernel(buffer, sums, blocks, TIMES: tl.constexpr, BLOCK: tl.constexpr):  # noqa: N803
    """Read blocks of a small buffer, another one each time."""
    program, lanes = tl.program_id(0), tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for turn in range(TIMES):
        block = (program * 389 + turn * 577) % blocks
        total += tl.load(buffer + block * BLOCK + lanes)
    tl.store(sums + program * BLOCK + lanes, total)


def limits(report: Report, device: torch.device) -> None:
    """What the machine gives at best."""
    plain = torch.ones(1 << 28, device=device)
    copied = torch.empty_like(plain)
    report.add("copy", 2 * plain.nbytes / milliseconds(lambda: copied.copy_(plain)) / 1e6, "GB/s")
    small, sums = torch.ones(1 << 22, device=device), torch.empty(1056 * 4096, device=device)
    took = milliseconds(lambda: read_kernel[(1056,)](small, sums, 1 << 10, TIMES=256, BLOCK=4096))
    report.add("reads of 16 MB again and again", 1056 * 256 * 4096 * 4 / took / 1e6, "GB/s")
    left, right = torch.randn(16384, 1792, device=device), torch.randn(8192, 1792, device=device)
    flops = 2 * 16384 * 1792 * 8192
    halves = left.bfloat16(), right.bfloat16()
    for name, factors in {
        "float32": (left, right),
        "tf32": (left, right),
        "bfloat16": halves,
    }.items():
        torch.backends.cuda.matmul.fp32_precision = "tf32" if name == "tf32" else "ieee"
        took = milliseconds(functools.partial(torch.mm, factors[0], factors[1].T))
        report.add(f"product (16384, 1792) x (1792, 8192), {name}", took, "ms")
        report.add(f"product, {name}", flops / took / 1e9, "TFLOP/s")
    torch.backends.cuda.matmul.fp32_precision = "ieee"


def kernels_of(
    rows: int, latents: int, dim: int, device: torch.device
) -> Iterator[tuple[str, Callable[[], object], int, int]]:
    """Name, call, bytes and gathered bytes of every kernel at a size."""
    torch.manual_seed(0)
    kernels, streams = choose("triton", device), len(WIDTHS)
    draw = {"device": device, "dtype": torch.float32}
    products = [torch.randn(rows, latents, **draw) for _ in range(streams)]
    biases = [torch.randn(latents, **draw) for _ in range(streams)]
    weight = nn.functional.normalize(torch.randn(latents, dim, **draw), dim=1)
    wanted, scales = torch.randn(rows, dim, **draw), torch.rand(rows, streams, **draw)
    vectors = torch.randn(rows, streams, dim, **draw)
    along = torch.randn(latents, **draw)
    indices, values = kernels.select(products, biases, K)
    codes = nbytes(indices, values)
    yield (
        "select",
        lambda: kernels.select(products, biases, K),
        nbytes(*products, *biases) + codes,
        0,
    )
    halves = [each.bfloat16() for each in products]
    yield (
        "select from bfloat16",
        lambda: kernels.select(halves, biases, K),
        nbytes(*halves, *biases) + codes,
        0,
    )
    used = nbytes(weight) * len(indices.unique()) // latents
    once = rows * K * dim * weight.element_size()
    inverse = invert(indices, latents)
    bags = fill_bags(inverse, values)
    own = fill_bags(inverse, values[:, :1])
    moments, step = Moments(along.new_zeros(latents, dim), along.new_ones(latents, dim)), None
    step = AdamStep.on(device).set_to(1, 0.0)
    weights = nbytes(weight, *moments)
    yield "invert", lambda: invert(indices, latents), 2 * nbytes(indices) + nbytes(*inverse), 0
    yield "fill_bags", lambda: fill_bags(inverse, values), nbytes(values, *inverse, *bags), 0
    yield (
        "compare",
        lambda: kernels.compare(indices, values, weight, wanted, scales),
        codes + used + nbytes(wanted, scales, vectors, values),
        2 * once,
    )
    yield (
        "square_errors",
        lambda: kernels.square_errors(indices, values, weight, wanted),
        codes + used + nbytes(wanted),
        once,
    )
    yield (
        "decode",
        lambda: kernels.decode(indices, values, weight),
        codes + used + nbytes(vectors),
        once,
    )
    first = wanted.unsqueeze(1)
    yield (
        "value_gradients, 1 vector",
        lambda: kernels.value_gradients(indices, first, weight),
        nbytes(indices, wanted, values) + used,
        once,
    )
    yield (
        "weight_gradient, 3 vectors",
        lambda: kernels.weight_gradient(bags, vectors, 0, latents),
        nbytes(*bags, vectors, weight),
        streams * once,
    )
    # As dictionaries are used: latent l is drawn in proportion to 1 / l, the first by all rows.
    drawn = torch.rand(rows, latents, **draw).log().neg().log().neg()
    drawn -= torch.arange(1, latents + 1, device=device).log()
    skewed = fill_bags(invert(drawn.topk(K, dim=1).indices, latents), values)
    for name, gradient in {
        "update, 1 vector": WeightGradient(own, first),
        "update, 3 vectors": WeightGradient(bags, vectors, parallel=along),
        "update, 3 vectors, skewed": WeightGradient(skewed, vectors, parallel=along),
    }.items():
        read = nbytes(*gradient.bags, gradient.vectors, along)
        yield (
            name,
            lambda gradient=gradient: kernels.update(
                weight, moments, gradient, slice(0, latents), step, scale=None, unit_rows=True
            ),
            read + 2 * weights,
            gradient.vectors.shape[1] * once,
        )


def kernels(report: Report, device: torch.device) -> None:
    """Each kernel against the bytes that it must move."""
    copy, cache = (
        next(each.value for each in report.figures if each.name == name)
        for name in ("copy", "reads of 16 MB again and again")
    )
    for rows, latents, dim in ((16384, 8192, 768), (256, 8192, 768), (4096, 65536, 768)):
        with torch.no_grad():
            for name, run, bytes, gathered in kernels_of(rows, latents, dim, device):
                if not report.time_left():
                    return
                took = milliseconds(run, most=0.2)
                floor = max(bytes / copy, gathered / cache) / 1e6
                note = f"{took / floor:5.2f} x its floor: {bytes / 1e6:,.0f} MB"
                if gathered:
                    note += f", {gathered / 1e6:,.0f} MB gathered"
                size = f"{name}, B {rows}, L {latents}"
                report.add(size, took, "ms", note)
                report.figures.append(Figure("kernels", f"{size} / floor", took / floor, ""))


def steps(report: Report, device: torch.device) -> None:
    """Whole steps."""
    for latents in (8192, 65536):
        model = new_model(latents, device)
        for rows in BATCHES[::-1]:
            batch = new_batch(rows, device)
            few = latents == 65536 or rows == 4096
            for precision in ("tf32",) if few else ("tf32", "bfloat16", "float32"):
                for graphs in (True, False) if rows * latents <= GRAPHED_LOGITS else (False,):
                    if not report.time_left():
                        return
                    settings = TrainConfig(recipe="joint", kernels="triton", precision=precision)
                    learner = Learner(copy.deepcopy(model), settings, graphs=graphs)
                    step = functools.partial(learner.step, batch, 1e-4)
                    for _ in range(EAGER_STEPS):
                        step()
                    took = milliseconds(step, most=0.4)
                    name = f"step, B {rows}, L {latents}, {precision}"
                    name += ", graph" if graphs else ""
                    report.add(name, took, "ms", f"{rows / took * 1e3:,.0f} rows/s")


def dead(report: Report, device: torch.device) -> None:
    """A step with AuxK: 5% of the latents are dead."""
    for rows in (16384, 256):
        settings = TrainConfig(recipe="joint", kernels="triton", precision="tf32")
        learner = Learner(new_model(8192, device), settings)
        kill(learner, 0.05)
        for _ in range(2 * EAGER_STEPS):
            learner.step(new_batch(rows, device), 1e-4)
        batch = new_batch(rows, device)
        took = milliseconds(lambda: learner.step(batch, 1e-4), most=0.4)  # noqa: B023
        report.add(f"step, B {rows}, L 8192, tf32, 5% dead", took, "ms")


def where_time_goes(report: Report, device: torch.device) -> None:
    """The kernels of a step by their time."""
    for rows, share in ((16384, 0.0), (16384, 0.05), (256, 0.0)):
        settings = TrainConfig(recipe="joint", kernels="triton", precision="tf32")
        learner = Learner(new_model(8192, device), settings, graphs=False)
        if share:
            kill(learner, share)
        batch = new_batch(rows, device)
        for _ in range(3):
            learner.step(batch, 1e-4)
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as found:
            for _ in range(3):
                learner.step(batch, 1e-4)
            torch.cuda.synchronize()
        on_device = [each for each in found.key_averages() if each.self_device_time_total > 0]
        on_device = [each for each in on_device if each.cpu_time_total == 0]
        on_device.sort(key=lambda each: -each.self_device_time_total)
        launches = sum(each.count for each in on_device) / 3
        case = f"B {rows}" + (f", {share:.0%} dead" if share else "")
        report.add(f"launches a step, {case}", launches, "")
        total = sum(each.self_device_time_total for each in on_device) / 3e3
        report.add(f"busy, {case}", total, "ms")
        for each in on_device[:22]:
            name = f"  {case}: {each.key[:46]} x{each.count / 3:g}"
            report.add(name, each.self_device_time_total / 3e3, "ms")


def feeding(report: Report, device: torch.device) -> None:
    """Steps with rows that lie on the device or in pinned memory of the host, as float16."""
    for rows in (16384, 256):
        settings = TrainConfig(recipe="joint", kernels="triton", precision="tf32")
        learner = Learner(new_model(8192, device), settings)
        count = 16 * 16384
        there = {
            name: torch.randn(count, dim, device=device).half() for name, dim in WIDTHS.items()
        }
        order = torch.randperm(count, device=device)

        def resident() -> None:
            nonlocal order
            picked, order = order[:rows], order.roll(-rows)  # noqa: B023
            learner.step({name: x[picked].float() for name, x in there.items()}, 1e-4)  # noqa: B023

        took = milliseconds(resident, most=0.5)
        report.add(f"rows on the device, B {rows}", rows / took * 1e3, "rows/s")
        pinned = {name: x[:rows].cpu().pin_memory() for name, x in there.items()}
        copying = torch.cuda.Stream()

        def send() -> dict[str, Tensor]:
            with torch.cuda.stream(copying):  # noqa: B023
                return {n: x.to(device, non_blocking=True) for n, x in pinned.items()}  # noqa: B023

        coming = send()

        def from_host() -> None:
            nonlocal coming
            torch.cuda.current_stream().wait_stream(copying)  # noqa: B023
            arrived, coming = coming, send()
            for each in arrived.values():
                each.record_stream(torch.cuda.current_stream())
            learner.step({name: x.float() for name, x in arrived.items()}, 1e-4)  # noqa: B023

        took = milliseconds(from_host, most=0.5)
        report.add(f"rows in pinned host memory, B {rows}", rows / took * 1e3, "rows/s")


def training(report: Report, device: torch.device) -> None:
    """`sparc-train run` with everything on, rows from the device, the host and disk."""
    if importlib.util.find_spec("zarr") is None:
        report.say("left out: zarr is not installed, and a cache cannot be read")
        return
    import numpy as np

    from sparc.common.cache.arrays import write_arrays
    from sparc.train.config import TrainConfig
    from sparc.train.job import run

    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch) / "cache"
        draws = np.random.default_rng(0)
        few = {name: draws.standard_normal((4096, dim), np.float32) for name, dim in WIDTHS.items()}
        rows = {name: np.tile(x.astype(np.float16), (72, 1)) for name, x in few.items()}
        write_arrays(cache, rows, dtype="float16")
        for batch in (16384, 256):
            for residency in ("device", "host", "stream"):
                if not report.time_left(12):
                    return
                steps = 160 if batch > 1000 else 1500
                settings = TrainConfig(
                    recipe="joint",
                    latents=8192,
                    k=K,
                    batch_size=batch,
                    steps=steps,
                    log_every=steps // 8,
                    checkpoint_every=10**6,
                    precision="tf32",
                    residency=residency,  # type: ignore[arg-type]
                )
                target = Path(scratch) / f"{batch}-{residency}"
                with contextlib.redirect_stderr(io.StringIO()):
                    run(str(cache), target, settings)
                lines = [json.loads(each) for each in (target / "timings.jsonl").open()][2:-1]
                rate = statistics.median(line["rows_per_second"] for line in lines)
                waiting = statistics.median(line["waiting"] for line in lines)
                name = f"sparc-train run, rows on {residency}, B {batch}"
                report.add(name, rate, "rows/s", f"{waiting:.0%} waiting for rows")


class PlainTopK(nn.Module):
    """A TopK autoencoder as one would write it: one stream, dense codes, autograd."""

    def __init__(self, dim: int, latents: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(dim, latents)
        self.decoder = nn.Linear(latents, dim)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.encoder(x - self.decoder.bias)
        values, indices = logits.topk(K, dim=1)
        codes = torch.zeros_like(logits).scatter(1, indices, values.relu())
        reconstruction: Tensor = self.decoder(codes)
        return reconstruction


def dense(report: Report, device: torch.device) -> None:
    """The dense step as published, and a plain autoencoder by autograd, both with TF32."""
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        for rows in (256, 4096, 16384):
            batch = new_batch(rows, device)
            published = functools.partial(DenseStep(new_model(8192, device)), batch)
            took = milliseconds(published, most=0.5)
            report.add(f"dense step as published, B {rows}, tf32", took, "ms")
            plain = plain_step(torch.cat(list(batch.values()), dim=1))
            took = milliseconds(plain, most=0.5)
            report.add(f"plain TopK autoencoder of 1,792 values, B {rows}, tf32", took, "ms")
    finally:
        torch.backends.cuda.matmul.fp32_precision = "ieee"


def plain_step(batch: Tensor) -> Callable[[], None]:
    """A training step of `PlainTopK`."""
    model = PlainTopK(batch.shape[1], 8192).to(batch.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        (model(batch) - batch).square().sum(1).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def extraction(report: Report, device: torch.device) -> None:
    """Images a second: the bare encoder, and the whole job where zarr is there."""
    import timm
    from safetensors.torch import save_file

    models = {"vit_base_patch14_dinov2": "?size=224", "vit_base_patch16_clip_224": ""}
    with tempfile.TemporaryDirectory() as scratch:
        for model, options in models.items():
            encoder = timm.create_model(model, num_classes=0, img_size=224).eval().to(device)
            encode = functools.partial(encoder, torch.randn(256, 3, 224, 224, device=device))
            with torch.inference_mode():
                for dtype in (torch.bfloat16, torch.float32):
                    with torch.autocast("cuda", torch.bfloat16, enabled=dtype == torch.bfloat16):
                        took = milliseconds(encode, most=0.5)
                    kind = str(dtype).removeprefix("torch.")
                    report.add(f"{model}, bare, {kind}", 256 / took * 1e3, "images/s")
            weights = Path(scratch) / f"{model}.safetensors"
            save_file({n: x.cpu().contiguous() for n, x in encoder.state_dict().items()}, weights)
            if importlib.util.find_spec("zarr") is None:
                report.say("the job is left out: zarr is not installed")
                continue
            from bench_extract import make_pictures

            from sparc.common.devices import choose_devices
            from sparc.extract import job
            from sparc.extract.config import ExtractConfig
            from sparc.extract.datasets import open_dataset
            from sparc.extract.encoders import build_encoders

            images = Path(scratch) / "images"
            if not images.exists():
                images.mkdir()
                make_pictures(images, 256)
                for number in range(1, 16):
                    for path in sorted(images.glob("000???.jpg"))[:256]:
                        (images / f"{number:02d}-{path.name}").hardlink_to(path)
            config = ExtractConfig(
                streams=(f"vit=timm:{model}@{weights}{options}",),
                rows_per_chunk=1024,
                batch_size=256,
                device="cuda",
            )
            dataset = open_dataset(images, config.dataset_options())
            built = build_encoders(config.specs, choose_devices(config.device)[0])
            with contextlib.redirect_stderr(io.StringIO()):
                summary = job.run(dataset, Path(scratch) / model, config, build=lambda *_: built)  # noqa: B023
            rate = summary.encoded_rows / summary.timings.seconds
            report.add(f"{model}, sparc-extract, {os.cpu_count()} processors", rate, "images/s")


PARTS: dict[str, Callable[[Report, torch.device], None]] = {
    "check": check,
    "limits": limits,
    "kernels": kernels,
    "steps": steps,
    "dead": dead,
    "feeding": feeding,
    "dense": dense,
    "training": training,
    "extraction": extraction,
    "where_time_goes": where_time_goes,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="a JSON file of all figures")
    parser.add_argument("--seconds", type=float, default=280)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    options = parser.parse_args()
    has_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if has_gpu else "cpu")
    report = Report(options.out, options.seconds)
    report.environment = describe()
    for name, value in report.environment.items():
        print(f"{name:16s} {value}")
    for name in PARTS:
        if name not in options.only or (not has_gpu and name != "check"):
            continue
        report.begin(name)
        if name != "check" and not report.time_left(8):
            report.say("left out: no time is left")
            continue
        try:
            PARTS[name](report, device)
        except Exception:
            report.fail(traceback.format_exc()[-2000:])
        if has_gpu:
            torch.cuda.empty_cache()
    report.write()
    if not has_gpu:
        print("no GPU: only the checks were made, in Triton's interpreter")
    print(f"\n{len(report.failed)} failed")
    for each in report.failed:
        print(each.splitlines()[0][:300])
    sys.exit(1 if report.failed else 0)


if __name__ == "__main__":
    main()
