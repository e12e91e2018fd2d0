"""Codes in memory, and the two modes in which they are selected."""

from typing import Literal, NamedTuple

from torch import Tensor

Mode = Literal["joint", "independent"]
"""`joint`: the streams of a row select the same latents, by the sum of their logits. `independent`:
each stream selects by its own logits, as if it were the only one."""


class Codes(NamedTuple):
    """Sparse codes of some rows in one stream.

    Attributes:
        indices: Latents of each row, (rows, width) int64, all different, in no particular order.
            `width` is `ModelConfig.width`: k, or `k_max` with a selector that may use more.
        values: Their values, (rows, width): zero where the logit is not positive, and where the
            selector left the latent out. A row's true L0 is the number of values above zero.
    """

    indices: Tensor
    values: Tensor
