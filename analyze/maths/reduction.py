"""Reductions over parts: a Dask graph with the same numbers wherever and however it runs.

Each part is measured on its own, and the results are merged along a tree whose shape depends on
the number of parts alone: sums of floating point numbers are always taken in the same order. What
is done is merged soon, and no part is measured long before its turn: few results are held at a
time, however many parts there are. Where there are very many, a task measures several.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import dask

from sparc.common import heap
from sparc.common.errors import SparcError

T = TypeVar("T")

_FAN_IN = 32

_TASKS = 1024  # Tasks that measure, at most: a scheduler takes its time for each of them.


class Executor:
    """Runs the reductions: in this process, or on a `dask.distributed` cluster.

    Args:
        scheduler: `threads`, `sync`, or a cluster's address.
        workers: Threads in this process; None means one for each processor.
        client: The cluster's client, if there is one.
    """

    def __init__(self, scheduler: str, workers: int | None, client: Any = None) -> None:
        self._options: dict[str, Any] = (
            {} if client is not None else {"scheduler": scheduler, "num_workers": workers}
        )
        self._client = client
        if client is not None:
            workers = sum(client.ncores().values())
        # Parts that are measured before those that came so many earlier have been merged: enough
        # to keep all workers busy, where those of a cluster wait for what travels.
        self._ahead = (1 if client is None else 2) * (workers or os.cpu_count() or 1)

    @property
    def elsewhere(self) -> bool:
        """Whether other processes reduce."""
        return self._client is not None

    def reduce(
        self,
        measure: Callable[[Any, int], T],
        merge: Callable[[Sequence[T]], T],
        shared: Any,
        parts: int,
    ) -> T:
        """Measure every part and merge the results.

        Args:
            measure: From what all parts share and the number of a part to its result.
            merge: Puts consecutive results together; must be associative.
            shared: Sent once to each worker.
            parts: How many parts; at least one.

        Raises:
            SparcError: Workers of the cluster died, and what they held with them.
        """
        if self._client is None:
            common = dask.delayed(shared, traverse=False)
        else:
            # In a list, since a tuple would be scattered piece by piece; without a hash, since a
            # name that an earlier reduction has given up may not be taken up again.
            (common,) = self._client.scatter([shared], broadcast=True, hash=False)
        tree = _Tree(merge)
        newest: list[Any] = []
        each = -(-parts // _TASKS)
        for start in range(0, parts, each):
            of_task = range(start, min(start + each, parts))
            merged = (
                dask.delayed(_done)(newest[-self._ahead]) if len(newest) >= self._ahead else None
            )
            measured = dask.delayed(_measure_after)(measure, merge, common, of_task, merged)
            newest.append(tree.add(measured))
        heap.give_back()  # what other steps have freed
        with nullcontext() if self._client is None else _errors_of_the_cluster():
            (result,) = dask.compute(tree.total(), **self._options)
        heap.give_back()
        return result  # type: ignore[no-any-return]


def _measure_after(
    measure: Callable[[Any, int], T],
    merge: Callable[[Sequence[T]], T],
    shared: Any,
    parts: range,
    merged: None,  # noqa: ARG001
) -> T:
    """Measure some parts; where merging is slower, none is measured long before its turn."""
    result = measure(shared, parts[0])
    for part in parts[1:]:
        heap.give_back()  # Pieces that are too small for the next part would add up over many.
        result = merge([result, measure(shared, part)])
    heap.give_back()
    return result


def _done(result: Any) -> None:
    """Says that a result is there, without holding it."""


class _Tree:
    """Merges of results that come one after the other.

    So many at a time are merged one after the other, so that none has to wait in memory for the
    last; so are what they give, and so on.
    """

    def __init__(self, merge: Callable[[Sequence[T]], T]) -> None:
        self._merge = dask.delayed(merge)
        # By level, what is merged of the results that have come, and how many these are.
        self._levels: list[tuple[Any, int]] = []

    def add(self, result: Any) -> Any:
        """Add a result.

        Returns:
            The last of the merges that it takes part in now; the result where there is none.
        """
        level = 0
        while True:
            if level == len(self._levels):
                self._levels.append((None, 0))
            total, number = self._levels[level]
            result = self._merge([total, result]) if number else result
            if number + 1 < _FAN_IN:
                self._levels[level] = result, number + 1
                return result
            self._levels[level] = None, 0
            level += 1

    def total(self) -> Any:
        """What all results are merged to."""
        result = None
        for total, number in self._levels:
            if number:
                result = total if result is None else self._merge([total, result])
        return result


@contextmanager
def _errors_of_the_cluster() -> Iterator[None]:
    from distributed import KilledWorker

    try:
        yield
    except (KilledWorker, CancelledError) as error:
        raise SparcError(
            "workers of the Dask cluster died, perhaps for want of memory (their logs say more): "
            "run the same command again to go on"
        ) from error


@contextmanager
def executor(scheduler: str, workers: int = 0) -> Iterator[Executor]:
    """Open what runs the reductions.

    Args:
        scheduler: `threads`, `sync`, or the address of a cluster, such as `tcp://host:8786`.
        workers: Threads in this process; 0 means one for each processor.

    Raises:
        SparcError: The cluster does not answer, or `distributed` is not installed.
    """
    if "://" not in scheduler:
        heap.share()
        heap.keep_large_arrays_apart()
        yield Executor(scheduler, workers or None)
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise SparcError(
            f"--scheduler {scheduler} needs Dask's distributed: pip install distributed"
        ) from error
    try:
        client = Client(scheduler, timeout="30s", set_as_default=True)
    except (OSError, ValueError) as error:
        raise SparcError(f"no Dask scheduler answers at {scheduler}: {error}") from error
    with client:
        yield Executor(scheduler, None, client)
