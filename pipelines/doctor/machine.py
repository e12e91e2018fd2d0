"""Processors, memory, GPUs and the kernels that run on them."""

import os
import platform
import shutil
from collections.abc import Iterator

import torch

from sparc.common.devices import choose_device
from sparc.common.text import amount, size
from sparc.extract.config import usable_processors
from sparc.extract.encoders.precision import is_fast
from sparc.pipelines.doctor.finding import Finding
from sparc.train.kernels import choice


def machine() -> Iterator[Finding]:
    """What there is to compute on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield Finding(
        "machine",
        f"{platform.system()} {platform.machine()}, {amount(usable_processors(), 'processor')}, "
        f"{size(memory)} of memory",
    )
    yield _processor()
    yield from _gpus()
    yield _kernels()


def _processor() -> Finding:
    cpu = torch.device("cpu")
    vectors = torch.backends.cpu.get_cpu_capability()
    if is_fast("bfloat16", cpu):
        return Finding(
            "cpu",
            f"{vectors} with bfloat16",
            "`sparc-extract run … --precision bfloat16` is faster here; features move a little",
        )
    return Finding("cpu", f"{vectors}, bfloat16 no faster than float32")


def _gpus() -> Iterator[Finding]:
    version = torch.__version__
    if not torch.cuda.is_available():
        if shutil.which("nvidia-smi"):
            build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
            yield Finding(
                "gpu",
                f"none that PyTorch {version} ({build}) can use, though nvidia-smi is there",
                "install a build of PyTorch for the CUDA version that `nvidia-smi` shows",
            )
        else:
            yield Finding("gpu", "none: training and extraction run on the CPU")
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        has_bfloat16 = is_fast("bfloat16", torch.device("cuda", index))
        yield Finding(
            "gpu",
            f"cuda:{index} {properties.name}, {size(properties.total_memory)}, compute capability "
            f"{properties.major}.{properties.minor}, {'' if has_bfloat16 else 'no '}bfloat16",
        )


def _kernels() -> Finding:
    device = choose_device("auto")
    usable = list(choice.available(device))
    advice = "; ".join(f"`{line.split(' makes ')[0]}`" for line in choice.advice(device))
    others = f" (also {', '.join(usable[1:])})" if usable[1:] else ""
    return Finding("kernels", f"{usable[0]} for training on {device.type}{others}", advice)
