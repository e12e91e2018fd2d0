"""What ships with the package under the name `demo`: a run, held-out rows, and a report on them.

They are folders like others, beside `sparc/__init__.py`. Functions and commands that read a run, a
cache or a report take the name for the place, so that nothing must be downloaded or trained first.
"""

import os
from functools import cache
from importlib.resources import files
from pathlib import Path

from sparc.common.files.artefacts import kind_of
from sparc.common.files.folder import Folder
from sparc.common.files.kinds import Kind
from sparc.common.progress import say

NAME = "demo"


def shipped_folder() -> Path:
    """The folder that ships with the package; `run`, `cache` and `report` lie in it."""
    return Path(str(files("sparc"))) / NAME


def ships(location: str | os.PathLike[str]) -> bool:
    """Whether an artefact is one of those that ship, given where it lies or by the name `demo`."""
    return os.fspath(location) == NAME or Path(location).parent == shipped_folder()


def located(location: str | os.PathLike[str], kind: Kind) -> str:
    """Where an artefact that is to be read lies: for `demo`, where what ships lies.

    A folder `demo` here that is such an artefact itself is meant instead, and `./demo` always is
    the folder here.

    Args:
        location: A path, URL or name, as a person gave it.
        kind: What is wanted.
    """
    given = os.fspath(location)
    if given != NAME or kind_of(here := Folder(NAME)) == kind:
        return given
    if here.exists():
        _say_what_is_meant()
    return str(shipped_folder() / kind)


def recorded(location: str) -> str:
    """What the record of an artefact says of where another one lies, so that it holds elsewhere.

    The name of what ships, the absolute path of another folder of this machine, or a URL.
    """
    local = Folder(location).local
    if local is None or not local.exists():
        return location
    absolute = local.absolute()
    return NAME if absolute.parent == shipped_folder() else str(absolute)


@cache
def _say_what_is_meant() -> None:
    """Say, once in a process, that a folder of that name is not meant."""
    say(
        f"note: {NAME} is what ships with SPARC, since the folder {NAME} here is none such; "
        f"./{NAME} would be the folder"
    )
