"""Whether training on this device is right: what `on_gpu.py` checks before it measures.

Every kernel against sums spelled out in float64, then whole steps against the same steps on a CPU,
with the noise that the CPU draws; what a device draws itself is checked by itself. Without a GPU
the same runs in Triton's interpreter, at small sizes.
"""

import copy
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from sparc.train.config import ModelConfig, StreamShape, TrainConfig
from sparc.train.kernels.adam import AdamStep, Moments
from sparc.train.kernels.choice import choose
from sparc.train.kernels.interface import Kernels, WeightGradient, fill_bags, invert
from sparc.train.model.initialize import initial_model
from sparc.train.model.network import Sparc
from sparc.train.step import noise
from sparc.train.step.learner import Learner
from sparc.train.step.noise import Inputs
from sparc.train.step.recipes import published
from sparc.train.step.selection.select import select_candidates

TOLERANCES = {torch.float64: 1e-11, torch.float32: 2e-5, torch.bfloat16: 2e-2}
"""Of the largest difference over the largest number that is expected."""


class Check(NamedTuple):
    """One comparison.

    Attributes:
        name: What was compared, and on what.
        error: How far it is off.
        tolerance: How far it may be off.
    """

    name: str
    error: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether it is right; NaN is not."""
        return self.error <= self.tolerance


@dataclasses.dataclass(frozen=True)
class Case:
    """Index rows to try the kernels on.

    Attributes:
        rows: How many.
        vectors: Of each.
        k: Latents of each.
        latents: L.
        dim: Width of the weight.
        dtype: Of all but the indices.
        kind: `uniform`; `skewed`: low latents often and high ones never, so that most bags are
            empty and some are long; `one`: every row uses latent 0.
    """

    rows: int
    vectors: int
    k: int
    latents: int
    dim: int
    dtype: torch.dtype = torch.float32
    kind: str = "uniform"

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return (
            f"{self.rows}x{self.vectors}x{self.k} of {self.latents}x{self.dim} {dtype} {self.kind}"
        )

    def indices(self, device: torch.device) -> Tensor:
        """(rows, k) int64; those of a row differ."""
        draws = torch.Generator().manual_seed(self.k)
        weights = torch.ones(self.rows, self.latents)
        if self.kind == "skewed":
            weights = (1 / torch.arange(1, self.latents + 1) ** 1.5).expand_as(weights).clone()
            weights[:, max(self.k, self.latents // 2) :] = 0
        if self.kind == "one":
            weights[:, 0] = 1e9
        keys = weights.log() - torch.rand(weights.shape, generator=draws).log().neg().log()
        return keys.topk(self.k, dim=1).indices.to(device)


FULL = [
    Case(1, 1, 1, 1, 1),
    Case(5, 3, 9, 9, 7, kind="one"),
    Case(33, 1, 7, 1001, 131, kind="skewed"),
    Case(64, 3, 64, 8192, 768),
    Case(300, 3, 64, 512, 512, kind="skewed"),  # long bags
    Case(257, 2, 33, 20001, 513, kind="one"),
    Case(48, 4, 100, 4096, 1040, torch.bfloat16, "skewed"),
    Case(200, 1, 48, 256, 129, torch.bfloat16),
    Case(33, 3, 13, 300, 65, torch.float64, "skewed"),
]
SMALL = [
    Case(3, 3, 5, 9, 7, kind="one"),
    Case(5, 2, 3, 40, 33, torch.bfloat16, "skewed"),
    Case(40, 1, 4, 5, 6, torch.float64, "skewed"),  # long bags
]


def poison(device: torch.device) -> None:
    """Fill memory that is handed out next with NaN, so that nothing unwritten passes."""
    if device.type == "cuda":
        for size in (1 << 12, 1 << 16, 1 << 20, 1 << 24):
            torch.full((size,), torch.nan, device=device)


def difference(actual: Tensor, expected: Tensor) -> float:
    """The largest difference over the largest number that is expected, at least 1."""
    scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    return float((actual.double() - expected).abs().max()) / scale if expected.numel() else 0.0


def kernel_checks(kernels: Kernels, case: Case, device: torch.device) -> Iterator[Check]:
    """Every kernel on a case."""
    draws = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draws, dtype=torch.float64).to(device, case.dtype)

    indices = case.indices(device)
    values, vectors = (
        draw(case.rows, case.vectors, case.k).relu(),
        draw(case.rows, case.vectors, case.dim),
    )
    weight, tolerance = draw(case.latents, case.dim), TOLERANCES[case.dtype]
    exact = [each.double() for each in (values, vectors, weight)]
    directions = exact[2][indices]

    def check(name: str, actual: Tensor, expected: Tensor) -> Check:
        return Check(f"{name}, {case}", difference(actual, expected), tolerance)

    poison(device)
    decoded = torch.einsum("rvk,rkd->rvd", exact[0], directions)
    yield check("decode", kernels.decode(indices, values, weight), decoded)
    products = torch.einsum("rvd,rkd->rvk", exact[1], directions)
    yield check("value_gradients", kernels.value_gradients(indices, vectors, weight), products)

    wanted, scales = vectors[:, 0].contiguous(), values[:, :, 0] + 0.5
    errors = decoded - wanted.double().unsqueeze(1)
    squares = errors.square().sum(2)
    poison(device)
    compared = kernels.compare(indices, values, weight, wanted, scales)
    residuals = errors * scales.double().unsqueeze(2)
    yield check("compare: errors", compared.square_errors, squares)
    yield check("compare: residuals", compared.residuals, residuals)
    # Of the residuals as they were rounded.
    products = torch.einsum("rvd,rkd->rvk", compared.residuals.double(), directions)
    yield check("compare: products", compared.products, products)
    yield check("square_errors", kernels.square_errors(indices, values, weight, wanted), squares)

    inverse = invert(indices, case.latents)
    bags = fill_bags(inverse, values)
    terms = torch.einsum("rvk,rvd->rkd", exact[0], exact[1]).reshape(-1, case.dim)
    gradient = torch.zeros_like(exact[2]).index_add_(0, indices.reshape(-1), terms)
    poison(device)
    found = kernels.weight_gradient(bags, vectors, 0, case.latents)
    yield check("weight_gradient", found, gradient)
    sums = torch.zeros(case.latents, case.vectors, dtype=torch.float64, device=device)
    flat = exact[0].transpose(1, 2).reshape(-1, case.vectors)
    sums.index_add_(0, indices.reshape(-1), flat)
    yield check("latent_sums", kernels.latent_sums(inverse, values), sums.T)

    along, added_latents = draw(case.latents), torch.arange(0, case.latents, 3, device=device)
    added_rows = draw(len(added_latents), case.dim)
    moments = Moments(draw(*weight.shape), draw(*weight.shape).square())
    first, second = (each.double() for each in moments)
    gradient[added_latents] += added_rows.double()
    gradient -= along.double().unsqueeze(1) * exact[2]
    gradient *= 0.3
    first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
    root = (second / (1 - 0.999**3)).sqrt() + 1e-8
    moved = exact[2] - 0.01 * first / (1 - 0.9**3) / root
    moved /= moved.square().sum(1, keepdim=True).sqrt()
    kernels.update(
        weight,
        moments,
        WeightGradient(bags, vectors, added_latents, added_rows, along),
        slice(0, case.latents),
        AdamStep.on(device).set_to(3, 0.01),
        scale=torch.tensor(0.3, dtype=case.dtype, device=device),
        unit_rows=True,
    )
    yield check("update: weight", weight, moved)
    yield check("update: moments", torch.cat(moments), torch.cat((first, second)))

    whole = [
        torch.randint(-20, 21, (case.rows, case.latents), generator=draws).to(device, case.dtype)
        for _ in range(case.vectors)
    ]
    biases = [torch.randint(-9, 10, (case.latents,), generator=draws).to(device, case.dtype)] * len(
        whole
    )
    logits = torch.stack([a.double() + b.double() for a, b in zip(whole, biases, strict=True)], 1)
    poison(device)
    chosen, picked = kernels.select(whole, biases, case.k)
    first_of_equal = logits.sum(1).sort(dim=1, descending=True, stable=True).indices
    expected = first_of_equal[:, : case.k].sort(1).values
    yield Check(f"select: latents, {case}", float((chosen != expected).sum()), 0)
    at = expected.unsqueeze(1).expand(case.rows, case.vectors, case.k)
    yield check("select: values", picked, logits.gather(2, at).clamp(min=0))


@dataclasses.dataclass(frozen=True)
class StepSize:
    """A small model and its batches."""

    dims: tuple[int, ...]
    latents: int
    k: int
    rows: int
    steps: int

    def model(self, selection: str = "global") -> Sparc:
        streams = tuple(StreamShape(f"s{i}", dim) for i, dim in enumerate(self.dims))
        config = ModelConfig(streams=streams, latents=self.latents, k=self.k, selection=selection)  # type: ignore[arg-type]
        return initial_model(config, seed=0, means=None).double()

    def batches(self) -> list[dict[str, Tensor]]:
        """Features of few directions, so that latents die."""
        draws = torch.Generator().manual_seed(2)
        basis = [torch.randn(12, dim, generator=draws, dtype=torch.float64) for dim in self.dims]
        batches = []
        for _ in range(self.steps):
            mix = torch.rand(self.rows, 12, generator=draws, dtype=torch.float64) ** 6
            batches.append({f"s{i}": mix @ each for i, each in enumerate(basis)})
        return batches

    @property
    def settings(self) -> dict[str, object]:
        """AuxK wakes up after a third of the steps."""
        return {"auxk": 2 * self.k, "dead_after": self.steps // 3 * self.rows}


LARGE_STEP = StepSize((768, 512, 512), 8192, 64, 512, 3)
MIDDLE_STEP = StepSize((96, 65, 33), 500, 12, 64, 9)
SMALL_STEP = StepSize((9, 5), 12, 2, 3, 3)

# Few steps are made here, and latents are to be dead within them.
published.DEAD_AFTER_STEPS = 2

VARIANTS: dict[str, dict[str, object]] = {
    "default": {},
    "local, clipped": {"selection": "local", "clip": 0.05},
    "one code a target": {"cross_weight": 0.0},
    "published": {"recipe": "published"},
    "independent": {"independent": 1.0},
    "both modes": {"independent": 0.5, "alive_by": "both"},
    "distilled, balanced": {"terms": ("distill=0.1",), "balance": 1e-3, "independent": 0.5},
    "noise": {"noise": 0.25},
    "aligned": {"recipe": "aligned"},
}
"""Options of whole steps; the recipe is joint where none is named. A learner does not align."""


def learn(
    learner: Learner, batches: list[dict[str, Tensor]], device: torch.device
) -> dict[str, Tensor]:
    """The weights after some steps; `dead` and `loss` stand beside them."""
    dtype = next(learner.model.parameters()).dtype
    loss = torch.zeros(())
    for batch in batches:
        sums = learner.step({name: x.to(device, dtype) for name, x in batch.items()}, 1e-3)
        loss = sums.loss / sums.rows
    dead = torch.tensor(sum(learner.dead_counts().values()), dtype=torch.float64)
    return {**copy.deepcopy(learner.model.state_dict()), "loss": loss, "dead": dead}


def far(found: dict[str, Tensor], expected: dict[str, Tensor], start: dict[str, Tensor]) -> float:
    """The largest, over all parameters, of |difference| / |movement|."""
    worst = abs(float(found["loss"]) - float(expected["loss"]))
    worst = max(worst, abs(float(found["dead"]) - float(expected["dead"])))
    for name, begun in start.items():
        movement = (expected[name].double().cpu() - begun.double().cpu()).norm()
        off = (found[name].double().cpu() - expected[name].double().cpu()).norm()
        worst = max(worst, float(off / movement.clamp(min=1e-9)))
    return worst


@contextmanager
def noise_of_the_cpu() -> Iterator[None]:
    """All devices get the noise that a CPU draws in float64: their own are other numbers."""
    draw = noise.draw_noise

    def draw_on_cpu(batch: Mapping[str, Tensor], **how: object) -> dict[str, Tensor]:
        drawn = draw({name: x.cpu().double() for name, x in batch.items()}, **how)  # type: ignore[arg-type]
        return {name: x.to(batch[name]) for name, x in drawn.items()}

    noise.draw_noise = draw_on_cpu  # type: ignore[assignment]
    try:
        yield
    finally:
        noise.draw_noise = draw


def noise_checks(device: torch.device) -> Iterator[Check]:
    """What this device draws: its size, that it repeats, and that processes divide it."""
    rows, dim, scale = 512, 96, 0.25

    def draw(step: int, share: noise.Share = noise.ALL_ROWS, rows: int = rows) -> Tensor:
        batch = {"a": torch.zeros(rows, dim, device=device)}
        return noise.draw_noise(batch, scale=scale, seed=3, step=step, share=share)["a"]

    poison(device)
    drawn = draw(1)
    norms = drawn.double().norm(dim=1)
    yield Check("noise: mean norm over the wanted one", abs(float(norms.mean()) / scale - 1), 0.02)
    # The standard error of a mean over all numbers is 0.0045 of their standard deviation.
    mean = abs(float(drawn.double().mean())) * dim**0.5 / scale
    yield Check("noise: mean in standard deviations", mean, 0.03)
    yield Check("noise, again: numbers that differ", float((draw(1) != drawn).sum()), 0)
    yield Check("noise, next step: numbers that are equal", float((draw(2) == drawn).sum()), 9)
    halves = [draw(1, noise.Share(rank, 2), rows // 2) for rank in (0, 1)]
    differ = float((torch.cat(halves) != drawn).sum())
    yield Check("noise of two processes: numbers that differ", differ, 0)


def step_checks(device: torch.device, size: StepSize, variants: list[str]) -> Iterator[Check]:
    """Steps with Triton on this device against steps with PyTorch on a CPU, in float64."""
    cpu = torch.device("cpu")
    tolerances = {torch.float64: 1e-7}
    if device != cpu:  # in the interpreter NumPy computes either
        tolerances[torch.float32] = 2e-2
    for variant in variants:
        options = dict(VARIANTS[variant])
        model = size.model(str(options.pop("selection", "global")))
        options = {**size.settings, **options}
        batches, start = size.batches(), copy.deepcopy(model.state_dict())
        plain = TrainConfig(kernels="torch", **{"recipe": "joint", **options})  # type: ignore[arg-type]
        with noise_of_the_cpu():
            expected = learn(Learner(copy.deepcopy(model), plain), batches, cpu)
        triton = dataclasses.replace(plain, kernels="triton")
        name = f"{size.steps} steps, {variant}, L {size.latents}, {int(expected['dead'])} dead"
        for dtype, tolerance in tolerances.items():
            learner = Learner(copy.deepcopy(model).to(device, dtype), triton)
            with noise_of_the_cpu():
                found = learn(learner, batches, device)
            kind = str(dtype).removeprefix("torch.")
            yield Check(f"{name}, {kind}", far(found, expected, start), tolerance)


def repeat_checks(device: torch.device, size: StepSize, variant: str) -> Iterator[Check]:
    """The same bits again: in a second run, after resuming, and without CUDA graphs."""
    batches = size.batches() * (2 if device.type == "cuda" else 1)
    half = len(batches) // 2 + 1
    options = {**size.settings, **VARIANTS[variant]}
    settings = TrainConfig(kernels="triton", **{"recipe": "joint", **options})  # type: ignore[arg-type]

    def begin(model: Sparc, *, graphs: bool = True) -> Learner:
        return Learner(copy.deepcopy(model).to(device), settings, graphs=graphs)

    model = size.model().float()
    whole = learn(begin(model), batches, device)

    def different(found: dict[str, Tensor]) -> float:
        return float(sum((found[name] != each).sum() for name, each in whole.items()))

    found = learn(begin(model), batches, device)
    yield Check(f"{variant}, again: numbers that differ", different(found), 0)
    begun = begin(model)
    learn(begun, batches[:half], device)
    resumed = begin(begun.model)
    resumed.load_state(copy.deepcopy(begun.state()))
    found = learn(resumed, batches[half:], device)
    yield Check(f"{variant}, resumed: numbers that differ", different(found), 0)
    if device.type != "cuda":
        return
    found = learn(begin(model, graphs=False), batches, device)
    yield Check(f"{variant}, without graphs: numbers that differ", different(found), 0)


def precision_checks(device: torch.device, size: StepSize) -> Iterator[Check]:
    """What low precision changes: few latents of a row, and no value of those it selects."""
    model = size.model().to(device)
    batch = {name: x.to(device) for name, x in size.batches()[0].items()}
    kernels = choose("triton", device)
    exact = select_candidates(model, Inputs(batch), precision="float32", kernels=kernels)
    single = copy.deepcopy(model).float()
    singles = {name: x.float() for name, x in batch.items()}
    for precision, most in (("float32", 0.001), ("tf32", 0.02), ("bfloat16", 0.1)):
        found = select_candidates(single, Inputs(singles), precision=precision, kernels=kernels)  # type: ignore[arg-type]
        same = (found.indices[:, 0, :, None] == exact.indices[:, 0, None, :]).any(2)
        yield Check(f"{precision}: share of other latents", 1 - float(same.double().mean()), most)
        at = found.indices.expand(found.values.shape).unbind(1)
        logits = [exact.logits.at(stream, indices) for stream, indices in enumerate(at)]
        expected = torch.stack(logits, dim=1).clamp(min=0)
        yield Check(f"{precision}: values", difference(found.values, expected), 1e-5)


def sync_checks(device: torch.device, size: StepSize) -> Iterator[Check]:
    """Whether a step without dead latents waits for the device anywhere."""
    for precision in ("float32", "tf32", "bfloat16"):
        settings = TrainConfig(recipe="joint", kernels="triton", precision=precision)  # type: ignore[arg-type]
        learner = Learner(size.model().float().to(device), settings, graphs=False)
        batch = {name: x.float().to(device) for name, x in size.batches()[0].items()}
        learner.step(batch, 1e-3)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                learner.step(batch, 1e-3)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        places = {f"{w.filename.rsplit('/', 1)[-1]}:{w.lineno}" for w in caught}
        where = f" ({', '.join(sorted(places))})" if places else ""
        yield Check(f"{precision}: a step waits for the device{where}", len(places), 0)


def all_checks(device: torch.device, *, small: bool) -> list[Callable[[], Iterator[Check]]]:
    """The checks in groups, one of which may fail without the others.

    Args:
        device: Where the kernels run.
        small: For the interpreter, which takes its time.
    """
    kernels = choose("triton", device)
    cases = SMALL if small else FULL
    groups: list[Callable[[], Iterator[Check]]] = []
    for case in cases:
        groups.append(lambda case=case: kernel_checks(kernels, case, device))  # type: ignore[misc]
    size = SMALL_STEP if small else MIDDLE_STEP
    variants = ["published", "distilled, balanced"] if small else list(VARIANTS)
    groups.append(lambda: noise_checks(device))
    groups.append(lambda: step_checks(device, size, variants))
    groups.append(lambda: repeat_checks(device, size, "aligned"))
    if not small:
        groups.append(lambda: repeat_checks(device, size, "default"))
        groups.append(lambda: repeat_checks(device, size, "distilled, balanced"))
    if device.type == "cuda":
        groups.append(lambda: step_checks(device, LARGE_STEP, ["default"]))
        groups.append(lambda: precision_checks(device, LARGE_STEP))
        groups.append(lambda: sync_checks(device, MIDDLE_STEP))
    return groups
