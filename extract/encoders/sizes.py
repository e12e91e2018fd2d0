"""How large a model will be, before any memory is taken for it.

A few bytes of a model's settings may ask for any number of parameters, which libraries allocate and
initialize before they compare them with the weights.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from sparc.common.streams.places import WEIGHTS_SUFFIXES
from sparc.extract.encoders.foreign import ModelRefusedError

LARGEST_OF_HUB = 20_000_000_000
"""Values of the largest model of a hub that is built; the largest of CLIP have 5e9."""

_SMALL = 100_000_000
"""Values of a model that any machine can hold, whatever weights come with it."""


def weights_limit(folder: Path) -> int:
    """Most values that the model in a folder may have: each takes a byte of its weights or more."""
    return max(
        _SMALL, sum(_bytes_there(f) for f in folder.iterdir() if f.suffix in WEIGHTS_SUFFIXES)
    )


def require_no_larger(build: Callable[[], nn.Module], limit: int) -> None:
    """Refuse a model that has more values than a limit.

    Args:
        build: Builds the model without its weights. It is called where PyTorch takes no memory for
            tensors (the meta device).
        limit: See `weights_limit`.

    Raises:
        ModelRefusedError: The model is larger.
    """
    with torch.device("meta"):
        model = build()
    values = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    if values > limit:
        raise ModelRefusedError(
            f"its settings describe a model of {values:,} values, which is larger than its weights"
        )


def _bytes_there(file: Path) -> int:
    """The size of a weights file, or about what is on the disk of one with holes."""
    with file.open("rb") as opened:
        if not any(opened.read(8)):  # no format of weights begins so
            return 0
    found = file.stat()
    # Four times its blocks, since disks compress; some network disks count no blocks at all.
    return min(found.st_size, found.st_blocks * 512 * 4 or found.st_size)
