"""Joining the processes that `torchrun` has started, in the round in which it started them.

When a process dies, `torchrun` starts all of them again, with the store in which those of the round
before left their addresses; whoever believes these waits for the dead. So processes agree on a name
for their round first: each says a random number, and the first one says which numbers it has heard,
until every process reads its own among them.
"""

import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import NamedTuple

from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from sparc.common.errors import LostProcessError
from sparc.common.text import shorten

PATIENCE = 600.0
"""Seconds in which all processes have to begin: `torchrun` starts them at the same time."""

_POLL = 0.02


class Round(NamedTuple):
    """Processes that have begun together.

    Attributes:
        store: What they know of each other, in this round alone.
        rank: Which one this is.
        hosts: The machine of each.
    """

    store: Store
    rank: int
    hosts: tuple[str, ...]


def join() -> Round:
    """Join the others, as the environment variables of `torchrun` say.

    Raises:
        LostProcessError: Not all of them begin.
    """
    return join_in(*next(rendezvous("env://", timeout=timedelta(seconds=PATIENCE))))


def join_in(store: Store, rank: int, world: int) -> Round:
    """Join the others in a store, which may hold what processes of a former round left.

    Args:
        store: What all of them reach.
        rank: Which one this is.
        world: How many there are.

    Raises:
        LostProcessError: Not all of them begin.
    """
    mine = {"number": secrets.token_hex(8), "host": socket.gethostname()}
    heard = _first(store, mine, world) if rank == 0 else _another(store, mine, rank)
    hosts = tuple(shorten(str(hello["host"]), 64) for hello in heard)
    return Round(PrefixStore(f"sparc/{heard[0]['number']}", store), rank, hosts)


_Hello = dict[str, str]


def _first(store: Store, mine: _Hello, world: int) -> list[_Hello]:
    """Say who has been heard, until all have read that."""
    others = range(1, world)
    for _ in _until(lambda: _absent(store, world)):
        hellos = [_read(store, f"hello/{rank}") for rank in others]
        heard = [mine, *(json.loads(hello) for hello in hellos if hello is not None)]
        if len(heard) < world:
            continue
        said = json.dumps(heard)
        if _read(store, "round") != said:
            store.set("round", said)
        numbers = [mine["number"] + hello["number"] for hello in heard[1:]]
        if [_read(store, f"joined/{rank}") for rank in others] == numbers:
            return heard
    raise AssertionError  # it waits without end, or raises


def _another(store: Store, mine: _Hello, rank: int) -> list[_Hello]:
    """Say that this process is there, until the first one has heard it."""
    store.set(f"hello/{rank}", json.dumps(mine))
    for _ in _until(lambda: "the first process does not answer"):
        said = _read(store, "round")
        heard: list[_Hello] = [] if said is None else json.loads(said)
        if rank < len(heard) and heard[rank] == mine:
            store.set(f"joined/{rank}", heard[0]["number"] + mine["number"])
            return heard
    raise AssertionError


def _until(what: Callable[[], str]) -> Iterator[None]:
    """Moments to look again, until patience ends."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        yield
        time.sleep(_POLL)
    raise LostProcessError(
        f"{what()} after {PATIENCE:.0f} s on {socket.gethostname()}: what the other processes "
        f"wrote says why; all of them need the same MASTER_ADDR, {os.environ['MASTER_ADDR']} here"
    )


def _absent(store: Store, world: int) -> str:
    absent = [rank for rank in range(1, world) if _read(store, f"hello/{rank}") is None]
    if not absent:
        return "not all processes have joined"
    return f"process {absent[0] + 1} of {world} has not begun"


def _read(store: Store, key: str) -> str | None:
    return store.get(key).decode() if store.check([key]) else None
