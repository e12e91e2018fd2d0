"""What the CPU does with bfloat16: whether it multiplies it, and whether it does so fast.

These are rules and not measurements, so that two runs on one machine compute the same.
"""

import itertools
import platform
from pathlib import Path


def multiplies_bfloat16() -> bool:
    """Whether PyTorch multiplies bfloat16 with instructions of this x86 CPU."""
    import torch

    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False  # as asked for by ATEN_CPU_CAPABILITY, if not of the machine
    return _has("avx512_bf16")


def bfloat16_is_fast() -> bool:
    """Whether its products of bfloat16 are faster here than of float32, by a factor near two.

    They are with AVX512-BF16 on AMD's processors. On Intel's they are with AMX, which a virtual
    machine may hide; without it they take 1.6 times as long as in float32.
    """
    return multiplies_bfloat16() and (_has("amx_tile") or not _is_intel())


def _has(feature: str) -> bool:
    """Whether PyTorch knows it of this CPU; it has no public name for that before 2.9."""
    import torch

    supported = getattr(torch.cpu, f"_is_{feature}_supported", None)
    return supported is not None and bool(supported())


def _is_intel() -> bool:
    """Whether Intel made this CPU."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            return any("GenuineIntel" in line for line in itertools.islice(lines, 32))
    except OSError:  # not Linux
        return "GenuineIntel" in platform.processor()
