"""Every implementation of the kernels against sums spelled out term by term.

Triton runs in this process where there is a GPU, and in one of its own under TRITON_INTERPRET=1.
"""

import os
import subprocess
import sys

import pytest
import torch
from different_kernels import different_kernels
from hypothesis import given, settings
from hypothesis import strategies as st

from sparc.common import processor
from sparc.common.errors import ConfigError
from sparc.train.config import ModelConfig, StreamShape, TrainConfig
from sparc.train.kernels.adam import AdamStep, Moments
from sparc.train.kernels.choice import choose
from sparc.train.kernels.interface import WeightGradient, fill_bags, invert
from sparc.train.kernels.registry import KERNELS
from sparc.train.model.initialize import initial_model
from sparc.train.reference import Reference
from sparc.train.step.learner import Learner

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU and not INTERPRETED else "cpu")
NAMES = different_kernels(DEVICE)
EXAMPLES = 3 if INTERPRETED else 40

TOLERANCES = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 2e-2}


@pytest.fixture(params=NAMES)
def kernels(request):
    return choose(request.param, DEVICE)


def draw(rows, vectors, k, latents, dim, dtype=torch.float64, seed=0):
    draws = torch.Generator().manual_seed(seed)
    indices = torch.stack([torch.randperm(latents, generator=draws)[:k] for _ in range(rows)])
    values = torch.randn(rows, vectors, k, generator=draws, dtype=torch.float64).relu()
    vectors_ = torch.randn(rows, vectors, dim, generator=draws, dtype=torch.float64)
    weight = torch.randn(latents, dim, generator=draws, dtype=torch.float64)
    floats = (each.to(DEVICE, dtype) for each in (values, vectors_, weight))
    return indices.to(DEVICE), *floats


def decoded_and_gradient(indices, values, vectors, latents, weight=None):
    """By definition, term by term in float64: sums of weight rows, and of vectors by latent."""
    rows, count, _ = values.shape
    weight = torch.zeros(latents, vectors.shape[2]) if weight is None else weight
    values, vectors, weight = (each.double().cpu() for each in (values, vectors, weight))
    decoded = torch.zeros(rows, count, weight.shape[1], dtype=torch.float64)
    gradient = torch.zeros(latents, vectors.shape[2], dtype=torch.float64)
    for row in range(rows):
        for j, latent in enumerate(indices[row].tolist()):
            for vector in range(count):
                value = values[row, vector, j]
                decoded[row, vector] += value * weight[latent]
                gradient[latent] += value * vectors[row, vector]
    return decoded, gradient


def dot_products(indices, vectors, weight):
    """By definition, in float64."""
    vectors, weight = vectors.double().cpu(), weight.double().cpu()
    of_rows = [
        [[along @ weight[latent] for latent in latents] for along in row]
        for latents, row in zip(indices.tolist(), vectors, strict=True)
    ]
    return torch.stack([torch.stack([torch.stack(each) for each in row]) for row in of_rows])


def close(actual, expected, dtype):
    assert actual.dtype == dtype
    tolerance = TOLERANCES[dtype]
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(
        actual.double().cpu() / scale, expected / scale, rtol=tolerance, atol=tolerance
    )


def check(kernels, indices, values, vectors, weight, block):
    latents, dtype = len(weight), weight.dtype
    decoded, gradient = decoded_and_gradient(indices, values, vectors, latents, weight)
    close(kernels.decode(indices, values, weight), decoded, dtype)
    products = dot_products(indices, vectors, weight)
    close(kernels.value_gradients(indices, vectors, weight), products, dtype)
    inverse = invert(indices, latents)
    bags = fill_bags(inverse, values)
    parts = [
        kernels.weight_gradient(bags, vectors, first, min(first + block, latents))
        for first in range(0, latents, block)
    ]
    close(torch.cat(parts), gradient, dtype)
    for vector, sums in enumerate(kernels.latent_sums(inverse, values)):
        of_vector = values[:, vector : vector + 1]
        _, expected = decoded_and_gradient(
            indices, of_vector, torch.ones_like(of_vector[..., :1]), latents
        )
        close(sums, expected.squeeze(1), dtype)
    assert kernels.block_rows(weight) >= 1


def check_compare(kernels, indices, values, vectors, weight, repeats):
    """The first of `vectors` are what is targets, a row of them for every `repeats` index rows."""
    targets, scales = vectors[::repeats, 0], vectors[:, :, 0] + 2
    decoded, _ = decoded_and_gradient(indices, values, vectors, len(weight), weight)
    errors = decoded - targets.double().cpu().repeat_interleave(repeats, 0).unsqueeze(1)
    squares = torch.stack([torch.stack([each @ each for each in row]) for row in errors])
    residuals = errors * scales.double().cpu().unsqueeze(2)
    compared = kernels.compare(indices, values, weight, targets, scales)
    close(compared.square_errors, squares, weight.dtype)
    close(compared.residuals, residuals, weight.dtype)
    close(compared.products, dot_products(indices, residuals, weight), weight.dtype)
    alone = kernels.square_errors(indices, values, weight, targets)
    close(alone, squares, weight.dtype)


def check_update(kernels, indices, values, vectors, weight, rows, *, number=3, **options):
    """Adam on `rows` of a weight.

    The gradient is that of `values` and `vectors`; `options` add to it.
    """
    (latents, dim), dtype = weight.shape, weight.dtype
    draws = torch.Generator().manual_seed(number)

    def more(*shape):
        return torch.randn(shape, generator=draws, dtype=torch.float64).to(DEVICE, dtype)

    moments = Moments(more(latents, dim), more(latents, dim).square())
    added_latents = along = scale = None
    _, exact = decoded_and_gradient(indices, values, vectors, latents)
    direction = weight.double().cpu()
    if options.get("add"):
        added_latents = torch.arange(0, latents, 3, device=DEVICE)
        added_rows = more(len(added_latents), dim)
        exact[::3] += added_rows.double().cpu()
    if options.get("project"):
        along = more(latents)
        exact -= along.double().cpu().unsqueeze(1) * direction
    if options.get("clip"):
        scale = torch.tensor(0.3, dtype=dtype, device=DEVICE)
        exact *= scale.double().cpu()
    unit_rows = options.get("unit_rows", False)

    # Algorithm 1 of Kingma & Ba 2015, then the norm.
    first = 0.9 * moments.first.double().cpu() + 0.1 * exact
    second = 0.999 * moments.second.double().cpu() + 0.001 * exact**2
    root = (second / (1 - 0.999**number)).sqrt()
    moved = direction - 0.01 * first / (1 - 0.9**number) / (root + 1e-8)
    if unit_rows:
        moved /= (moved**2).sum(1, keepdim=True).sqrt()

    gradient = WeightGradient(
        fill_bags(invert(indices, latents), values),
        vectors,
        added_latents,
        None if added_latents is None else added_rows,
        along,
    )
    before = [each.clone() for each in (weight, *moments)]
    parameter = torch.nn.Parameter(weight.clone())
    step = AdamStep.on(DEVICE).set_to(number, 0.01)
    with torch.no_grad():
        kernels.update(parameter, moments, gradient, rows, step, scale=scale, unit_rows=unit_rows)
    for actual, old, new in zip(
        (parameter.detach(), *moments), before, (moved, first, second), strict=True
    ):
        expected = old.double().cpu()
        expected[rows] = new[rows]
        close(actual, expected, dtype)


def check_select(kernels, products, biases, k):
    """Sums of these products and biases are exact."""
    logits = [
        product.double().cpu() + bias.double().cpu()
        for product, bias in zip(products, biases, strict=True)
    ]
    total = sum(logits)
    indices, values = kernels.select(products, biases, k)
    again, _ = kernels.select(products, biases, k)
    assert torch.equal(indices, again)
    assert indices.dtype == torch.int64
    assert values.dtype == products[0].dtype
    indices = indices.cpu()
    assert indices.shape == (len(total), k)
    assert all(len(set(row)) == k for row in indices.tolist())
    largest = total.topk(k, dim=1).values
    assert torch.equal(total.gather(1, indices).sort(1, descending=True).values, largest)
    chosen = torch.stack([each.gather(1, indices) for each in logits], dim=1)
    assert torch.equal(values.double().cpu(), chosen.clamp(min=0))
    if kernels.name == "triton":  # of equal sums the first, in ascending order
        first = total.sort(dim=1, descending=True, stable=True).indices[:, :k]
        assert torch.equal(indices, first.sort(1).values)


def draw_logits(rows, streams, latents, dtype=torch.float32, seed=0, most=1000):
    """Products and biases, all of them whole numbers of at most so many eighths."""
    draws = torch.Generator().manual_seed(seed)

    def whole(*shape):
        drawn = torch.randint(-most, most + 1, shape, generator=draws, dtype=torch.float64)
        return (drawn / 8).to(DEVICE, dtype)

    products = [whole(rows, latents) for _ in range(streams)]
    return products, [whole(latents) for _ in range(streams)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("rows", "vectors", "k", "latents", "dim"),
    [
        (1, 1, 1, 1, 1),
        (3, 1, 1, 20, 5),  # one latent a row
        (5, 3, 9, 9, 7),  # all latents
        (2, 3, 5, 90, 131),  # odd, larger than a block of Triton
        (3, 4, 2, 40, 16),
        (2, 3, 9, 150, 8),
    ],
)
def test_operations(kernels, rows, vectors, k, latents, dim, dtype):
    check(kernels, *draw(rows, vectors, k, latents, dim, dtype), block=64)


@pytest.mark.parametrize(
    ("rows", "repeats", "vectors", "k", "latents", "dim", "dtype"),
    [
        (1, 1, 1, 1, 1, 1, torch.float64),
        (4, 1, 3, 9, 30, 7, torch.float64),
        (6, 3, 1, 5, 30, 9, torch.float64),  # streams of a row that select independently
        (1, 1, 4, 70, 300, 33, torch.float32),  # more latents than a tile of Triton
        (1, 1, 3, 2, 20, 1040, torch.float32),  # more dimensions
    ],
)
def test_compare(kernels, rows, repeats, vectors, k, latents, dim, dtype):
    check_compare(kernels, *draw(rows, vectors, k, latents, dim, dtype), repeats)


@pytest.mark.parametrize(
    ("dtype", "rows", "options"),
    [
        (torch.float64, slice(0, 7), {"add": True, "project": True, "unit_rows": True}),
        (torch.float64, slice(2, 6), {"add": True, "clip": True}),
        (torch.float64, slice(0, 7), {"number": 1}),
        (torch.float32, slice(3, 7), {"project": True, "clip": True, "unit_rows": True}),
        (torch.float32, slice(0, 7), {"number": 20_000}),
    ],
)
def test_update(kernels, dtype, rows, options):
    check_update(kernels, *draw(9, 3, 5, 7, 11, dtype), rows, **options)


@pytest.mark.parametrize(
    ("rows", "streams", "k", "latents", "dtype"),
    [
        (1, 1, 1, 1, torch.float32),
        (2, 3, 4, 61, torch.float32),
        (1, 4, 37, 37, torch.float32),  # all
        (1, 2, 5, 61, torch.float64),
        (1, 2, 7, 4099, torch.float32),  # more latents than a block of Triton
        (1, 1, 64, 65536, torch.float32),
    ],
)
def test_select(kernels, rows, streams, k, latents, dtype):
    check_select(kernels, *draw_logits(rows, streams, latents, dtype), k)


def test_select_among_equal_sums(kernels):
    products, biases = draw_logits(1, 2, 45, most=1)
    products.append(-sum(products))  # zeros of both signs
    biases.append(torch.zeros_like(biases[0]))
    check_select(kernels, products, biases, 20)
    check_select(kernels, [torch.zeros(1, 9, device=DEVICE)], [torch.zeros(9, device=DEVICE)], 3)


def test_select_from_a_row_that_is_not_finite(kernels):
    products, biases = draw_logits(3, 1, 33)
    products[0][0] = torch.nan
    products[0][1, 7], products[0][1, 5] = torch.nan, torch.inf
    products[0][2] = -torch.inf
    indices, values = kernels.select(products, biases, 4)
    assert ((indices >= 0) & (indices < 33)).all()
    assert all(len(set(row)) == 4 for row in indices.tolist())
    assert values[0].isnan().all()
    assert {5, 7} <= set(indices[1].tolist())
    assert (values[2] == 0).all()


def test_bfloat16_is_summed_in_float32(kernels):
    if kernels.name != "triton" and DEVICE.type == "cpu":
        pytest.skip("training in bfloat16 needs a GPU")
    drawn = draw(2, 3, 9, 150, 33, torch.bfloat16)
    check(kernels, *drawn, block=150)
    check_compare(kernels, *drawn, repeats=1)
    check_select(kernels, *draw_logits(1, 3, 50, torch.bfloat16, most=20), 6)


@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_any_size(kernels, data):
    latents = data.draw(st.integers(1, 120), "latents")
    drawn = draw(
        rows=data.draw(st.integers(1, 6), "rows"),
        vectors=data.draw(st.integers(1, 4), "vectors"),
        k=data.draw(st.integers(1, min(latents, 12)), "k"),
        latents=latents,
        dim=data.draw(st.integers(1, 20), "dim"),
    )
    check(kernels, *drawn, block=data.draw(st.integers(1, latents), "block"))
    check_compare(kernels, *drawn, repeats=data.draw(st.sampled_from(divisors(len(drawn[0])))))
    first = data.draw(st.integers(0, latents - 1), "first")
    rows = slice(first, data.draw(st.integers(first + 1, latents), "last"))
    given = ("add", "project", "clip", "unit_rows")
    options = {option: data.draw(st.booleans(), option) for option in given}
    check_update(kernels, *drawn, rows, **options)


def divisors(number):
    return [each for each in range(1, number + 1) if number % each == 0]


@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_select_from_any_size(kernels, data):
    latents = data.draw(st.integers(1, 200), "latents")
    logits = draw_logits(
        rows=data.draw(st.integers(1, 2), "rows"),
        streams=data.draw(st.integers(1, 5), "streams"),
        latents=latents,
        most=data.draw(st.sampled_from([1, 10, 1000]), "most"),
    )
    with pytest.MonkeyPatch.context() as patch:
        if kernels.name == "triton":  # several blocks
            for name in ("_ROW_LATENTS", "_GROUPS", "_BLOCK_LATENTS"):
                patch.setattr(f"sparc.train.kernels.triton.select.{name}", 16)
        check_select(kernels, *logits, data.draw(st.integers(1, latents), "k"))


def test_rows_that_occur_twice(kernels):
    indices, values, vectors, weight = draw(3, 2, 4, 100, 6)
    twice = [torch.cat([each, each]) for each in (indices, values, vectors)]
    check(kernels, *twice, weight, block=100)
    check_update(kernels, *twice, weight, slice(0, 100), unit_rows=True)


def test_same_bits_every_time(kernels):
    indices, values, vectors, weight = draw(5, 3, 4, 80, 40, torch.float32)
    bags = fill_bags(invert(indices, 80), values)
    for run in (
        lambda: kernels.decode(indices, values, weight),
        lambda: kernels.value_gradients(indices, vectors, weight),
        lambda: kernels.weight_gradient(bags, vectors, 0, 80),
        lambda: kernels.compare(indices, values, weight, vectors[:, 0], values[..., 0]).products,
        lambda: kernels.square_errors(indices, values, weight, vectors[:, 0]),
    ):
        assert torch.equal(run(), run())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("selection", ["global", "local", "batch"])
@pytest.mark.parametrize("variances", [None, (0.3, 0.7)])
def test_training_is_that_of_the_reference(selection, name, variances):
    """With AuxK: all but the latents selected in the first batch are dead in it."""
    streams = (StreamShape("a", 9), StreamShape("b", 5))
    config = ModelConfig(streams=streams, latents=12, k=2, selection=selection)
    model, twin = (initial_model(config, seed=0, means=None).double().to(DEVICE) for _ in range(2))
    settings = TrainConfig(
        recipe="joint",
        kernels=name,
        dead_after=2,
        auxk=2,
        error="variance" if variances else "norm",
    )
    learner = Learner(model, settings, variances=variances or ())
    reference = Reference(twin, dead_after=2, auxk=2, lr=1e-2, variances=variances)
    assert learner.kernels.name == name
    draws = torch.Generator().manual_seed(1)
    for _ in range(2):
        batch = {
            s.name: torch.randn(2, s.dim, generator=draws, dtype=torch.float64).to(DEVICE)
            for s in streams
        }
        learner.step(batch, 1e-2)
        reference.step(batch)
        assert all(learner.dead_counts().values())
    actual, expected = dict(model.named_parameters()), dict(twin.named_parameters())
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter")
def test_triton_in_the_interpreter():
    pytest.importorskip("sparc.train.kernels.triton.tiles", exc_type=ImportError)  # too old
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__]
    command += ["-k", "triton"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:]
    assert "passed" in result.stdout


@pytest.mark.skipif(INTERPRETED, reason="the interpreter runs anywhere")
@pytest.mark.parametrize("multiplies_bfloat16", [True, False])
def test_choice(monkeypatch, multiplies_bfloat16):
    monkeypatch.setattr(processor, "multiplies_bfloat16", lambda: multiplies_bfloat16)
    monkeypatch.setattr(processor, "_is_intel", lambda: False)
    cpu = torch.device("cpu")
    assert choose("auto", cpu).name == ("screened" if multiplies_bfloat16 else "numba")
    assert choose("numba", cpu).name == "numba"
    assert choose("torch", cpu).name == "torch"
    if not multiplies_bfloat16:
        with pytest.raises(ConfigError, match="needs a CPU with AVX512-BF16, which this one lacks"):
            choose("screened", cpu)
    with pytest.raises(ConfigError, match="needs a GPU"):
        choose("triton", cpu)
    with pytest.raises(ConfigError, match=r"kernels must be one of auto, .*, not 'cuda'"):
        choose("cuda", cpu)
    with pytest.raises(ConfigError, match="needs a CPU"):
        choose("numba", torch.device("cuda"))


@pytest.mark.skipif(INTERPRETED, reason="the interpreter runs anywhere")
@pytest.mark.parametrize(("name", "device"), [("triton", "cuda"), ("numba", "cpu")])
def test_what_is_not_installed(name, device, monkeypatch):
    for entry in KERNELS.values():
        if entry.package == KERNELS[name].package:
            monkeypatch.setitem(sys.modules, entry.home.partition(":")[0], None)
    assert choose("auto", torch.device(device)).name == "torch"
    with pytest.raises(ConfigError, match="use kernels auto"):
        choose(name, torch.device(device))
