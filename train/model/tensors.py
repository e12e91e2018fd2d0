"""Tensors in safetensors files that carry a digest of what they hold.

A weight with a flipped bit is still a number: only a digest shows it. It lies in the file's own
metadata, so it goes wherever the file goes. This module must not know what the tensors mean.
"""

import errno
import hashlib
import json
import os
import re
from collections.abc import Mapping
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from sparc.common.errors import RunError
from sparc.common.files.folder import Folder
from sparc.common.parsing import parse_object
from sparc.common.text import reason

DIGEST = "sha256"
"""The entry of a file's metadata that holds its digest."""

HEADER = 1 << 20
"""Bytes that are left to names, shapes and metadata, beside the tensors."""


def write_tensors(
    folder: Folder, name: str, tensors: Mapping[str, Tensor], *, about: Any = None
) -> None:
    """Write a file of tensors, whole or not at all.

    Args:
        folder: Where.
        name: The file's name.
        tensors: What it holds.
        about: What gives the tensors their meaning, as JSON values: part of the digest.
    """
    on_cpu = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    metadata = {DIGEST: digest(on_cpu, about=about)}
    with folder.writing(name) as path:
        try:
            # Not by bytes in memory, which would be a second copy of all tensors.
            safetensors.torch.save_file(on_cpu, path, metadata=metadata)
        except safetensors.SafetensorError as error:
            raise _os_error(error) from error


def read_tensors(
    folder: Folder, name: str, *, largest: int, about: Any = None
) -> dict[str, Tensor]:
    """Read a file of tensors. One without metadata, as other programs write it, is not checked.

    Args:
        folder: Where.
        name: The file's name.
        largest: Most bytes that the tensors may have.
        about: As it was when the file was written.

    Raises:
        RunError: There is no such file, or it does not hold what was written.
        UnsafeError: It is not a regular file, or far too long.
    """
    where = f"{folder}/{name}"
    try:
        content = folder.read(name, largest=largest + HEADER)
        tensors: dict[str, Tensor] = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        metadata = parse_object(content[8 : 8 + length]).get("__metadata__")
    except FileNotFoundError as error:
        raise RunError(f"{where} is not there") from error
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise RunError(f"{where} is damaged: {reason(error)}") from error
    if metadata is not None and metadata.get(DIGEST) != digest(tensors, about=about):
        raise RunError(
            f"{where} is damaged: its tensors, or what config.json says of them, do not fit its "
            f"{DIGEST}"
        )
    return tensors


def is_written_here(folder: Folder, name: str) -> bool:
    """Whether an existing file has the digest that `write_tensors` gives.

    Raises:
        UnsafeError: It is not a regular file.
    """
    try:
        with folder.open(name) as file:
            length = int.from_bytes(file.read(8), "little")
            metadata = parse_object(file.read(min(length, HEADER)))["__metadata__"]
        return isinstance(metadata, dict) and DIGEST in metadata
    except (OSError, ValueError, KeyError):
        return False


def _os_error(error: safetensors.SafetensorError) -> OSError:
    """The error of the system, which the library says in its message only."""
    match = re.search(r"(?:os error |code: )(\d+)", str(error))  # as of 0.6, and before
    number = int(match[1]) if match else errno.EIO
    return OSError(number, os.strerror(number))


def digest(tensors: Mapping[str, Tensor], *, about: Any = None) -> str:
    """SHA-256 over what the tensors are about, and over their names, types, shapes and values."""
    sha256 = Digest(about)
    for name, tensor in sorted(tensors.items()):
        sha256.add(name, tensor)
    return sha256.hex()


class Digest:
    """The digest of tensors that come one by one, sorted by name.

    Args:
        about: What gives them their meaning, as JSON values.
    """

    def __init__(self, about: Any = None) -> None:
        self._sha256 = hashlib.sha256(json.dumps(about, sort_keys=True).encode())

    def add(self, name: str, tensor: Tensor) -> None:
        """Add the next tensor."""
        self._sha256.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        self._sha256.update(bytes_of(tensor))

    def hex(self) -> str:
        """The digest so far, 64 hexadecimal digits."""
        return self._sha256.hexdigest()


def bytes_of(tensor: Tensor) -> memoryview:
    """The values of a tensor as they lie in a file."""
    values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return values.numpy().data
