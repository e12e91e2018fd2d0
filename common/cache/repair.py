"""Removing what is damaged in a cache, so that whoever continues it writes it again."""

from sparc.common.cache.info import MASKS_FILE, REJECTS_FILE
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.verify import Damage, check_stream, check_tables
from sparc.common.errors import CacheError
from sparc.common.progress import progress, say
from sparc.common.text import printable


def remove_damaged_tables(cache: ActivationCache, *, has_masks: bool) -> None:
    """Check every table, and remove those that are damaged.

    Args:
        cache: The cache.
        has_masks: Whether the dataset's masks are at hand, to write them again.

    Raises:
        CacheError: The masks are damaged, and are not at hand.
    """
    for damage in check_tables(cache):
        if MASKS_FILE in damage.files and not has_masks:
            raise CacheError(
                f"{cache.folder}: {damage}; repeat the command with --masks, or remove the file"
            )
        _remove(cache, damage)


def remove_damaged_chunks(cache: ActivationCache, stream: str) -> None:
    """Check every byte of a stream, and remove the chunks that are damaged."""
    # Without the table, every row that is not valid would count as one without a reason.
    rejects = cache.rejects() if cache.folder.exists(REJECTS_FILE) else None
    with progress(cache.info.rows, f"verifying {stream}") as bar:
        for damage in check_stream(cache, stream, rejects, checked=bar.update):
            _remove(cache, damage)


def _remove(cache: ActivationCache, damage: Damage) -> None:
    say(printable(str(damage)))
    # Flags before features: a chunk without flags is not done.
    for name in reversed(damage.files):
        cache.folder.remove(name)
