"""Every implementation of the kernels against sums spelled out term by term.

Triton runs in this process where there is a GPU, and in one of its own under TRITON_INTERPRET=1.
"""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparc.common.errors import ConfigError
from sparc.train.config import ModelConfig, StreamShape
from sparc.train.initialize import initial_model
from sparc.train.kernels import choose
from sparc.train.kernels.interface import fill_bags, invert, latent_sums
from sparc.train.learner import Learner, LearnerSettings

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU and not INTERPRETED else "cpu")
NAMES = ["torch"]
if INTERPRETED or GPU:
    NAMES.append("triton")
if not GPU:
    NAMES.append("numba")
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


def check(kernels, indices, values, vectors, weight, block):
    latents, k = len(weight), indices.shape[1]
    rows, count, dim = vectors.shape
    exact = [each.double().cpu() for each in (values, vectors, weight)]
    decoded = torch.zeros(rows, count, dim, dtype=torch.float64)
    products = torch.zeros(rows, count, k, dtype=torch.float64)
    gradient = torch.zeros(latents, dim, dtype=torch.float64)
    sums = torch.zeros(latents, dtype=torch.float64)
    for row in range(rows):
        for j, latent in enumerate(indices[row].tolist()):
            for vector in range(count):
                value, along = exact[0][row, vector, j], exact[1][row, vector]
                decoded[row, vector] += value * exact[2][latent]
                products[row, vector, j] = along @ exact[2][latent]
                gradient[latent] += value * along
                sums[latent] += value

    def close(actual, expected):
        assert actual.dtype == weight.dtype
        tolerance = TOLERANCES[weight.dtype]
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(
            actual.double().cpu() / scale, expected / scale, rtol=tolerance, atol=tolerance
        )

    close(kernels.decode(indices, values, weight), decoded)
    close(kernels.value_gradients(indices, vectors, weight), products)
    inverse = invert(indices, latents)
    bags = fill_bags(inverse, values)
    parts = [
        kernels.weight_gradient(bags, vectors, first, min(first + block, latents))
        for first in range(0, latents, block)
    ]
    close(torch.cat(parts), gradient)
    close(latent_sums(inverse, values.sum(1)), sums)
    assert kernels.block_rows(weight) >= 1


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


def test_bfloat16_is_summed_in_float32(kernels):
    if kernels.name != "triton" and DEVICE.type == "cpu":
        pytest.skip("training in bfloat16 needs a GPU")
    check(kernels, *draw(2, 3, 9, 150, 33, torch.bfloat16), block=150)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
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


def test_rows_that_occur_twice(kernels):
    indices, values, vectors, weight = draw(3, 2, 4, 100, 6)
    twice = [torch.cat([each, each]) for each in (indices, values, vectors)]
    check(kernels, *twice, weight, block=100)


def test_same_bits_every_time(kernels):
    indices, values, vectors, weight = draw(5, 3, 4, 80, 40, torch.float32)
    bags = fill_bags(invert(indices, 80), values)
    for run in (
        lambda: kernels.decode(indices, values, weight),
        lambda: kernels.value_gradients(indices, vectors, weight),
        lambda: kernels.weight_gradient(bags, vectors, 0, 80),
    ):
        assert torch.equal(run(), run())


@pytest.mark.parametrize("other", NAMES[1:])
@pytest.mark.parametrize("selection", ["global", "local"])
def test_training_is_that_with_torch(selection, other):
    streams = (StreamShape("a", 9), StreamShape("b", 5))
    config = ModelConfig(streams=streams, latents=12, k=2, selection=selection)
    models = {}
    for name in ("torch", other):
        model = initial_model(config, recipe="default", seed=0, means=None).double().to(DEVICE)
        learner = Learner(model, LearnerSettings(kernels=name, dead_after=3, auxk=2))
        assert learner.kernels.name == name
        draws = torch.Generator().manual_seed(1)
        for _ in range(2):
            batch = {
                s.name: torch.randn(3, s.dim, generator=draws, dtype=torch.float64).to(DEVICE)
                for s in streams
            }
            learner.step(batch, 1e-2)
        models[name] = model.state_dict()
    torch.testing.assert_close(models["torch"], models[other], rtol=1e-9, atol=1e-9)


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter")
def test_triton_in_the_interpreter():
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__]
    command += ["-k", "triton"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:]
    assert "passed" in result.stdout


@pytest.mark.skipif(INTERPRETED, reason="the interpreter runs anywhere")
def test_choice():
    cpu = torch.device("cpu")
    assert choose("auto", cpu).name == choose("numba", cpu).name == "numba"
    assert choose("torch", cpu).name == "torch"
    with pytest.raises(ConfigError, match="needs a GPU"):
        choose("triton", cpu)
    with pytest.raises(ConfigError, match="needs a CPU"):
        choose("numba", torch.device("cuda"))


@pytest.mark.skipif(INTERPRETED, reason="the interpreter runs anywhere")
@pytest.mark.parametrize(("name", "device"), [("triton", "cuda"), ("numba", "cpu")])
def test_what_is_not_installed(name, device, monkeypatch):
    monkeypatch.setitem(sys.modules, f"sparc.train.kernels.{name}_kernels", None)
    assert choose("auto", torch.device(device)).name == "torch"
    with pytest.raises(ConfigError, match="use kernels auto"):
        choose(name, torch.device(device))
