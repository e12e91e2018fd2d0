"""The compiled kernels, with a selection that is screened in bfloat16."""

from sparc.train.kernels.numba_kernels import NumbaKernels
from sparc.train.kernels.screening.screen import CompiledScreen


class ScreenedKernels(NumbaKernels):
    """Those of Numba; the products that TopK compares are screened."""

    name = "screened"
    screen = CompiledScreen()
