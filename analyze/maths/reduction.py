"""Map-reduce over parts: a Dask graph with the same result wherever it runs.

A function maps each part to a result, and results are merged along a tree whose shape depends only
on the number of parts: floating-point sums are always taken in the same order. Results are merged
soon and no part runs far ahead of the merges, so that memory does not grow with the number of
parts. Of very many parts, a task maps several.
"""

import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import dask
from dask.delayed import Delayed

from sparc.analyze.cluster import Cluster, connect
from sparc.analyze.timings import WORK
from sparc.common import heap
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
        cluster: The cluster; None reduces in this process.
    """

    def __init__(self, scheduler: str, workers: int | None, cluster: Cluster | None = None) -> None:
        self._options: dict[str, Any] = {"scheduler": scheduler, "num_workers": workers}
        self._threads = workers or os.cpu_count() or 1
        self._cluster = cluster
        self._before = WORK.shares()

    @property
    def distributed(self) -> bool:
        """Whether other processes do the work."""
        return self._cluster is not None

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
        heap.give_back()  # what earlier steps have freed
        if self._cluster is not None:
            # Twice as many results may wait as there are threads: these also wait for transfers.
            result = self._cluster.run(
                shared, lambda sent, threads: _graph(function, merge, sent, parts, 2 * threads)
            )
        else:
            total = _graph(function, merge, (_Shared(shared),), parts, self._threads)
            (result,) = dask.compute(total, **self._options)
        heap.give_back()
        return result  # type: ignore[no-any-return]


class _Shared:
    """Gives what all tasks share; a value in a graph might look like a task."""

    def __init__(self, shared: Any) -> None:
        self._shared = shared

    def __call__(self) -> Any:
        return self._shared


def _graph(
    function: Callable[[Any, int], T],
    merge: Callable[[Sequence[T]], T],
    common: Any,
    parts: int,
    ahead: int,
) -> Delayed:
    """The tasks of a reduction: at most `_TASKS` that map, and as many that merge.

    They are written as a plain graph: `dask.delayed` copies the graph before each task that it
    adds, which takes longer than the tasks where there are a thousand.

    Args:
        function: As for `Reducer.reduce`.
        merge: As for `Reducer.reduce`.
        common: The task that gives what all calls share, or a cluster's future of it.
        parts: How many parts.
        ahead: Unmerged results at most: enough to keep all workers busy.
    """
    tree = _Tree(merge)
    shared = tree.task("shared", common)
    newest: list[_Key] = []
    per_task = -(-parts // _TASKS)
    for start in range(0, parts, per_task):
        of_task = range(start, min(start + per_task, parts))
        merged = tree.task("wait", (_done, newest[-ahead])) if len(newest) >= ahead else None
        mapped = tree.task("map", (_map_after, function, merge, shared, of_task, merged))
        newest.append(tree.add(mapped))
    return Delayed(tree.total(), tree.tasks)


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


def _merge_two(merge: Callable[[Sequence[T]], T], first: T, second: T) -> T:
    return merge([first, second])


_Key = str
"""The name of a task."""


class _Tree:
    """A tree of merges over results that are added one by one.

    Each `_FAN_IN` results are merged one after the other, so that none waits in memory for the
    last; so are the merged results, level by level.

    Attributes:
        tasks: All tasks by their keys, as Dask's graphs have them.
    """

    def __init__(self, merge: Callable[[Sequence[T]], T]) -> None:
        self.tasks: dict[_Key, Any] = {}
        self._name = uuid.uuid4().hex
        self._merge = merge
        # By level, the merge of the results so far, and their number.
        self._levels: list[tuple[_Key, int]] = []

    def task(self, what: str, task: Any) -> _Key:
        """Add a task; its key."""
        key = f"{what}-{self._name}-{len(self.tasks)}"
        self.tasks[key] = task
        return key

    def add(self, result: _Key) -> _Key:
        """Add a result.

        Returns:
            The last merge that it takes part in now; itself if there is none.
        """
        level = 0
        while True:
            if level == len(self._levels):
                self._levels.append(("", 0))
            total, number = self._levels[level]
            result = self._merge_two(total, result) if number else result
            if number + 1 < _FAN_IN:
                self._levels[level] = result, number + 1
                return result
            self._levels[level] = "", 0
            level += 1

    def total(self) -> _Key:
        """The merge of all results."""
        result = ""
        for total, number in self._levels:
            if number:
                result = self._merge_two(total, result) if result else total
        return result

    def _merge_two(self, first: _Key, second: _Key) -> _Key:
        return self.task("merge", (_merge_two, self._merge, first, second))


@contextmanager
def open_reducer(scheduler: str, workers: int = 0) -> Iterator[Reducer]:
    """Open a reducer.

    Args:
        scheduler: `threads`, `sync`, or the address of a cluster, such as `tcp://host:8786`.
        workers: Threads in this process; 0 means one per processor.

    Raises:
        SparcError: No cluster answers, it has no workers, or others than this process needs.
    """
    if "://" not in scheduler:
        yield Reducer(scheduler, workers or None)
        return
    with connect(scheduler) as cluster:
        yield Reducer(scheduler, None, cluster)
