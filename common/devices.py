"""Where a computation runs: the devices that a setting names.

Every command takes `auto`, `cpu`, `cuda` or `cuda:<index>`, some take several. PyTorch is imported
only to see which devices exist, so that checking a name costs nothing.
"""

import re
from typing import TYPE_CHECKING

from sparc.common.errors import ConfigError
from sparc.common.text import amount

if TYPE_CHECKING:
    import torch

ALL_DEVICES = "all"
"""Instead of names: every GPU of this machine."""

_NAME = re.compile(r"auto|cpu|cuda(:\d{1,4})?")


def check_device(name: str) -> None:
    """Refuse what can be no device, without looking at the machine.

    Raises:
        ConfigError: The name is none of those that the module lists.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"unknown device {name!r}: use auto, cpu, cuda or cuda:<index>")


def choose_device(name: str, *, index: int = 0) -> "torch.device":
    """The device of that name.

    Args:
        name: `auto` takes a GPU if the machine has one.
        index: The GPU that is meant where the name has no index: this process's own among several.

    Raises:
        ConfigError: There is no such device.
    """
    import torch

    check_device(name)
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and available == 0):
        return torch.device("cpu")
    _, _, given = name.partition(":")
    wanted = int(given or index)
    if wanted >= available:
        raise ConfigError(
            f"device cuda:{wanted} is not there: this machine offers {amount(available, 'GPU')}"
        )
    return torch.device("cuda", wanted)


def choose_devices(names: str) -> "list[torch.device]":
    """The devices of a list.

    Args:
        names: Names with commas between them, or `all`. `cpu` may be repeated: then its threads are
            shared out.

    Raises:
        ConfigError: One of them does not exist, or is a GPU named twice; GPUs and the CPU, which
            compute in different precisions, are mixed; or there is no GPU for `all`.
    """
    import torch

    if names != ALL_DEVICES:
        devices = [choose_device(name) for name in names.split(",")]
        if len({device.type for device in devices}) > 1:
            raise ConfigError(
                f"devices {names}: the CPU and GPUs compute in other precisions; name either"
            )
        repeated = next((d for d in devices if d.type == "cuda" and devices.count(d) > 1), None)
        if repeated is not None:
            raise ConfigError(f"devices {names}: {repeated} is named twice")
        return devices
    if not torch.cuda.is_available():
        raise ConfigError("devices all: no GPU is available here")
    return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
