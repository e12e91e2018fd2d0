"""How functions are compiled with Numba, and what they are given."""

from collections.abc import Callable
from typing import Any

import numba
from numpy.typing import NDArray
from torch import Tensor


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as machine code, which holds no lock of Python.

    Sums may be reordered to fill vector registers; NaN and infinity keep their meaning. The code is
    kept beside the file of the function, or in Numba's own folder, after its first use.
    """
    decorate: Callable[..., Callable[..., Any]] = numba.njit(
        cache=True,
        nogil=True,
        error_model="numpy",
        fastmath={"reassoc", "contract", "nsz", "arcp"},
    )
    return decorate(function)


def arrays(*tensors: Tensor) -> tuple[NDArray[Any], ...]:
    """The tensors as C-contiguous arrays, which the functions are compiled for.

    Outputs must be contiguous already: of other tensors these are copies.
    """
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)
