"""Paths that a person typed, as they are meant and as they are recorded."""

import os
from pathlib import Path

from sparc.common.errors import SparcError


def from_home(location: str | os.PathLike[str]) -> str:
    """A path or URL in which `~` is the home folder, where no shell has seen to that."""
    return os.path.expanduser(os.fspath(location))


def absolute_if_here(location: str) -> str:
    """The absolute path of a file or folder of this machine; a URL or any other name as it is.

    So the record of it holds in every working directory.

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


def recorded_here(location: str, *, artefact: object, way_out: str) -> str:
    """A location that an artefact names, if it is of this machine.

    What somebody else wrote down sends no requests: only what a person types does.

    Args:
        location: What the artefact says.
        artefact: The artefact, for the error message.
        way_out: How to say by hand where it is, for the error message.

    Raises:
        SparcError: It is a URL.
    """
    if "://" in location or "::" in location:
        raise SparcError(f"{artefact} names the URL {location}, which is not followed: {way_out}")
    return location
