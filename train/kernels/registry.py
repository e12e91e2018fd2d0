"""The implementations of the sparse mathematics that `--kernels` may name.

To add one, write a file in this folder with a class that has a `name` and the operations of
`sparc.train.kernels.interface.Kernels`; a subclass of `TorchKernels` overrides what it does better:

    class FusedKernels(TorchKernels):
        name = "fused"

        def decode(self, indices: Tensor, values: Tensor, weight: Tensor) -> Tensor:
            return fused.decode(indices, values, weight)

Then add a line to `KERNELS`, before those that `auto` should prefer it to:

    "fused": KernelsEntry("fused, on a GPU", f"{_HERE}.fused:FusedKernels", device="cuda"),

`sparc-train run … --kernels fused` trains with it; tests/train/kernels holds it to the formulas.
`auto` takes the first that runs and pays: one after `torch`, which runs anywhere, is used only if
it is named. How a step divides its work it asks the implementation; `TorchKernels` answers where a
subclass does not:

- `batch_rows` rows of the batch at most, and at least one part per worker thread, go into one call
  of `select`, `decode`, `compare` and the like: what stays in a cache. Return `len(batch)` if one
  call is best, as on a GPU.
- `block_rows` rows of a weight go into one call of `update`, after all gradients are known. It is
  independent of `batch_rows`.
- `is_dense` is asked about AuxK only, whose codes choose among the dead latents: if it is true,
  matrix products take the place of bags for them, and the kernels are not called.

Every command line reads this module: it imports no implementation.
"""

import dataclasses
import os
from collections import ChainMap
from collections.abc import Collection
from typing import TYPE_CHECKING

from sparc.common import processor
from sparc.common.registry import Entry

if TYPE_CHECKING:
    import torch


@dataclasses.dataclass(frozen=True)
class KernelsEntry(Entry):
    """An implementation of the kernels: its summary says where it runs, too."""

    device: str = ""
    """Type of the device that it needs, as PyTorch calls it; empty: any."""
    emulation: str = ""
    """Environment variable that is 1 where that device is emulated on any other, slowly."""
    package: str = ""
    """What must be installed besides PyTorch."""
    multiplies_bfloat16: bool = False
    """Whether it needs a CPU with instructions for it, and pays where these are fast."""
    gain: str = ""
    """What users gain who install it: said to those whose `auto` would choose it then."""

    def runs_on(self, device: "torch.device") -> bool:
        """Whether it runs on a device, once it is installed."""
        emulated = bool(self.emulation) and os.environ.get(self.emulation) == "1"
        if self.multiplies_bfloat16 and not processor.multiplies_bfloat16():
            return False
        return emulated or self.device in ("", device.type)

    def pays_on(self, device: "torch.device") -> bool:
        """Whether `auto` may take it for a device, once it is installed."""
        if self.multiplies_bfloat16 and not processor.bfloat16_is_fast():
            return False
        return self.runs_on(device)


_HERE = "sparc.train.kernels"

KERNELS: dict[str, KernelsEntry] = {
    "screened": KernelsEntry(
        "compiled, on a CPU with AVX512-BF16, where bfloat16 finds what TopK decides in float32",
        f"{_HERE}.screening.kernels:ScreenedKernels",
        device="cpu",
        package="numba",
        multiplies_bfloat16=True,
        gain="makes steps about a third faster",
    ),
    "numba": KernelsEntry(
        "compiled, on a CPU",
        f"{_HERE}.numba_kernels:NumbaKernels",
        device="cpu",
        package="numba",
        gain="makes steps about a fifth faster",
    ),
    "triton": KernelsEntry(
        "on a GPU",
        f"{_HERE}.triton.kernels:TritonKernels",
        device="cuda",
        emulation="TRITON_INTERPRET",
        package="triton",
    ),
    "torch": KernelsEntry("anywhere", f"{_HERE}.torch_kernels:TorchKernels"),
}
"""In the order in which `auto` asks them."""

AUTO = "auto"
"""Stands for the first of `KERNELS` that is installed, and runs and pays on the device."""

CHOICES: Collection[str] = ChainMap(KERNELS, {AUTO: KernelsEntry("", "")})
"""What `--kernels` may be: `AUTO`, and whatever is in `KERNELS` at the time."""
