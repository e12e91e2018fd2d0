"""Recognizing that memory ran out, which libraries report in several ways."""

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory of this machine or of a GPU could not be allocated."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # PyTorch has no type of error for this on the CPU.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
