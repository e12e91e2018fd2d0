"""The sparse mathematics of a training step, behind one interface with several implementations.

Only this folder knows Triton. `choose` picks the implementation.
"""

import os

import torch

from sparc.common.errors import ConfigError
from sparc.train.config import Kernels as KernelsName
from sparc.train.kernels.interface import Kernels
from sparc.train.kernels.torch_kernels import TorchKernels

__all__ = ["Kernels", "choose"]


def choose(kernels: KernelsName, device: torch.device) -> Kernels:
    """The implementation for a device; its `name` says which it is.

    Args:
        kernels: `auto` takes Triton on a GPU and Numba on a CPU where they are installed, PyTorch
            anywhere else; `triton` works on a CPU too if TRITON_INTERPRET=1 was set before Triton
            was first imported.
        device: Where the model lies.

    Raises:
        ConfigError: An implementation was asked for where it cannot run.
    """
    if kernels == "auto":
        try:
            return _build({"cuda": "triton", "cpu": "numba"}.get(device.type, "torch"))
        except (ImportError, RuntimeError):  # the latter where Numba may not keep what it compiles
            return TorchKernels()
    if kernels == "triton" and device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ConfigError(f"kernels triton needs a GPU, not device {device}; use kernels auto")
    if kernels == "numba" and device.type != "cpu":
        raise ConfigError(f"kernels numba needs a CPU, not device {device}; use kernels auto")
    try:
        return _build(kernels)
    except ImportError as error:
        raise ConfigError(f"kernels {kernels}: {error}; use kernels auto") from error


def _build(kernels: str) -> Kernels:
    if kernels == "triton":
        from sparc.train.kernels.triton_kernels import TritonKernels

        return TritonKernels()
    if kernels == "numba":
        from sparc.train.kernels.numba_kernels import NumbaKernels

        return NumbaKernels()
    return TorchKernels()
