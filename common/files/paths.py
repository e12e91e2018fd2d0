"""Paths that a person typed, as they are meant and as they are recorded."""

import os
import re
from pathlib import Path

from sparc.common.errors import ConfigError, SparcError


def from_home(location: str | os.PathLike[str]) -> str:
    """A path or URL in which `~` is the home folder, where no shell has seen to that."""
    return os.path.expanduser(os.fspath(location))


def ending(location: str | os.PathLike[str]) -> str:
    """How the name of a file ends, such as `.csv`, in small letters; it may lie behind a URL."""
    return os.path.splitext(location)[1].lower()


def is_url(text: str) -> bool:
    """Whether a text names something behind an fsspec URL, `s3://…` or a chained one."""
    return "://" in text or "::" in text


def path_here(given: str | os.PathLike[str], what: str) -> Path:
    """The path of what must lie on this machine; `~` is the home folder.

    Args:
        given: What a person typed.
        what: What it is of, for the error message.

    Raises:
        ConfigError: It is a URL, which as a path would become a folder with a strange name.
    """
    url = re.sub(r"^([a-z][a-z0-9+]+:)/+", r"\1//", os.fspath(given))  # a path has lost one slash
    if is_url(url):
        raise ConfigError(
            f"{what} must be on this machine, not behind a URL ({url}): choose a place here and "
            "copy what lies there"
        )
    return Path(given).expanduser()


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
    if is_url(location):
        raise SparcError(f"{artefact} names the URL {location}, which is not followed: {way_out}")
    return location
