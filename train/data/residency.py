"""Choosing where the rows of a cache live while a model learns from them."""

import os
from pathlib import Path
from typing import Literal, get_args

import torch

from sparc.common.errors import ConfigError, setting
from sparc.common.text import size
from sparc.train.config import Residency
from sparc.train.distributed.exchange import Exchange

LARGEST_SHARE = 0.5
"""The share of the free memory of a device or of this machine that `auto` gives to the rows."""


Chosen = Literal["stream", "host", "device"]
"""The choice of one process that takes least memory comes first."""


def choose_residency(
    wanted: Residency, device: torch.device, bytes: int, exchange: Exchange | None = None
) -> Chosen:
    """Decide where rows live: on the device if they fit, else in main memory, else streamed.

    Args:
        wanted: What the user asked for; anything but `auto` is final.
        device: Where the model is trained.
        bytes: Size of all rows, as stored.
        exchange: The processes, which choose what fits all of them; None: there is one.

    Raises:
        ConfigError: Rows that are asked for on a device do not fit into its free memory.
    """
    if wanted == "device" and device.type == "cuda" and bytes > free_memory(device):
        host = setting("--residency host", 'residency="host"')
        raise ConfigError(
            f"the rows need {size(bytes)} and {device} has {size(free_memory(device))} free: "
            f"choose {host} or stream"
        )
    if wanted != "auto":
        return wanted
    fitting = _fitting(device, bytes)
    if exchange is None:
        return fitting
    choices: tuple[Chosen, ...] = get_args(Chosen)
    return choices[int(exchange.gather(torch.tensor([choices.index(fitting)])).min())]


def _fitting(device: torch.device, bytes: int) -> Chosen:
    """The fastest residency that this process has memory for."""
    if device.type == "cuda" and bytes <= LARGEST_SHARE * free_memory(device):
        return "device"
    # Each process of this machine keeps its own copy.
    copies = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    fits = bytes * copies <= LARGEST_SHARE * free_memory(torch.device("cpu"))
    return "host" if fits else "stream"


def free_memory(device: torch.device) -> int:
    """Bytes that can be allocated on a GPU, or on this machine within its control group."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            free = min(free, int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError, IndexError):
        pass  # not Linux, or an older kind of control group
    return max(free, 0)
