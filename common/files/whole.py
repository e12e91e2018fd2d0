"""Subfolders that are there whole or not at all, on this machine and behind a URL.

On a local disk one is written aside, synced and renamed. An object store renames nothing: one is
written to a temporary folder of this machine and then uploaded, and it counts once its last file,
its seal, is there. This module must not know what the files mean.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from sparc.common.files.durable import PARTIAL, remove_whatever, sync_folder
from sparc.common.files.folder import Folder

_REMOVED = ".removed"
"""Follows the name of a local subfolder that is being removed."""


@contextmanager
def writing_whole(folder: Folder, name: str, seal: str) -> Iterator[Folder]:
    """Write a subfolder; one of that name is replaced.

    Args:
        folder: The folder, which is held for writing.
        name: The subfolder.
        seal: The file in it that is written last.

    Yields:
        An empty folder of this machine. What it holds at the end becomes the subfolder.
    """
    if folder.local is None:
        with tempfile.TemporaryDirectory() as temporary:
            local = Folder(temporary)
            yield local
            remove_whole(folder, name, seal)
            # Sorted is as good as any order, but for the seal.
            for file in sorted(local.files(), key=lambda file: (file == seal, file)):
                with folder.writing(f"{name}/{file}") as path:
                    os.replace(local.inside(file), path)
        return
    target = folder.inside(name)
    aside = target.with_name(f"{target.name}{PARTIAL}")
    remove_whatever(aside)  # of a process that was killed
    aside.mkdir(parents=True)
    try:
        yield Folder(aside)
        remove_whole(folder, name, seal)
        aside.rename(target)
        sync_folder(target.parent)
    finally:
        remove_whatever(aside)


def whole_folders(folder: Folder, below: str, seal: str) -> list[str]:
    """The names of what lies whole in a subfolder, though files of it may be damaged.

    Args:
        folder: The folder.
        below: The subfolder in which they lie.
        seal: As it was when they were written.
    """
    if folder.local is not None:
        return [name for name in folder.entries(below) if not name.endswith(PARTIAL)]
    end = f"/{seal}"
    sealed = (file.removesuffix(end) for file in folder.files(below) if file.endswith(end))
    return [name.removeprefix(f"{below}/") for name in sealed]


def remove_whole(folder: Folder, name: str, seal: str) -> None:
    """Remove a subfolder, so that an interruption leaves none that only looks damaged.

    Nothing happens where there is none.

    Args:
        folder: The folder.
        name: The subfolder.
        seal: As it was when it was written.
    """
    if folder.local is None:
        sealed, files = f"{name}/{seal}", folder.files(name)
        if sealed in files:
            folder.remove_files([sealed])
        folder.remove_files([file for file in files if file != sealed])
    elif (there := folder.inside(name)).exists():
        going = there.with_name(f"{there.name}{_REMOVED}{PARTIAL}")
        remove_whatever(going)
        there.rename(going)
        remove_whatever(going)


def remove_half_written(folder: Folder, below: str, seal: str, name: re.Pattern[str]) -> None:
    """Remove what interrupted processes left while they wrote or removed subfolders.

    Args:
        folder: The folder, which is held for writing.
        below: The subfolder in which they lie.
        seal: As it is when they are written.
        name: Fits their names.
    """
    whole = () if folder.local is not None else whole_folders(folder, below, seal)
    for entry in folder.entries(below):
        half = entry not in whole if folder.local is None else entry.endswith(PARTIAL)
        if half and name.fullmatch(entry.removesuffix(PARTIAL).removesuffix(_REMOVED)):
            folder.remove(f"{below}/{entry}")
