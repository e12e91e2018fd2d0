"""Requests to stores, asked again until they are answered or patience ends.

s3fs and botocore ask again themselves where a connection breaks; here is what they leave: answers
whose bytes or checksum are wrong, servers that are in trouble, and outages of minutes.
"""

import random
import time
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakSet

from fsspec import AbstractFileSystem

from sparc.common.errors import StoreError
from sparc.common.files.remote.answers import (
    in_words,
    is_about_request,
    is_refused,
    passes,
    way_out,
)
from sparc.common.progress import say

T = TypeVar("T")

PATIENCE = 180.0
"""Seconds for which a request is asked again, where the store has answered before: a long job
outlives a short outage."""

FIRST_PATIENCE = 10.0
"""The same of a store that never answered: its URL may be wrong."""

_PAUSE, _LONGEST_PAUSE = 0.2, 8.0
_ANSWERS = (FileNotFoundError, IsADirectoryError, NotADirectoryError)

_answered: "WeakSet[AbstractFileSystem]" = WeakSet()
"""The file systems whose store has answered in this process."""


def ask(filesystem: AbstractFileSystem, request: Callable[[], T], *, doing: str, url: str) -> T:
    """Ask for something, again if need be.

    Args:
        filesystem: Whose store is asked.
        request: Asks; it may be called several times.
        doing: Such as `read`, for messages.
        url: The object, for messages.

    Raises:
        FileNotFoundError: There is no such object.
        FileExistsError: It is there, or is not what should be replaced: nothing was written.
        StoreError: The store refuses, or did not answer in time.
    """
    began, pause, is_said = time.monotonic(), _PAUSE, False
    while True:
        try:
            answer = request()
        except _ANSWERS:
            _answered.add(filesystem)
            raise
        except Exception as error:
            if is_refused(error):
                _answered.add(filesystem)
                raise FileExistsError(url) from error
            if not is_about_request(error):
                raise
            waited = time.monotonic() - began
            patience = PATIENCE if filesystem in _answered else FIRST_PATIENCE
            if not passes(error) or waited >= patience:
                raise refusal(error, doing=doing, url=url) from error
            if not is_said and waited >= FIRST_PATIENCE:
                is_said = True
                say(f"cannot {doing} {url} ({in_words(error)}): trying for up to {patience:.0f} s")
        else:
            _answered.add(filesystem)
            return answer
        time.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(2 * pause, _LONGEST_PAUSE)


def refusal(error: Exception, *, doing: str, url: str) -> StoreError:
    """The error for a request that was refused, or not answered."""
    bucket = "/".join(url.split("/")[:3])
    return StoreError(f"cannot {doing} {url}: {in_words(error)}; {way_out(error, bucket)}")
