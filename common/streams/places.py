"""Where the text of a spec says that weights lie, in any library's spec.

Specs of all libraries have one form: `library:source`, then `?key=value&…` or the tower, `#image`
or `#text`. A source names weights by a file (`model@file`, before a tower `architecture/file`) or
by a folder (a path, or `local-dir:path`); any other source is a name that a library or hub knows.
"""

import re
from pathlib import PurePosixPath

WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar")
"""What the name of a weights file ends in; no pretrained tag ends so."""

LOCAL_FOLDER = "local-dir:"
"""What a source begins with that names a folder and would else be taken for a name."""

_SPEC = re.compile(r"(?P<library>\w+):(?P<source>.*?)(?P<end>\?\w+=[^?]*|#image|#text)?", re.DOTALL)


def same_but_for_place(first: str, second: str) -> bool:
    """Whether two specs differ at most in the place of the weights.

    A spec that follows another form equals only itself.
    """
    a, b = _SPEC.fullmatch(first), _SPEC.fullmatch(second)
    if a is None or b is None:
        return first == second
    if (a["library"], a["end"]) != (b["library"], b["end"]):
        return False
    before_tower = (a["end"] or "").startswith("#")
    if _without_place(a["source"], before_tower) == _without_place(b["source"], before_tower):
        return True
    return _ends_in(a["source"], b["source"]) or _ends_in(b["source"], a["source"])


def _without_place(source: str, before_tower: bool) -> str:
    if source.startswith(LOCAL_FOLDER):
        return f"{LOCAL_FOLDER}FOLDER"
    if source.startswith(("/", ".", "~")):
        return "FOLDER"
    if source.endswith(WEIGHTS_SUFFIXES):
        name, separator, _ = source.partition("/" if before_tower else "@")
        if separator and not (before_tower and ":" in name):  # hf-hub:organization/name
            return f"{name}{separator}FILE"
    return source


def _ends_in(absolute: str, relative: str) -> bool:
    """Whether a folder's absolute path ends in the other source.

    Specs were once recorded as typed, and a relative folder looks like a name of the hub.
    """
    if not absolute.startswith("/"):
        return False
    name = PurePosixPath(relative).parts
    return PurePosixPath(absolute).parts[-len(name) :] == name
