"""What a GPU needs: the benchmark that checks one, and no package that it has no use for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "on_gpu.py"
NOT_NEEDED = ("zarr", "dask", "pyarrow", "google_crc32c", "numcodecs", "pandas", "scipy", "timm")


@pytest.mark.slow
def test_the_benchmark_checks_the_kernels_in_the_interpreter(tmp_path):
    pytest.importorskip("sparc.train.kernels.triton.tiles", exc_type=ImportError)  # too old
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, BENCHMARK, "--out", tmp_path / "figures.json"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert "no GPU" in result.stdout
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["failed"] == []
    assert found["torch"]


def test_a_step_needs_no_package_that_reads_caches():
    code = f"""
import sys
for name in {NOT_NEEDED!r}:
    sys.modules[name] = None
import torch
from sparc.train.config import ModelConfig, StreamShape
from sparc.train.kernels.choice import choose
from sparc.train.step.learner import Learner
from sparc.train.config import TrainConfig
from sparc.train.model.initialize import create_model
model = create_model(ModelConfig(streams=(StreamShape("a", 5),), latents=9, k=2))
learner = Learner(model, TrainConfig(recipe="joint", kernels="torch"))
print(float(learner.step({{"a": torch.ones(3, 5)}}, 1e-3).loss))
try:
    import sparc.train.kernels.triton.kernels
except ImportError as error:  # there is no Triton, or one that is too old
    assert "riton" in str(error), error
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) > 0
