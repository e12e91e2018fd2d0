"""Which implementation of the sparse mathematics a step uses."""

import importlib.util
from collections.abc import Iterator

import torch

from sparc.common.config import require_choice
from sparc.common.errors import ConfigError
from sparc.train.kernels.interface import Kernels
from sparc.train.kernels.registry import AUTO, CHOICES, KERNELS
from sparc.train.kernels.screening.low_logits import Screen, pays

_DEVICES = {"cuda": "a GPU", "cpu": "a CPU"}
_UNUSABLE = (ImportError, RuntimeError)  # the latter where Numba has no place to keep its code


def choose(name: str, device: torch.device) -> Kernels:
    """The implementation for a device; its `name` says which it is.

    Args:
        name: A name in `KERNELS`, or `auto`: the first of `available`.
        device: Where the model lies.

    Raises:
        ConfigError: There is no such implementation, or it cannot run here.
    """
    require_choice(name, CHOICES, "kernels")
    if name == AUTO:
        name = next(available(device))
    entry = KERNELS[name]
    if not entry.runs_on(device):
        needed = _DEVICES.get(entry.device, entry.device)
        if entry.multiplies_bfloat16 and device.type == entry.device:
            raise ConfigError(
                f"kernels {name} needs {needed} with AVX512-BF16, which this one lacks; use "
                "kernels auto"
            )
        raise ConfigError(f"kernels {name} needs {needed}, not device {device}; use kernels auto")
    try:
        kernels: Kernels = entry.load()()
    except _UNUSABLE as error:
        raise ConfigError(f"kernels {name}: {error}; use kernels auto") from error
    return kernels


def kept(name: str, recorded: str, device: torch.device) -> str:
    """What a run goes on with: what it began with, so that it ends with the same weights.

    Args:
        name: As for `choose`.
        recorded: What `choose` gave when the run began, maybe on another machine.
        device: Where the model lies.
    """
    return recorded if name == AUTO and recorded in usable(device) else name


def usable(device: torch.device) -> Iterator[str]:
    """The names of the implementations that run on a device and are installed."""
    for name, entry in KERNELS.items():
        if entry.runs_on(device):
            try:
                entry.load()
            except _UNUSABLE:
                continue
            yield name


def available(device: torch.device) -> Iterator[str]:
    """Those among them that `auto` may take, best first."""
    return (name for name in usable(device) if KERNELS[name].pays_on(device))


def screen_of(device: torch.device, latents: int, k: int) -> Screen | None:
    """What selects by products in bfloat16 for a model of that size, where that is faster.

    Args:
        device: Where the model lies.
        latents: Of the model, in all.
        k: Of a row.
    """
    able = any(entry.multiplies_bfloat16 and entry.pays_on(device) for entry in KERNELS.values())
    # Not before that is known: implementations may be slow to import.
    return choose(AUTO, device).screen if able and pays(latents, k) else None


def advice(device: torch.device) -> Iterator[str]:
    """What to install for faster steps, in sentences.

    Args:
        device: Where a model is trained, with whatever `auto` chose.
    """
    best = next(available(device))
    named = set()
    for name, entry in KERNELS.items():
        if name == best:
            return
        if not entry.pays_on(device) or not entry.gain or entry.package in named:
            continue
        if not importlib.util.find_spec(entry.package):
            named.add(entry.package)
            yield f"pip install {entry.package} {entry.gain}"
