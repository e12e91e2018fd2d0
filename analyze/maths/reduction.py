"""Map-reduce over parts: a Dask graph with the same result wherever it runs.

A function maps each part to a result, and results are merged along a tree whose shape depends only
on the number of parts: floating-point sums are always taken in the same order. Results are merged
soon and no part runs far ahead of the merges, so that memory does not grow with the number of
parts. Of very many parts, a task maps several.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import dask

from sparc.analyze.timings import WORK
from sparc.common import heap
from sparc.common.errors import SparcError
from sparc.common.timing.phases import Phase
from sparc.common.timing.shares import Shares

T = TypeVar("T")

_FAN_IN = 32

_TASKS = 1024  # Mapping tasks at most: the scheduler has a cost for each of them.


class Reducer:
    """Runs reductions in this process or on a `dask.distributed` cluster.

    Args:
        scheduler: `threads`, `sync`, or a cluster's address.
        workers: Threads in this process; None means one per processor.
        client: The cluster's client; None reduces in this process.
    """

    def __init__(self, scheduler: str, workers: int | None, client: Any = None) -> None:
        self._options: dict[str, Any] = (
            {} if client is not None else {"scheduler": scheduler, "num_workers": workers}
        )
        self._client = client
        self._before = WORK.shares()
        if client is not None:
            workers = sum(client.ncores().values())
        # Unmerged results at most: enough to keep all workers busy; those of a cluster also wait
        # for transfers.
        self._ahead = (1 if client is None else 2) * (workers or os.cpu_count() or 1)

    @property
    def distributed(self) -> bool:
        """Whether other processes do the work."""
        return self._client is not None

    def shares(self) -> Iterable[Shares]:
        """Where the time has gone of the threads that measure parts."""
        return [WORK.shares().since(self._before)]

    def reduce(
        self,
        function: Callable[[Any, int], T],
        merge: Callable[[Sequence[T]], T],
        shared: Any,
        parts: int,
    ) -> T:
        """Apply a function to every part and merge the results.

        Args:
            function: From `shared` and the number of a part to its result.
            merge: Joins consecutive results; must be associative.
            shared: An argument of every call, sent once to each worker.
            parts: How many parts; at least one.

        Raises:
            SparcError: Workers of the cluster died.
        """
        if self._client is None:
            common = dask.delayed(shared, traverse=False)
        else:
            # In a list, since a tuple would be scattered element by element; without a hash, since
            # the key of a released future may not be reused.
            (common,) = self._client.scatter([shared], broadcast=True, hash=False)
        tree = _Tree(merge)
        newest: list[Any] = []
        per_task = -(-parts // _TASKS)
        for start in range(0, parts, per_task):
            of_task = range(start, min(start + per_task, parts))
            merged = (
                dask.delayed(_done)(newest[-self._ahead]) if len(newest) >= self._ahead else None
            )
            result = dask.delayed(_map_after)(function, merge, common, of_task, merged)
            newest.append(tree.add(result))
        heap.give_back()  # what earlier steps have freed
        with nullcontext() if self._client is None else _cluster_errors():
            (result,) = dask.compute(tree.total(), **self._options)
        heap.give_back()
        return result  # type: ignore[no-any-return]


def _map_after(
    function: Callable[[Any, int], T],
    merge: Callable[[Sequence[T]], T],
    shared: Any,
    parts: range,
    merged: None,  # noqa: ARG001
) -> T:
    """The merged results of some parts. Waiting for an earlier merge bounds results in memory."""
    with WORK.running(), WORK.at(Phase.MEASURE):
        result = function(shared, parts[0])
        for part in parts[1:]:
            heap.give_back()  # Freed pieces too small for the next part would add up over many.
            result = merge([result, function(shared, part)])
        heap.give_back()
        return result


def _done(result: Any) -> None:
    """A dependency on a result that does not hold it."""


class _Tree:
    """A tree of merges over results that are added one by one.

    Each `_FAN_IN` results are merged one after the other, so that none waits in memory for the
    last; so are the merged results, level by level.
    """

    def __init__(self, merge: Callable[[Sequence[T]], T]) -> None:
        self._merge = dask.delayed(merge)
        # By level, the merge of the results so far, and their number.
        self._levels: list[tuple[Any, int]] = []

    def add(self, result: Any) -> Any:
        """Add a result.

        Returns:
            The last merge that it takes part in now; itself if there is none.
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
        """The merge of all results."""
        result = None
        for total, number in self._levels:
            if number:
                result = total if result is None else self._merge([total, result])
        return result


@contextmanager
def _cluster_errors() -> Iterator[None]:
    from distributed import KilledWorker

    try:
        yield
    except (KilledWorker, CancelledError) as error:
        raise SparcError(
            "workers of the Dask cluster died, perhaps out of memory (see their logs): "
            "run the same command again to continue"
        ) from error


@contextmanager
def open_reducer(scheduler: str, workers: int = 0) -> Iterator[Reducer]:
    """Open a reducer.

    Args:
        scheduler: `threads`, `sync`, or the address of a cluster, such as `tcp://host:8786`.
        workers: Threads in this process; 0 means one per processor.

    Raises:
        SparcError: No cluster answers, or `distributed` is not installed.
    """
    if "://" not in scheduler:
        yield Reducer(scheduler, workers or None)
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise SparcError(
            f"the scheduler {scheduler} needs Dask's distributed: pip install distributed"
        ) from error
    try:
        client = Client(scheduler, timeout="30s", set_as_default=True)
    except (OSError, ValueError) as error:
        raise SparcError(f"no Dask scheduler answers at {scheduler}: {error}") from error
    with client:
        yield Reducer(scheduler, None, client)
