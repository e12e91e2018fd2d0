"""Telling that memory ran out, which libraries say in several ways, from everything else."""

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory of this machine or of a GPU could not be had."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # What PyTorch raises on the CPU has no type of its own.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
