"""Whether weights can be fetched, and where they are kept."""

import os
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import constants

from sparc.common.text import size
from sparc.extract.encoders.hub import hub_is_reachable
from sparc.pipelines.doctor.finding import Finding


def hub() -> Iterator[Finding]:
    """The model hub, and the folder of what was fetched from it."""
    folder = Path(constants.HF_HUB_CACHE)
    kept = sum(1 for _ in folder.glob("models--*")) if folder.is_dir() else 0
    cache = f"{kept} models in {folder}" if kept else f"no models in {folder} yet"
    if constants.HF_HUB_OFFLINE:
        yield Finding(
            "hub", f"not asked, since HF_HUB_OFFLINE is set; {cache}", "`unset HF_HUB_OFFLINE`"
        )
    elif hub_is_reachable():
        yield Finding("hub", f"in reach; {cache}")
    else:
        yield Finding(
            "hub",
            f"out of reach; {cache}",
            "fetch weights where there is a network and copy that folder, or name files: "
            "`--stream 'dino=timm:MODEL@weights.safetensors'`",
        )
    if folder.is_dir():
        space = os.statvfs(folder)
        free = size(space.f_bavail * space.f_frsize)
        yield Finding("disk", f"{free} free where weights are kept")
