"""Weights as tensors: what a file holds, and what identifies a loaded model.

No weights file is ever unpickled beyond plain tensors. This module must not know any model library.
"""

import hashlib
import pickle
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sparc.common.errors import EncoderError
from sparc.common.files.torch_archives import require_stored
from sparc.common.streams.places import WEIGHTS_SUFFIXES
from sparc.common.text import reason

_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Keys under which checkpoints of training programs keep the weights, in timm's order."""


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in a weights file, by name.

    Reads a `.safetensors` file's header only, and a PyTorch file's tensors without running any
    code in it.

    Raises:
        EncoderError: The file is missing, damaged, or not plain weights.
    """
    _check_is_weights_file(path)
    if path.suffix == ".safetensors":
        with _open_safetensors(path) as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    return {name: tuple(value.shape) for name, value in _read_torch_file(path).items()}


def load_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file on the CPU, by name; no code in it is run.

    Raises:
        EncoderError: As for `tensor_shapes`.
    """
    _check_is_weights_file(path)
    if path.suffix == ".safetensors":
        with _open_safetensors(path) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return _read_torch_file(path)


def weights_digest(module: nn.Module, *, without: Callable[[str], bool] | None = None) -> str:
    """SHA-256 over a module's parameters and persistent buffers.

    The digest covers names, dtypes, shapes and bytes; it depends neither on the device nor on the
    order in which the module declares them. Tensors are hashed in parallel.

    Args:
        module: The model.
        without: Says which tensors to leave out, by name.

    Returns:
        64 hexadecimal digits.
    """
    state = module.state_dict()
    names = sorted(name for name in state if without is None or not without(name))
    with ThreadPoolExecutor() as pool:
        digests = pool.map(lambda name: _tensor_digest(state[name]), names)
        total = hashlib.sha256()
        for name, digest in zip(names, digests, strict=True):
            value = state[name]
            total.update(f"{name} {value.dtype} {tuple(value.shape)} {digest}\n".encode())
    return total.hexdigest()


def _tensor_digest(value: Tensor) -> str:
    flat = value.detach().cpu().contiguous().reshape(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).hexdigest()


def _check_is_weights_file(path: Path) -> None:
    if not path.is_file():
        raise EncoderError(f"there is no weights file {path}")
    if path.suffix not in WEIGHTS_SUFFIXES:
        raise EncoderError(
            f"cannot tell what {path} holds: a weights file ends in one of "
            f"{', '.join(WEIGHTS_SUFFIXES)}"
        )


@contextmanager
def _open_safetensors(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise EncoderError(f"{path} is not a readable safetensors file: {reason(error)}") from error


def _read_torch_file(path: Path) -> dict[str, Tensor]:
    require_stored(path, path)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise EncoderError(
            f"{path} holds more than tensors, and SPARC runs no code from weights files: save the "
            "model's state_dict as safetensors"
        ) from error
    except Exception as error:  # torch.load raises many types for damaged or foreign files
        # PyTorch names the TorchScript archives that weights_only refuses.
        if "TorchScript" in str(error):
            raise EncoderError(
                f"{path} is a TorchScript archive, which is code: save its state_dict as "
                "safetensors"
            ) from error
        raise EncoderError(f"{path} is not a readable PyTorch weights file") from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping):
        raise EncoderError(f"{path} holds no state_dict")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise EncoderError(f"{path} holds no weights")
    return tensors
