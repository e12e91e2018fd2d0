"""Which errors may pass when a chunk is made again, here or on another worker.

Those of disks, networks and GPUs. An image that cannot be used is a reason in the cache, not an
error, and what the dataset, the settings or an encoder are to blame for would fail again.
"""

from collections.abc import Iterator

import torch

from sparc.common.errors import UnavailableError
from sparc.extract.encoding.memory import is_out_of_memory

_STORES = frozenset(
    {"aiobotocore", "aiohttp", "azure", "botocore", "fsspec", "gcsfs", "google", "s3fs", "urllib3"}
)
"""Packages whose errors are those of a network, if they are not of type `OSError`."""

_DEVICE_ERROR: type[Exception] = getattr(torch, "AcceleratorError", torch.OutOfMemoryError)
_DEVICE_WORDS = ("CUDA error", "CUDA driver", "cuDNN error", "CUBLAS_STATUS", "CUFFT_STATUS")


def is_of_device(error: BaseException) -> bool:
    """Whether a GPU failed, so that its process cannot be relied on. Memory is another matter."""
    return any(
        not is_out_of_memory(e)
        and (
            isinstance(e, _DEVICE_ERROR)
            or (isinstance(e, RuntimeError) and any(word in str(e) for word in _DEVICE_WORDS))
        )
        for e in _causes(error)
    )


def may_pass(error: BaseException) -> bool:
    """Whether a disk, a network or a GPU is to blame."""
    return is_of_device(error) or any(
        isinstance(e, UnavailableError | OSError) or type(e).__module__.partition(".")[0] in _STORES
        for e in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
