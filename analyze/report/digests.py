"""Digests of a report's files: only they tell a figure with a flipped bit from another figure.

`digests.json` holds the SHA-256 of each file by name: two of them while a file is being replaced,
so that an interruption between the two writes leaves nothing that looks damaged. This module must
not know what the files mean.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

from sparc.common.config import from_mapping
from sparc.common.documents import seal, unseal
from sparc.common.errors import ConfigError, ReportError
from sparc.common.files.folder import Folder

DIGESTS_FILE = "digests.json"

Digests = Mapping[str, Sequence[str]]

LARGEST_TABLE = 1 << 33
"""Bytes of a report's longest table."""


@dataclasses.dataclass(frozen=True)
class _Document:
    """The content of `digests.json`."""

    files: Mapping[str, tuple[str, ...]]


def digest(content: bytes) -> str:
    """SHA-256 in lower-case hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def read_digests(folder: Folder) -> dict[str, list[str]]:
    """The digests of a report's files, by name.

    Raises:
        ReportError: They are missing or damaged.
    """
    try:
        document = unseal(folder.read(DIGESTS_FILE))
        files = from_mapping(_Document, document, source=DIGESTS_FILE).files
        return {name: list(digests) for name, digests in files.items()}
    except (OSError, ValueError, ConfigError) as error:
        raise ReportError(
            f"{folder}/{DIGESTS_FILE} is missing or damaged ({error}): run the same "
            "`sparc-analyze run` again, which makes again what cannot be trusted"
        ) from error


def write_digests(folder: Folder, digests: Digests) -> None:
    """Write the digests of a report's files."""
    folder.write(DIGESTS_FILE, seal({"files": {name: list(x) for name, x in digests.items()}}))


def replace(folder: Folder, name: str, content: bytes) -> None:
    """Write a file of a finished report and its digest; an interruption leaves one that fits."""
    digests = read_digests(folder)
    write_digests(folder, {**digests, name: [*digests.get(name, ()), digest(content)]})
    folder.write(name, content)
    write_digests(folder, {**digests, name: [digest(content)]})


def read_checked(folder: Folder, name: str, digests: Digests, *, advice: str) -> bytes:
    """The content of a file.

    Args:
        folder: The report's folder.
        name: The file.
        digests: From `read_digests`.
        advice: How to get the file again, for the message.

    Raises:
        ReportError: The file is missing, or not what was written.
    """
    try:
        content = folder.read(name, largest=LARGEST_TABLE)
    except FileNotFoundError as error:
        raise ReportError(f"{folder}/{name} is missing: {advice}") from error
    if digest(content) not in digests.get(name, ()):
        raise ReportError(f"{folder}/{name} is damaged, it is not what was written: {advice}")
    return content


def is_intact(folder: Folder, name: str, digests: Digests) -> bool:
    """Whether a file exists as it was written."""
    try:
        read_checked(folder, name, digests, advice="")
    except ReportError:
        return False
    return True
