"""The operations in Triton as an implementation of `Kernels`.

No kernel uses atomics: every output element is worked out by one program in a fixed order. Sums are
kept in float32 (float64 for float64 inputs), whatever the inputs are. With TRITON_INTERPRET=1 the
kernels run on a CPU, slowly.

The kernels move bytes and hardly compute. So a weight row is read once for all the vectors of its
index row, several rows are in flight at a time, and what a program reads twice it read a moment ago
and finds in a cache. Tiles are laid out so that a sum is kept element by element in registers as
long as possible, and goes across threads once at the end.

Constants of a kernel are spelled in capitals, as is the custom in Triton.
"""

from torch import Tensor

from sparc.train.kernels.screening.low_logits import Screen
from sparc.train.kernels.triton.bags import latent_sums, weight_gradient
from sparc.train.kernels.triton.compare import compare, square_errors
from sparc.train.kernels.triton.decode import decode, value_gradients
from sparc.train.kernels.triton.select import select
from sparc.train.kernels.triton.update import update


class TritonKernels:
    """Implements `sparc.train.kernels.interface.Kernels`."""

    name = "triton"
    screen: Screen | None = None

    select = staticmethod(select)
    compare = staticmethod(compare)
    square_errors = staticmethod(square_errors)
    decode = staticmethod(decode)
    value_gradients = staticmethod(value_gradients)
    weight_gradient = staticmethod(weight_gradient)
    latent_sums = staticmethod(latent_sums)
    update = staticmethod(update)

    def block_rows(self, weight: Tensor) -> int:
        return len(weight)

    def is_dense(self, latents: int, k: int) -> bool:
        return False

    def batch_rows(self, batch: Tensor) -> int:
        return len(batch)
