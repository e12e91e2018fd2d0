"""Small files behind a URL that are read one after another, such as a text beside each image."""

import bisect
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from sparc.common.errors import SparcError
from sparc.extract.datasets.safe_folder import split_suffix

_AT_ONCE = 64
"""Files that are asked for together: those that follow the one that is wanted, by name."""

_REQUESTS_AT_ONCE = 16

_MOST_HELD = 64 * _AT_ONCE
"""Files that are held until they are wanted."""


class SmallFiles:
    """Files that are read in about the order of their names, by several requests at a time.

    A round trip for each of a million texts, one after another, would take a day.

    Args:
        files: All files that there are, sorted.
        read: Gives the content of one; called by several threads.
    """

    def __init__(self, files: Sequence[str], read: Callable[[str], bytes]) -> None:
        self._read = read
        self._of_suffix: defaultdict[str, list[str]] = defaultdict(list)
        for file in files:
            self._of_suffix[split_suffix(file)[1]].append(file)
        self._held: dict[str, bytes | SparcError] = {}

    def read(self, file: str) -> bytes:
        """The content of a file, by one thread.

        Raises:
            SparcError: Whatever reading it raised.
        """
        if file not in self._held:
            self._fetch_from(file)
        content = self._held.pop(file)
        if isinstance(content, SparcError):
            raise content
        return content

    def _fetch_from(self, file: str) -> None:
        alike = self._of_suffix[split_suffix(file)[1]]
        first = bisect.bisect_left(alike, file)
        following = [name for name in alike[first : first + _AT_ONCE] if name not in self._held]
        if len(self._held) + len(following) > _MOST_HELD:
            self._held.clear()
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE, thread_name_prefix="texts") as pool:
            contents = pool.map(self._attempt, following)
            self._held.update(zip(following, contents, strict=True))

    def _attempt(self, file: str) -> bytes | SparcError:
        try:
            return self._read(file)
        except SparcError as error:
            return error
