"""The content of a lock: which process holds it, and behind a URL for how long."""

import dataclasses
import json
import math
import os
import socket
import uuid

from sparc.common.parsing import parse_object
from sparc.common.text import shorten

LARGEST = 4096
"""Bytes of the longest lock: it names a process and a machine."""

LONGEST_LEASE = 3600.0
"""Seconds that a lock is given at most, whatever it says: anybody may have written it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that holds a lock.

    Attributes:
        pid: Its number.
        host: Its machine.
        token: Tells this holding of the lock from every other one; empty on a disk.
        lease: Seconds for which the lock is held from the moment it was written; None where it is
            held until it is removed: on a disk, and by SPARC 0.1.0.
        renewal: How many times it was renewed.
    """

    pid: int
    host: str
    token: str = ""
    lease: float | None = None
    renewal: int = 0

    @classmethod
    def this_process(cls, lease: float | None = None) -> "Holder":
        """This process as the holder of a lock, with a lease behind a URL."""
        token = "" if lease is None else uuid.uuid4().hex
        return cls(pid=os.getpid(), host=socket.gethostname(), token=token, lease=lease)

    @classmethod
    def parse(cls, content: bytes) -> "Holder | None":
        """The holder that a lock names; None where that is no lock."""
        try:
            document = parse_object(content)
            lease = document.get("lease")
            if lease is not None and not math.isfinite(lease):
                return None
            return cls(
                pid=int(document["pid"]),
                host=shorten(str(document["host"]), 64),
                token=str(document.get("token", "")),
                lease=None if lease is None else min(max(float(lease), 0.0), LONGEST_LEASE),
                renewal=int(document.get("renewal", 0)),
            )
        except (ValueError, KeyError, TypeError, OverflowError):
            return None

    def document(self) -> bytes:
        """What a lock holds."""
        process: dict[str, object] = {"pid": self.pid, "host": self.host}
        if self.lease is not None:
            process |= {"token": self.token, "lease": self.lease, "renewal": self.renewal}
        return json.dumps(process).encode()

    def renewed(self) -> "Holder":
        """The same, renewed once more."""
        return dataclasses.replace(self, renewal=self.renewal + 1)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def named(content: bytes) -> str:
    """The process that a lock names, in words."""
    holder = Holder.parse(content)
    return "another process" if holder is None else str(holder)
