"""Tensors written to a safetensors file one after another, so that they need not exist all at once.

The library's own writer takes them all. The file is byte for byte the one that it would write.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from sparc.common.files.folder import Folder
from sparc.train.model.tensors import DIGEST, Digest, bytes_of

_TYPES = {
    torch.bool: "BOOL",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
}
"""What the format calls the types that a learner's state has, in the order in which the library
writes them, last to first."""
_ALIGNMENT = 8
_METADATA = "__metadata__"
"""The entry of a header that is no tensor."""


class TensorsInTurn(NamedTuple):
    """Tensors that are there one after another.

    Attributes:
        layout: By name, tensors of their types and shapes, such as on device `meta`.
        tensors: The tensors, sorted by name; to be taken once.
    """

    layout: Mapping[str, Tensor]
    tensors: Iterable[tuple[str, Tensor]]

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "TensorsInTurn":
        """Tensors that are all there."""
        return cls(tensors, sorted(tensors.items()))


def write_in_turn(folder: Folder, name: str, in_turn: TensorsInTurn, *, about: Any = None) -> None:
    """As `sparc.train.model.tensors.write_tensors`, of tensors that come one by one.

    Args:
        folder: Where.
        name: The file's name.
        in_turn: The tensors.
        about: What gives them their meaning, as JSON values: part of the digest.
    """
    layout, tensors = in_turn
    order = list(_TYPES)
    sha256 = Digest(about)
    # A digest is as long as any other: the header that has the last one fits in.
    entries: dict[str, Any] = {_METADATA: {DIGEST: sha256.hex()}}
    end = 0
    for key in sorted(layout, key=lambda key: (-order.index(layout[key].dtype), key)):
        tensor, begin = layout[key], end
        end += tensor.numel() * tensor.element_size()
        entries[key] = {
            "dtype": _TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    with folder.writing(name) as path, open(path, "wb") as file:
        data = _write_header(file, entries)
        for key, tensor in tensors:
            sha256.add(key, tensor)
            file.seek(data + entries[key]["data_offsets"][0])
            file.write(bytes_of(tensor))
        entries[_METADATA][DIGEST] = sha256.hex()
        file.seek(0)
        _write_header(file, entries)


def _write_header(file: BinaryIO, entries: Mapping[str, Any]) -> int:
    """Write the length of the header and the header; returns where the tensors begin."""
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % _ALIGNMENT)
    file.write(len(header).to_bytes(8, "little"))
    file.write(header)
    return 8 + len(header)
