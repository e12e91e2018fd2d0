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
        kernels: `auto` takes Triton on a GPU that has it, PyTorch anywhere else; `triton` works on
            a CPU too if TRITON_INTERPRET=1 was set before Triton was first imported.
        device: Where the model lies.

    Raises:
        ConfigError: Triton was asked for where it cannot run.
    """
    if kernels == "torch" or (kernels == "auto" and device.type != "cuda"):
        return TorchKernels()
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ConfigError(f"kernels triton needs a GPU, not device {device}; use kernels auto")
    try:
        from sparc.train.kernels.triton_kernels import TritonKernels
    except ImportError as error:
        if kernels == "auto":
            return TorchKernels()
        raise ConfigError(f"kernels triton: {error}; use kernels auto") from error
    return TritonKernels()
