"""What a finished report was made from, found again and checked: its cache and its model.

Both may have moved since; then the user says where they are, and their digests tell whether it is
true.
"""

import os

from sparc.analyze.report import Report
from sparc.common.cache import ActivationCache
from sparc.common.errors import CacheError

Location = str | os.PathLike[str]


def open_cache(report: Report, location: Location = "") -> ActivationCache:
    """The cache that a report was made from.

    Args:
        report: The report.
        location: Where the cache lies now; empty: where it lay.

    Raises:
        CacheError: It is not there, or it holds other rows than those of the report.
    """
    where = location or report.info.cache
    try:
        cache = ActivationCache(where)
    except CacheError as error:
        if location:
            raise
        raise CacheError(f"{error}: say with --cache where the cache of {report.folder} is") from (
            error
        )
    if cache.info.manifest_digest != report.info.manifest_digest:
        raise CacheError(
            f"{cache.folder} holds other rows than the cache that {report.folder} was made from: "
            "say with --cache where that is"
        )
    return cache
