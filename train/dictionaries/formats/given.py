"""A file or folder with a dictionary, as a user gives it: its JSON and its tensors.

Nothing in it is ever run: safetensors are read, and files of PyTorch with `weights_only`.
"""

import pickle
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from sparc.common.errors import DictionaryError
from sparc.common.files.torch_archives import require_stored
from sparc.common.parsing import LARGEST, parse_object
from sparc.common.text import printable, reason, shorten

_SAFE = ".safetensors"
_TORCH = (".pt", ".pth", ".bin", ".ckpt")
_WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Entries in which training programs keep the weights of a checkpoint."""
_SHOWN = 8
"""Names of tensors in an error message."""


class Tensors:
    """The tensors of a dictionary by name, each taken once; what nobody takes is refused.

    Args:
        tensors: By name.
        where: The file, for error messages.
    """

    def __init__(self, tensors: Mapping[str, Tensor], where: Path) -> None:
        self._left = dict(tensors)
        self._where = where

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def __iter__(self) -> Iterator[str]:
        return iter(self._left)

    def take(self, name: str, *shape: int | None) -> Tensor:
        """A tensor as float32.

        Args:
            name: Its name.
            shape: Its shape; None for a size that is not known.

        Raises:
            DictionaryError: There is none, it has another shape, or a number in it is not finite.
        """
        if name not in self._left:
            raise DictionaryError(f"{self._where} has no tensor {name}: it holds {listing(self)}")
        tensor = self._plain(name).float()
        sizes = tuple(tensor.shape)
        fits = len(sizes) == len(shape) and all(
            wanted in (None, size) for wanted, size in zip(shape, sizes, strict=True)
        )
        if not fits or 0 in sizes:
            wanted_shape = ", ".join("any" if size is None else str(size) for size in shape)
            raise DictionaryError(
                f"{self._where}: tensor {name} has shape {sizes}, not ({wanted_shape})"
            )
        if not bool(tensor.isfinite().all()):
            raise DictionaryError(f"{self._where}: tensor {name} holds NaN or infinite numbers")
        return tensor.contiguous()

    def _plain(self, name: str) -> Tensor:
        """A tensor whose numbers all lie in the file: its shape is only what somebody claims."""
        tensor = self._left.pop(name).detach()
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_complex():
            raise DictionaryError(
                f"{self._where}: tensor {name} is sparse, quantized or complex: save it dense, as "
                "float32"
            )
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise DictionaryError(
                f"{self._where}: tensor {name} claims {tensor.numel():,} numbers, not all stored: "
                "save it with `.contiguous()`"
            )
        return tensor

    def whole(self, name: str) -> int:
        """A tensor that holds a single whole number.

        Raises:
            DictionaryError: As `take`, or it is none.
        """
        number = float(self.take(name))
        if number != int(number):
            raise DictionaryError(f"{self._where}: {name} is {number}, not a whole number")
        return int(number)

    def done(self, *, without: Collection[str] = ()) -> None:
        """Refuse tensors that were not taken: they would have had a meaning.

        Args:
            without: Those that have none for codes.

        Raises:
            DictionaryError: There are others.
        """
        left = [name for name in self if name not in without]
        if left:
            raise DictionaryError(
                f"{self._where} holds tensors that are not understood, so its codes are not known: "
                f"{listing(left)}"
            )


class Given:
    """A file or folder with a dictionary.

    Args:
        path: Where.

    Raises:
        DictionaryError: Nothing is there.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise DictionaryError(f"there is no file or folder {path}")
        self.path = path
        self.folder = path if path.is_dir() else path.parent
        self._read: dict[Path, dict[str, Tensor]] = {}  # every format looks at the same file

    def __str__(self) -> str:
        return str(self.path)

    def has(self, name: str) -> bool:
        """Whether there is a file of that name: in the folder, or beside the file."""
        return (self.folder / name).is_file()

    def document(self, name: str) -> dict[str, Any]:
        """A JSON object that lies in the folder, or beside the file.

        Raises:
            DictionaryError: There is none, or it is no such thing.
        """
        path = self.folder / name
        try:
            with path.open("rb") as file:
                content = file.read(LARGEST + 1)
            if len(content) > LARGEST:
                raise ValueError("it is too long")
            return parse_object(content)
        except FileNotFoundError as error:
            raise DictionaryError(f"there is no {path}") from error
        except (OSError, ValueError) as error:
            raise DictionaryError(f"{path} is not readable JSON: {reason(error)}") from error

    def file(self, *names: str) -> Path:
        """The file with the weights: the given one, or that of a name in the given folder.

        Raises:
            DictionaryError: The folder has none of them.
        """
        if self.path.is_file():
            return self.path
        for name in names:
            if self.has(name):
                return self.path / name
        wanted = f" without {' or '.join(names)}" if names else ""
        raise DictionaryError(f"{self.path} is a folder{wanted}: give the file with the weights")

    def tensors(self, *names: str) -> Tensors:
        """The tensors of the file with the weights.

        Args:
            names: What it is called in a folder.

        Raises:
            DictionaryError: There is no such file, or it holds more than tensors.
        """
        path = self.file(*names)
        if path not in self._read:
            self._read[path] = _read(path)
        return Tensors(self._read[path], path)


def listing(names: Iterable[str]) -> str:
    """Names of tensors, as many as a line takes."""
    shown = [shorten(printable(name), 60) for name in names]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more if shown else "nothing"


def state_dict(content: Path | IO[bytes], where: Path) -> dict[str, Tensor]:
    """The tensors that PyTorch saved, by name.

    Args:
        content: A file, or what follows in an open one.
        where: The file.

    Raises:
        DictionaryError: They are damaged, or more than tensors.
        UnsafeError: They are compressed.
    """
    require_stored(content, where)
    try:
        with warnings.catch_warnings(action="ignore"):  # of old pickles
            document: Any = torch.load(content, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DictionaryError(
            f"{where} is a pickle that holds more than tensors, and loading it would run code: "
            "where you trust it, load it with the program that wrote it, and save "
            "`model.state_dict()` as safetensors or with torch.save"
        ) from error
    except Exception as error:  # of many types, for damaged and foreign files
        raise DictionaryError(f"{where} is no readable file of PyTorch: {reason(error)}") from error
    for wrapper in _WRAPPERS:
        if isinstance(document, Mapping) and isinstance(document.get(wrapper), Mapping):
            document = document[wrapper]
            break
    if not isinstance(document, Mapping):
        raise DictionaryError(f"{where} holds no state_dict, but a {type(document).__name__}")
    return {str(name): value for name, value in document.items() if isinstance(value, Tensor)}


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == _SAFE:
        try:
            return safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise DictionaryError(
                f"{path} is no readable safetensors file: {reason(error)}"
            ) from error
    if path.suffix not in _TORCH:
        raise DictionaryError(
            f"cannot tell what {path} holds: a file with weights ends in "
            f"{', '.join((_SAFE, *_TORCH))}"
        )
    return state_dict(path, path)
