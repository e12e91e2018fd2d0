"""Parts of files that are fetched before they are wanted, neighbours by one request."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import NamedTuple

_REQUESTS_AT_ONCE = 8

_LARGEST_REQUEST = 1 << 22
"""Bytes of a request for several parts: large enough that the round trip is a small share of it."""

_LARGEST_GAP = 1 << 18
"""Bytes that nobody wants and that are fetched all the same, to save a request."""

_MOST_AHEAD = 1 << 28
"""Bytes that are fetched or wait to be taken; what goes beyond is fetched when it is wanted."""

_PATIENCE = 300.0
"""Seconds after which what nobody took makes room for others: who wanted it was stopped."""


class Part(NamedTuple):
    """Bytes of a file.

    Attributes:
        file: Its path.
        offset: Where they begin.
        size: How many they are.
    """

    file: str
    offset: int
    size: int


class _Request:
    """Neighbouring parts of a file, which are fetched together."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.offset = parts[0].offset
        self.size = max(part.offset + part.size for part in parts) - self.offset
        self.content: Future[bytes] = Future()
        self.left = set(parts)
        self.since = time.monotonic()

    def part(self, part: Part) -> bytes:
        """The bytes of a part, once they are there."""
        start = part.offset - self.offset
        return self.content.result()[start : start + part.size]


class ReadAhead:
    """Fetches parts in threads, in bounded memory. May be used by several threads.

    Args:
        fetch: Gives bytes of a file, by path, offset and length; may fetch several at once.
    """

    def __init__(self, fetch: Callable[[str, int, int], bytes]) -> None:
        self._fetch = fetch
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(_REQUESTS_AT_ONCE, thread_name_prefix="parts")
        self._ahead: dict[Part, _Request] = {}
        self._bytes = 0

    def expect(self, parts: Iterable[Part]) -> None:
        """Begin to fetch what will be taken soon.

        Args:
            parts: In about the order in which they are taken; those that are too many are left.
        """
        with self._lock:
            new = [part for part in parts if part not in self._ahead]
        for request in _requests(new):
            with self._lock:
                if self._bytes + request.size > _MOST_AHEAD:
                    self._forget_old()
                if self._bytes + request.size > _MOST_AHEAD:
                    continue
                self._bytes += request.size
                self._ahead.update(dict.fromkeys(request.parts, request))
            self._pool.submit(self._run, request)

    def take(self, part: Part) -> bytes:
        """The bytes of a part: those that were fetched ahead, else fetched now.

        Raises:
            Exception: Whatever fetching them raised.
        """
        with self._lock:
            request = self._ahead.pop(part, None)
        if request is None:
            return self._fetch(*part)
        try:
            return request.part(part)
        except CancelledError:
            return self._fetch(*part)
        finally:
            with self._lock:
                if part in request.left:
                    request.left.discard(part)
                    self._bytes -= 0 if request.left else request.size

    def forget(self) -> None:
        """Drop what was expected and not taken.

        The end of a process waits for its threads, and for all that was asked of them.
        """
        with self._lock:
            self._drop({*self._ahead.values()})

    def _run(self, request: _Request) -> None:
        if not request.content.set_running_or_notify_cancel():
            return
        try:
            content = self._fetch(request.parts[0].file, request.offset, request.size)
        except BaseException as error:
            request.content.set_exception(error)
        else:
            request.content.set_result(content)

    def _forget_old(self) -> None:
        oldest = time.monotonic() - _PATIENCE
        requests = {*self._ahead.values()}
        self._drop(r for r in requests if r.since < oldest and r.content.done())

    def _drop(self, requests: Iterable[_Request]) -> None:
        for request in requests:
            for part in request.parts:
                if self._ahead.get(part) is request:
                    del self._ahead[part]
            request.content.cancel()
            request.left.clear()
            self._bytes -= request.size


def _requests(parts: Iterable[Part]) -> Iterator[_Request]:
    """Requests for parts; the longest parts are left to be fetched when they are wanted."""
    of_files: defaultdict[str, list[Part]] = defaultdict(list)
    for part in dict.fromkeys(parts):
        if part.size <= _LARGEST_REQUEST:
            of_files[part.file].append(part)
    for of_file in of_files.values():
        together: list[Part] = []
        for part in sorted(of_file):
            if together and not _fits(together, part):
                yield _Request(together)
                together = []
            together.append(part)
        yield _Request(together)


def _fits(together: Sequence[Part], part: Part) -> bool:
    gap = part.offset - (together[-1].offset + together[-1].size)
    whole = part.offset + part.size - together[0].offset
    return gap <= _LARGEST_GAP and whole <= _LARGEST_REQUEST
