"""The implementations of the kernels whose sparse mathematics differ."""

import torch

from sparc.train.kernels.choice import available


def different_kernels(device: torch.device) -> list[str]:
    """Those that run on a device; `screened` is `numba` but for how large models select."""
    return [name for name in available(device) if name != "screened"]
