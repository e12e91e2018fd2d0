"""A file of timings that a person asked for with `--timings`: a line of JSON at a time.

It belongs to no artefact: the bytes of a cache or a report depend on what they hold, not on how
long it took. Several commands may append to one file, one after the other or at the same time.
"""

import json
import os
import socket
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

from sparc.common.errors import SparcError
from sparc.common.timing.timings import FORMAT, Timings

OPTION_HELP = (
    "Append lines of JSON to this file, now and then and at the end: where the time goes, by "
    "worker."
)
"""Of the option `--timings FILE`, which all long commands have."""

_LARGEST_LINE = 1 << 16


def check_timings_file(path: Path | None) -> None:
    """Check that timings may be appended to a file; commands do so before they begin.

    It and its folder are made if need be.

    Raises:
        SparcError: It exists and holds something else, or cannot be written.
    """
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
        with path.open("rb") if path.is_file() else nullcontext() as file:
            first = file.readline(_LARGEST_LINE) if file else b""
    except OSError as error:
        raise SparcError(f"{path} cannot be written: {error.strerror}") from error
    if first and not _is_ours(first):
        raise SparcError(f"{path} exists and holds no timings of SPARC: choose another name")


def append_timings(path: Path, timings: Timings, *, finished: bool) -> None:
    """Append a line: of a command that has finished, or of one so far."""
    line = {
        **timings.to_json(),
        "process": f"{socket.gethostname()}:{os.getpid()}",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "finished": finished,
    }
    # One write: lines of several processes do not mix.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
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
