"""Paths that a person typed, as they are recorded: so that they hold in every working directory."""

import os
from pathlib import Path


def absolute_if_here(location: str) -> str:
    """The absolute path of a file or folder of this machine; a URL or any other name as it is.

    Links and `..` stay, since what they lead to may differ from what their text suggests.
    """
    if not os.path.exists(location):
        return location
    path = str(Path(location).absolute())
    try:
        path.encode()
    except UnicodeEncodeError:  # a folder above has a name that no record can hold
        return location
    return path
