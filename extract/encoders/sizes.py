"""How large a model will be, known before any memory is allocated for it.

A few bytes of a model's settings may ask for any number of parameters, which libraries allocate and
initialize before they compare them with the weights.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

# Libraries import it when they first build a model, which PyTorch 2.6 cannot do on the meta device.
import torch._dynamo
from torch import nn

from sparc.common.streams.places import WEIGHTS_SUFFIXES
from sparc.extract.encoders.foreign import ModelRefusedError

LARGEST_OF_HUB = 20_000_000_000
"""Most values of a model from a hub; the largest CLIP models have 5e9."""

_SMALL = 100_000_000
"""Values of a model that fits every machine, whatever weights come with it."""


def weights_limit(folder: Path) -> int:
    """Most values that the model in a folder may have: each takes at least a byte of weights."""
    return max(
        _SMALL, sum(_stored_bytes(f) for f in folder.iterdir() if f.suffix in WEIGHTS_SUFFIXES)
    )


@contextmanager
def without_memory() -> Iterator[None]:
    """Context in which PyTorch takes no memory for the tensors of models that are built."""
    # Some models read numbers from a short `linspace`, which tensors without memory do not have.
    on_cpu = functools.partial(torch.linspace, device="cpu")
    with torch.device("meta"), mock.patch.object(torch, "linspace", on_cpu):
        yield


def require_no_larger(build: Callable[[], nn.Module], limit: int) -> None:
    """Refuse a model that has more values than a limit.

    Args:
        build: Builds the model without its weights. It is called where PyTorch takes no memory for
            tensors (the meta device).
        limit: See `weights_limit`.

    Raises:
        ModelRefusedError: The model is larger.
    """
    with without_memory():
        model = build()
    values = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    if values > limit:
        raise ModelRefusedError(
            f"its settings describe a model of {values:,} values, which is larger than its weights"
        )


def _stored_bytes(file: Path) -> int:
    """The size of a weights file; of a sparse one, about the bytes that are on the disk."""
    with file.open("rb") as opened:
        if not any(opened.read(8)):  # no weights format begins with zeros
            return 0
    status = file.stat()
    # Four times its blocks, since disks compress; some network disks report no blocks at all.
    return min(status.st_size, status.st_blocks * 512 * 4 or status.st_size)
