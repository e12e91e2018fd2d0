"""Handing chunks out to workers, and deciding what becomes of those that are not made.

A worker has one chunk under way and one that waits, so that it is never idle and the scheduler
never knows of more tasks than twice the workers. When a worker dies, the chunk that was under way
is the only suspect. It is made again alone, with nothing behind it, and given up when it has killed
three.
"""

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from distributed import Future

from sparc.common.cache.writer import ChunkWriter
from sparc.common.errors import SparcError
from sparc.common.progress import say
from sparc.common.text import amount, printable, shorten
from sparc.common.timing.shares import Shares, merged
from sparc.extract.cluster.cluster import Cluster, WorkerLostError
from sparc.extract.cluster.messages import Failed, Made, Order, Unequipped
from sparc.extract.cluster.pool import DEADLY, Pool, Worker
from sparc.extract.cluster.worker import make
from sparc.extract.encoding.chunks import Work

_WINDOW = 2
"""Chunks that a worker has at a time, the one under way included."""

_LONGEST_PAUSE = 60.0
"""Seconds between two attempts, at most."""

_IDLE_SECONDS = 0.5
"""For which answers are waited for, before workers are looked at again."""


@dataclasses.dataclass(eq=False)
class _Task:
    """A chunk that is to be made, and what has happened to it.

    Attributes:
        order: The chunk.
        rows: Its rows.
        failures: How often it failed.
        deaths: How many workers were lost while it was under way.
        not_before: When it may be tried again, by the monotonic clock.
        avoid: The address of the worker on which it failed last.
    """

    order: Order
    rows: range
    failures: int = 0
    deaths: int = 0
    not_before: float = 0.0
    avoid: str = ""

    def __str__(self) -> str:
        return f"chunk {self.order.chunk} (rows {self.rows.start:,} to {self.rows.stop - 1:,})"


class Dispatch:
    """Hands the chunks of a job out.

    Args:
        cluster: The cluster.
        pool: Its workers.
        writer: The cache, whose streams are open.
        token: Of the job.
        retries: How often a chunk is tried again after an error that may pass.
    """

    def __init__(
        self, cluster: Cluster, pool: Pool, writer: ChunkWriter, *, token: str, retries: int
    ) -> None:
        self.left_out: list[str] = []
        """The chunks that were given up, with the reason."""
        self.workers_lost = 0
        self._cluster = cluster
        self._pool = pool
        self._writer = writer
        self._token = token
        self._retries = retries
        self._given: dict[Worker, list[_Task]] = {}
        self._again: deque[_Task] = deque()
        self._given_up_in_a_row = 0
        self._shares: tuple[Shares, ...] = ()

    def __call__(self, work: Work, rows_done: Callable[[int], object]) -> None:
        """Have all chunks of the work made that can be made; see `Make`.

        Raises:
            SparcError: The scheduler is lost or without workers; or one chunk after the other
                fails; or a chunk cannot be made, for a reason that another attempt does not mend.
        """
        self._rows_done = rows_done
        waiting = (
            _Task(
                Order(chunk, tuple(streams), chunk in work.thumbnails), work.info.chunk_rows(chunk)
            )
            for chunk, streams in work.streams.items()
        )
        following = next(waiting, None)
        while following is not None or self._again or any(self._given.values()):
            for worker in self._pool.look():
                self._bury(worker)
            for worker in self._pool.ready:
                while (task := self._suitable(worker, following)) is not None:
                    if task is following:
                        following = next(waiting, None)
                    else:
                        self._again.remove(task)
                    self._give(worker, task)
            self._cluster.wait(_IDLE_SECONDS)

    def shares(self) -> Iterable[Shares]:
        """See `Make`."""
        return self._shares

    def _suitable(self, worker: Worker, following: _Task | None) -> _Task | None:
        """What a worker may be given now."""
        given = self._given.get(worker, [])
        if len(given) >= _WINDOW or any(task.deaths for task in given):
            return None
        now, others = time.monotonic(), len(self._pool.ready) > 1
        for task in self._again:
            is_alone = not task.deaths or not given
            is_elsewhere = task.avoid != worker.address or not others
            if is_alone and is_elsewhere and task.not_before <= now:
                return task
        return following

    def _give(self, worker: Worker, task: _Task) -> None:
        assert worker.inspection is not None
        self._given.setdefault(worker, []).append(task)
        self._cluster.submit(
            worker.address,
            make,
            self._token,
            task.order,
            then=partial(self._answered, worker, task),
            resources={"GPU": 1} if "GPU" in worker.inspection.resources else None,
        )

    def _answered(self, worker: Worker, task: _Task, future: Future) -> None:
        try:
            answer = self._cluster.result(future, worker.address)
        except WorkerLostError:
            answer = Unequipped()
        if isinstance(answer, Unequipped):
            self._pool.remove(worker)
            self._bury(worker)
            return
        self._given[worker].remove(task)
        if isinstance(answer, Made) and not self._is_confirmed(answer):
            answer = Failed(
                answer.chunk, f"what worker {worker} wrote is not what {self._writer.folder} holds"
            )
        if isinstance(answer, Failed):
            self._failed(worker, task, answer)
        else:
            self._given_up_in_a_row = 0
            new = (one.of_worker(str(worker)) for one in answer.shares)
            self._shares = merged([*self._shares, *new])
            self._rows_done(len(task.rows))

    def _is_confirmed(self, made: Made) -> bool:
        """Whether the cache holds what a worker says that it wrote."""
        return all(self._writer.holds(of.stream, made.chunk, of.checksums) for of in made.streams)

    def _failed(self, worker: Worker, task: _Task, failed: Failed) -> None:
        task.failures += 1
        why = shorten(printable(failed.message), 300)
        if failed.broken_device:
            say(f"worker {worker} cannot use its device any more ({why}); it is started again")
            self._pool.replace(worker)
            self._again.extend(self._given.pop(worker))
        if task.failures > self._retries:
            self._give_up(task, f"failed {amount(task.failures, 'time')}, last on {worker}: {why}")
            return
        say(f"{task} failed on worker {worker} and is tried again: {why}")
        task.not_before = time.monotonic() + min(2.0 ** (task.failures - 1), _LONGEST_PAUSE)
        task.avoid = worker.address
        self._again.append(task)

    def _bury(self, worker: Worker) -> None:
        """Take back what a lost worker had. The first of it was under way."""
        self.workers_lost += 1
        given = self._given.pop(worker, [])
        if not given:
            say(f"worker {worker} is gone")
            return
        suspect, *others = given
        self._again.extendleft(reversed(others))
        suspect.deaths += 1
        if suspect.deaths < DEADLY:
            say(f"worker {worker} was lost; {suspect} is made by another one")
            self._again.append(suspect)
        else:
            self._give_up(suspect, f"{suspect.deaths} workers were lost while they made it")

    def _give_up(self, task: _Task, why: str) -> None:
        """Leave a chunk out, unless nothing succeeds any more."""
        line = f"{task}: {why}"
        say(f"left out: {line}")
        self.left_out.append(line)
        self._given_up_in_a_row += 1
        if self._given_up_in_a_row > 2 + len(self._pool.ready):
            raise SparcError(
                f"{amount(self._given_up_in_a_row, 'chunk')} one after the other could not be "
                f"made, the last one, {line}; mend that, and run the same command again to go on"
            )
