"""Removing a cache whose place another one is to take."""

from sparc.common.cache.account.document import ACCOUNT_FILE
from sparc.common.cache.info import (
    ACTIVATIONS,
    APPENDED,
    APPENDED_FILE,
    CLASSES_FILE,
    CUT_PARTS,
    INFO_FILE,
    MASKS_FILE,
    REJECT_PARTS,
    REJECTS_FILE,
    ROWS_FILE,
    SHARDS,
    THUMBNAILS,
)
from sparc.common.errors import CacheError
from sparc.common.files.artefacts import refuse_foreign_entry, remove_content
from sparc.common.files.folder import Folder

_CONTENT = (
    ACTIVATIONS,
    THUMBNAILS,
    REJECT_PARTS,
    CUT_PARTS,
    SHARDS,
    REJECTS_FILE,
    ROWS_FILE,
    CLASSES_FILE,
    MASKS_FILE,
    ACCOUNT_FILE,
    APPENDED,
    INFO_FILE,
)
"""`cache.json` goes last: an interrupted removal leaves what is still recognized as a cache."""


def refuse_further_content(folder: Folder) -> None:
    """Refuse to remove a cache beside which a recognized folder holds anything.

    Raises:
        CacheError: It does; nothing has been removed.
    """
    if folder.exists():
        refuse_foreign_entry(folder, "cache", _CONTENT, CacheError)


def remove_cache(folder: Folder) -> None:
    """Remove the cache that a recognized folder holds, but for its lock.

    Raises:
        CacheError: The folder holds something else besides; then all stays.
    """
    if folder.exists():
        refuse_further_content(folder)
        for name in folder.files(APPENDED):
            if name != APPENDED_FILE:  # by which the start of a cache is recognized
                folder.remove(name)
        remove_content(folder, "cache", _CONTENT, CacheError)
