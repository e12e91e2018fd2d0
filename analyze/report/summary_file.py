"""The summary as a file, which a person asked for with `--summary`."""

import stat
from pathlib import Path

from sparc.analyze.report.page import READING, Page
from sparc.analyze.report.renderers.registry import RENDERERS, check_suffix
from sparc.common.errors import SparcError
from sparc.common.files.folder import Folder
from sparc.common.lazy import import_home

_MARK = READING[:40].encode()
"""What every summary holds: other files have no such sentence."""


def write_summary(file: Path, page: Page) -> None:
    """Write a page, whole or not at all, and the file's folder if need be.

    Raises:
        SparcError: As `check_summary_file`, or the renderer leaves out how figures are read.
    """
    check_summary_file(file)
    content: bytes = import_home(RENDERERS[file.suffix.lower()])(page).encode()
    if _MARK not in content:
        raise SparcError(f"{file}: the renderer must show {_MARK.decode()!r}, as its registry says")
    Folder(file.parent).write(file.name, content)


def check_summary_file(file: Path) -> None:
    """Check that a file may be written; commands do so before they begin.

    Raises:
        ConfigError: There is no renderer for its suffix.
        SparcError: It exists and is no summary: a name is easily mistyped.
    """
    check_suffix(file)
    try:
        is_regular = stat.S_ISREG(file.stat().st_mode)
        if is_regular and (not file.stat().st_size or _MARK in file.read_bytes()):
            return
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise SparcError(f"{file} cannot be read: {error.strerror}") from error
    raise SparcError(f"{file} exists and is not a summary of SPARC: choose another name")
