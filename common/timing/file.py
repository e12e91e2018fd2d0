"""A file of timings that a person asked for with `--timings`: a line of JSON at a time.

It belongs to no artefact: the bytes of a cache or a report depend on what they hold, not on how
long it took. Several commands may append to one file, one after the other or at the same time.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from sparc.common.errors import SparcError
from sparc.common.timing.timings import FORMAT, Timings

_LARGEST_LINE = 1 << 16


class TimingsFile:
    """Where timings are appended.

    Args:
        path: The file; it and its folder are made if need be.

    Raises:
        SparcError: It exists and holds something else, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab+") as file:
                if file.seekable():
                    file.seek(0)
                    first = file.readline(_LARGEST_LINE)
                    if first and not _is_ours(first):
                        raise SparcError(
                            f"{path} exists and holds no timings of SPARC: choose another name"
                        )
        except OSError as error:
            raise SparcError(f"{path} cannot be written: {error.strerror}") from error

    def append(self, timings: Timings, *, finished: bool) -> None:
        """Append a line: of a command that has finished, or of one so far."""
        line = {
            **timings.to_json(),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "finished": finished,
        }
        # One write: lines of several processes do not mix.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, json.dumps(line).encode() + b"\n")
        finally:
            os.close(descriptor)


def _is_ours(line: bytes) -> bool:
    try:
        value = json.loads(line)
    except ValueError:
        return False
    return isinstance(value, dict) and value.get("format") == FORMAT
