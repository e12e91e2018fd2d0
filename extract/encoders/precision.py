"""The arithmetic of encoders: float32, or bfloat16 by autocast.

Who runs encoders chooses it for a while (`computing`); encoders ask for it (`autocast`). Without a
choice a GPU computes in bfloat16 and a CPU in float32.
"""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import torch

from sparc.common import processor

Arithmetic = Literal["float32", "bfloat16"]

_X86 = ("x86_64", "amd64")
"""What x86 CPUs of 64 bits are called."""

_chosen: ContextVar[Arithmetic | None] = ContextVar("arithmetic", default=None)


def usual(device: torch.device) -> Arithmetic:
    """The arithmetic on a device where none is chosen."""
    return "bfloat16" if device.type == "cuda" else "float32"


def in_words(arithmetic: Arithmetic, device: torch.device) -> str:
    """What an origin records (`StreamOrigin.precision`)."""
    if arithmetic == "bfloat16":
        return "bfloat16 autocast"
    # PyTorch's default: its convolutions on a GPU round their inputs to TF32.
    uses_tf32 = device.type == "cuda" and torch.backends.cudnn.allow_tf32
    return "float32 with TF32 convolutions" if uses_tf32 else "float32"


def is_fast(arithmetic: Arithmetic, device: torch.device) -> bool:
    """Whether a device computes in it at least as fast as in float32."""
    if arithmetic == "float32":
        return True
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return True
    if platform.machine().lower() in _X86:
        return processor.bfloat16_is_fast()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextmanager
def computing(arithmetic: Arithmetic) -> Iterator[None]:
    """Let the encoders that the calling thread runs compute in some arithmetic for a while."""
    token = _chosen.set(arithmetic)
    try:
        yield
    finally:
        _chosen.reset(token)


def autocast(device: torch.device) -> torch.autocast:
    """The context in which an encoder computes: the arithmetic that was chosen, or the usual."""
    arithmetic = _chosen.get() or usual(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=arithmetic == "bfloat16")
