"""`dataset.json`: the account as a cache keeps it. `CACHE.md` section 3.2 is normative."""

import dataclasses

from sparc.common.cache.account.account import DatasetAccount
from sparc.common.documents import DocumentKind, seal
from sparc.common.errors import CacheError, DamagedCacheError
from sparc.common.files.folder import Folder
from sparc.common.text import reason

ACCOUNT_FILE = "dataset.json"

KIND = DocumentKind("sparc-dataset-account", 1, CacheError)


def write_account(folder: Folder, account: DatasetAccount | None) -> None:
    """Write the account, in one piece, if there is one and the cache lacks it."""
    if account is not None and not folder.exists(ACCOUNT_FILE):
        folder.write(ACCOUNT_FILE, seal(KIND.document(dataclasses.asdict(account))))


def read_account(folder: Folder) -> DatasetAccount | None:
    """The account; None where the cache has none, as those from before and those of arrays.

    Raises:
        CacheError: Another version wrote it.
        DamagedCacheError: It is not what was written.
    """
    try:
        content = folder.read(ACCOUNT_FILE)
    except FileNotFoundError:
        return None
    where = f"{folder}/{ACCOUNT_FILE}"
    try:
        return KIND.sealed(DatasetAccount, content, where=where)
    except ValueError as error:
        raise DamagedCacheError(f"{where} is damaged: {reason(error)}") from error


def account_fault(folder: Folder) -> str | None:
    """What is damaged in the account; None where it is sound, or of another version."""
    try:
        read_account(folder)
    except DamagedCacheError as error:
        return str(error.__cause__)
    except CacheError:
        return None
    return None
