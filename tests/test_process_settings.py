"""Functions that a notebook calls leave the settings of its process as they were."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys, threading
from pathlib import Path
import numpy as np
import torch
from huggingface_hub import constants
from sparc.analyze import AnalyzeConfig, analyze
from sparc.common import heap
from sparc.common.cache import write_arrays
from sparc.extract.encoders import build_encoders, parse_spec
from sparc.train import job
from sparc.train.config import TrainConfig

folder = Path(sys.argv[1])

def in_thread(function):
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]

def heaps():
    library = ctypes.CDLL(None)
    library.fopen.restype = ctypes.c_void_p
    stream = ctypes.c_void_p(library.fopen(str(folder / "heaps.xml").encode(), b"w"))
    library.malloc_info(0, stream)
    library.fclose(stream)
    return (folder / "heaps.xml").read_text().count("<heap nr=")

def build():
    specs = {"a": parse_spec(f"timm:test_vit@{folder}/vit.safetensors?size=32")}
    return build_encoders(specs, torch.device("cpu"))

if sys.argv[2] == "shared":
    heap.share()
begun = heaps()
torch.set_num_threads(2)
constants.HF_HUB_OFFLINE = False
values = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
write_arrays(folder / "cache", {"a": values, "b": values[:, ::-1]}, rows_per_chunk=16)
config = TrainConfig(
    latents=16, k=2, auxk=2, batch_size=16, steps=3, device="cpu", kernels="torch"
)
job.run(str(folder / "cache"), folder / "run", config)
settings = AnalyzeConfig(device="cpu", permuted=False, untrained=False)
analyze(folder / "run", folder / "cache", folder / "report", settings)
import timm
from safetensors.torch import save_file
save_file(timm.create_model("test_vit").state_dict(), folder / "vit.safetensors")
build()
print(torch.get_num_threads(), in_thread(torch.get_num_threads), constants.HF_HUB_OFFLINE,
      heaps() > begun)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc, on Linux")
def test_training_analysis_and_encoders_leave_the_process_as_it_was(tmp_path) -> None:
    for kind, has_heaps in (("as it was", True), ("shared", False)):  # which the second shows
        folder = tmp_path / kind
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(folder), kind], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["2", "2", "False", str(has_heaps)]
