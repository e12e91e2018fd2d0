"""Which kind of artefact a folder is, so that one given for another is answered with the next step.

Artefacts differ in the file by which they are recognized. This module must not know what
else is in them.
"""

from collections.abc import Collection

from sparc.common.errors import SparcError
from sparc.common.files.durable import is_leftover
from sparc.common.files.folder import Folder
from sparc.common.files.kinds import FILES, Kind
from sparc.common.files.lock import LOCK_FILE
from sparc.common.parsing import parse_object
from sparc.common.text import shorten

_CALLED: dict[Kind, str] = {
    "cache": "an activation cache",
    "run": "a run",
    "report": "a report",
    "site": "a site",
}

_MADE_BY: dict[Kind, str] = {
    "cache": "sparc-extract run DATASET CACHE",
    "run": "sparc-train run CACHE RUN",
    "report": "sparc-analyze run RUN CACHE REPORT",
    "site": "sparc-analyze browse REPORT SITE",
}


def kind_of(folder: Folder) -> Kind | None:
    """What a folder seems to be, by its files; None where it is no artefact."""
    return next((kind for kind, file in FILES.items() if folder.exists(file)), None)


def instead(wanted: Kind, folder: Folder) -> str:
    """Why a folder is not the artefact that is wanted: what it is, and what to do.

    Args:
        wanted: What a command expects.
        folder: What it was given.
    """
    command = _MADE_BY[wanted]
    kind = kind_of(folder)
    if kind is None or kind == wanted:
        missing = f"no {FILES[wanted]}" if folder.exists() else "there is no such folder"
        if folder.local is not None and folder.local.is_file():
            missing = "it is a file, not a folder"
        return f"{missing}; `{command}` makes one"
    source = _recorded(folder, kind, wanted)
    if source:
        return f"it is {_CALLED[kind]}; give the {wanted} that it was made from, {source}"
    if kind == "run" and wanted == "cache":  # a saved model does not say what it was trained on
        return f"it is {_CALLED[kind]}; `{command}` makes a cache"
    return f"it is {_CALLED[kind]}; `{command.replace(kind.upper(), str(folder))}` makes one"


def foreign_entry(folder: Folder, ours: Collection[str]) -> str | None:
    """What a folder holds besides some files and folders of ours; None if that is all.

    A lock is ours, and what a killed process left while it wrote one of the files.
    """
    if folder.local is not None:
        names = folder.entries()
    else:  # what a store leaves of a folder whose files were removed is nothing
        names = sorted({name.partition("/")[0] for name in folder.files()})
    own = (LOCK_FILE, *ours)
    return next((name for name in names if name not in own and not is_leftover(name, ours)), None)


def refuse_foreign_entry(
    folder: Folder, kind: Kind, ours: Collection[str], error: type[SparcError]
) -> None:
    """Refuse to remove an artefact beside which its folder holds anything.

    Args:
        folder: A folder that was recognized as one of that kind.
        kind: What it is.
        ours: The files and folders of such an artefact.
        error: What is raised.
    """
    if name := foreign_entry(folder, ours):
        raise error(beside_artefact(folder, name, kind))


def remove_content(
    folder: Folder, kind: Kind, ours: Collection[str], error: type[SparcError]
) -> None:
    """Remove an artefact, in the order of `ours`: its record should come last.

    So an interrupted removal leaves what is still recognized. See `refuse_foreign_entry`.
    """
    refuse_foreign_entry(folder, kind, ours, error)
    for name in ours:
        folder.remove(name)


def beside_artefact(folder: Folder, name: str, kind: Kind) -> str:
    """Why an artefact is not removed: its folder holds something of that name besides."""
    return (
        f"{folder} holds {shorten(name, 80)} besides the {kind}, so nothing is overwritten: move "
        "it, or choose another folder"
    )


def refuse_inside_artefact(folder: Folder) -> None:
    """Refuse a folder for a new artefact that lies inside another one, at any depth.

    What removes, moves or checks that one would take the new one for a part of it.

    Raises:
        SparcError: It does; says which one that is.
    """
    for above in folder.above():
        for kind, file in FILES.items():
            try:
                document = parse_object(above.read(file))
            except (OSError, ValueError, SparcError):
                continue
            if str(document.get("format", "")).startswith("sparc-"):
                raise SparcError(
                    f"{folder} lies inside {above}, which is {_CALLED[kind]}: choose a folder "
                    "beside it"
                )


def _recorded(folder: Folder, kind: Kind, wanted: Kind) -> str:
    """Where an artefact says that what it was made from is; empty where it does not."""
    try:
        document = parse_object(folder.read(FILES[kind]))
    except (OSError, ValueError, SparcError):
        return ""
    data = document.get("data") if kind == "run" else document
    location = data.get(wanted) if isinstance(data, dict) else None
    return shorten(location, 200) if isinstance(location, str) else ""
