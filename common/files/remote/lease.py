"""A lock behind a URL: an object whose holder renews it, and which runs out if that has died.

The object is made by a request that only one of several processes can succeed with, and replaced
by one that fails where somebody else has replaced it. Nobody's clock counts but that of whoever
looks: a lease has run out if the object stayed the same for as long as it says, and a quarter
more, by the looker's own clock, or is that old by the store's.
"""

import math
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sparc.common.errors import LockedError, StoreError, UnsafeError
from sparc.common.files.holders import LARGEST, LONGEST_LEASE, Holder
from sparc.common.files.remote.files import RemoteFiles, Version
from sparc.common.files.remote.held import holding
from sparc.common.progress import say

SECONDS_VARIABLE = "SPARC_LEASE_SECONDS"
"""Environment variable: for how many seconds a lock is held without being renewed."""

_SECONDS, _LEAST = 60.0, 1.0
_RENEWALS = 4
"""How often a lock is renewed within its lease."""

_MARGIN = 0.25
"""Share of a lease for which others wait beyond its end."""

_LONG = 5.0
"""Seconds from which on it is said that somebody waits."""

_tokens: set[str] = set()
"""Of the locks that this process holds. (Its number is no sign: in a container it is often 1.)"""


def lease_seconds() -> float:
    """For how many seconds this process takes locks, from one renewal on."""
    try:
        seconds = float(os.environ.get(SECONDS_VARIABLE, _SECONDS))
    except ValueError:
        return _SECONDS
    return min(max(_LEAST, seconds), LONGEST_LEASE) if math.isfinite(seconds) else _SECONDS


@contextmanager
def lease(files: RemoteFiles, name: str, what: str, *, patience: float = 0.0) -> Iterator[None]:
    """Hold a lock; while it is held, what this process writes to the folder depends on it.

    A lock of a process that may have died is waited for until that renews it, or its lease ends.

    Args:
        files: The folder.
        name: The lock's file.
        what: What is held, for messages.
        patience: Seconds to wait for a holder that is alive.

    Raises:
        LockedError: Another process holds it; or, where something is written, this one lost it.
        UnsafeError: What lies in the lock's place is no lock.
        StoreError: The store refuses or does not answer.
    """
    held = _acquire(files, name, what, patience)
    with held.renewing(), holding(files.url, held):
        held.require()  # its lease may have run out before its making was answered
        yield


class Lease:
    """A lock that this process holds.

    Args:
        files: The folder.
        name: The lock's file.
        what: What is held, for messages.
        holder: This process, as the lock names it.
        version: The lock as it was written.
        written: When that was asked for, by `now`.
    """

    def __init__(
        self,
        files: RemoteFiles,
        name: str,
        what: str,
        holder: Holder,
        version: Version,
        written: float,
    ) -> None:
        assert holder.lease is not None
        self._files, self._name, self._what = files, name, what
        self._holder, self._version, self._written = holder, version, written
        self._seconds = holder.lease
        self._lost = ""
        self._one_at_a_time = threading.RLock()
        self._ends = threading.Event()

    def require(self) -> None:
        """See that the lock is held; renew it where its lease has run out and nobody took it.

        Raises:
            LockedError: It was lost.
            StoreError: It ran out, and the store does not answer.
        """
        with self._one_at_a_time:
            if not self._lost and now() - self._written >= self._seconds:
                self._renew()
            if self._lost:
                raise LockedError(self._lost)

    @contextmanager
    def renewing(self) -> Iterator[None]:
        """Renew the lock from time to time, and remove it at the end."""
        thread = threading.Thread(target=self._keep, name=f"lock {self._name}", daemon=True)
        thread.start()
        _tokens.add(self._holder.token)
        try:
            yield
        finally:
            _tokens.discard(self._holder.token)
            self._ends.set()
            thread.join(self._seconds)
            self._release()

    def _keep(self) -> None:
        while not self._ends.wait(self._seconds / _RENEWALS):
            with self._one_at_a_time, suppress(StoreError):  # it is tried again
                if self._lost:
                    return
                self._renew()

    def _renew(self) -> None:
        """Write the lock once more, or note that it was lost."""
        asked = now()
        holder = self._holder.renewed()
        version = self._files.replace(self._name, holder.document(), self._version)
        if version is None:
            there = self._files.look(self._name)
            other = None if there is None else Holder.parse(there.content)
            if there is not None and other is not None and other.token == holder.token:
                # An earlier request of ours, of which we heard nothing, was carried out after all.
                holder = other.renewed()
                version = self._files.replace(self._name, holder.document(), there)
            if version is None:
                self._lost = self._loss(other, asked - self._written)
                return
        self._holder, self._version, self._written = holder, version, asked

    def _loss(self, other: Holder | None, idle: float) -> str:
        return (
            f"{self._what} is not held by this process any more: its lock was "
            + (f"taken over by {other}" if other else "removed")
            + f", {idle:.0f} s after it was renewed last (its lease: {self._seconds:.0f} s; the "
            "process was stopped, or the store was out of reach); what is finished is kept: run "
            "the same command again when nobody else writes there"
        )

    def _release(self) -> None:
        """Remove the lock while it is certainly ours; otherwise it runs out."""
        with self._one_at_a_time, suppress(StoreError, LockedError):
            if not self._lost and now() - self._written >= self._seconds / 2:
                self._renew()
            # The request is asked again where its answer was lost: another may hold the lock then.
            self._files.remove(self._name, only_if=self.require)


def living_holder(files: RemoteFiles, name: str, *, wait: bool = False) -> Holder | None:
    """The process that holds a lock; None where none does.

    Args:
        files: The folder.
        name: The lock's file.
        wait: Wait until the holder renews the lock or its lease ends. Otherwise one counts that
            may have died less than a lease ago.

    Raises:
        UnsafeError: What lies in the lock's place is no lock.
        StoreError: The store refuses or does not answer.
    """
    watch = _Watch(files, name)
    while (holder := watch.look()) is not None:
        if watch.is_over:
            return None
        if not wait or watch.is_alive:
            return holder
        watch.pause()
    return None


def _acquire(files: RemoteFiles, name: str, what: str, patience: float) -> Lease:
    """Write a lock of this process, once there is none or its lease has run out."""
    began, is_said = now(), False
    mine = Holder.this_process(lease_seconds())
    watch = _Watch(files, name)
    while True:
        other, asked, written = watch.look(), now(), None
        if other is None:
            written = files.create(name, mine.document())
        elif watch.is_over:
            written = files.replace(name, mine.document(), watch.seen)
        if written is not None:
            if other is not None:
                say(f"{what} was being written by {other}, whose lock has run out: going on")
            return Lease(files, name, what, mine, written, asked)
        if other is not None and not watch.is_over:
            if watch.is_alive and now() - began >= patience:
                raise LockedError(_refusal(files, name, what, other))
            if not is_said and max(patience, other.lease or 0.0) >= _LONG:
                is_said = True
                say(f"{what} is being written by {other}: {_waiting(other, patience)}")
            watch.pause()


class _Watch:
    """Looks at a lock until it is known whether its holder is alive.

    Attributes:
        seen: The lock as it was last.
        is_alive: Whether the lock was renewed, or changed hands, since the first look.
        is_over: Whether its lease has run out.
    """

    def __init__(self, files: RemoteFiles, name: str) -> None:
        self._files, self._name = files, name
        self._since = 0.0
        self._pause = 0.0
        self.seen = Version(b"")
        self.is_alive = False
        self.is_over = False

    def look(self) -> Holder | None:
        """The process that the lock names now; None where there is no lock.

        Raises:
            UnsafeError: What lies there is no lock.
        """
        looked = now()
        seen = self._files.look(self._name)
        if seen is None:
            self.seen, self.is_alive, self.is_over = Version(b""), False, False
            return None
        holder = Holder.parse(seen.content) if len(seen.content) <= LARGEST else None
        if holder is None:
            raise UnsafeError(
                f"{self._files.url}/{self._name} is not a lock of SPARC, but another file: remove "
                "it, or choose another folder"
            )
        if seen.content != self.seen.content:
            self.is_alive = bool(self.seen.content) or holder.token in _tokens
            self._since = looked
        # A lock without a lease is that of an earlier version: whether its holder is alive is for
        # a person to say.
        self.is_alive = self.is_alive or holder.lease is None
        if holder.lease is not None:
            over = holder.lease * (1 + _MARGIN)
            self.is_over = max(looked - self._since, seen.age or 0.0) >= over
            self._pause = holder.lease / (_RENEWALS * 5)
        self.seen = seen
        return holder

    def pause(self) -> None:
        """Wait a moment before the next look."""
        time.sleep(min(2.0, max(0.05, self._pause)) * random.uniform(0.5, 1.5))


def now() -> float:
    """Seconds of a clock that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _waiting(holder: Holder, patience: float) -> str:
    if patience:
        return f"waiting up to {patience:.0f} s"
    lease = holder.lease or 0.0
    least, longest = lease / _RENEWALS, lease * (1 + _MARGIN)
    return f"waiting to see whether that is alive, {least:.0f} to {longest:.0f} s"


def _refusal(files: RemoteFiles, name: str, what: str, other: Holder) -> str:
    if other.lease is None:
        return (
            f"{what} is being written by {other}; if that process is dead, remove "
            f"{files.url}/{name}"
        )
    return (
        f"{what} is being written by {other}; wait for it, or end it: its lock runs out "
        f"{other.lease * (1 + _MARGIN):.0f} s after that"
    )
