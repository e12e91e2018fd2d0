"""A Dask cluster as a job sees it: functions are submitted to single workers, answers come back.

Every task is pinned to one worker, so that the job, and not the scheduler, decides what becomes of
the work of one that died. Answers are taken in the thread that waits for them.
"""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

from distributed import Client, Future, KilledWorker
from distributed.scheduler import NoValidWorkerError

from sparc.common.errors import SparcError

_SCHEDULER_SECONDS = 300.0
"""For which the scheduler may be silent while it is connected: it imports what its tasks are made
of, PyTorch included, which takes minutes from a slow disk."""

_ANSWER_SECONDS = 30.0
"""For which a worker that has finished a task may be silent."""

_POLL_SECONDS = 1.0
"""After which it is seen whether a worker that is silent is there."""


class WorkerLostError(Exception):
    """The answer of a worker that is gone."""


class SchedulerLostError(SparcError):
    """The connection to the scheduler is gone."""


class Cluster:
    """A Dask cluster, and the tasks of a job on it.

    Args:
        client: Connected to the scheduler.
        scheduler: What the user calls it, for messages.
    """

    def __init__(self, client: Client, scheduler: str) -> None:
        self.scheduler = scheduler
        self._client = client
        self._tasks = 0
        self._waiting: dict[str, tuple[str, Future, Callable[[Future], object]]] = {}
        self._answered: queue.SimpleQueue[str] = queue.SimpleQueue()

    def workers(self) -> set[str]:
        """The addresses of all workers that the scheduler knows.

        Raises:
            SchedulerLostError: It does not answer.
        """
        if self._client.status != "running":
            raise self._lost()
        try:
            return set(self._client.nthreads(callback_timeout=_SCHEDULER_SECONDS))
        except (OSError, TimeoutError, CancelledError, RuntimeError) as error:
            raise self._lost() from error

    def submit(
        self,
        worker: str,
        function: Callable[..., object],
        *arguments: object,
        then: Callable[[Future], object],
        resources: dict[str, float] | None = None,
    ) -> Future:
        """Let a worker call a function.

        Args:
            worker: Its address.
            function: What it calls.
            arguments: With what.
            then: Called by `wait`, with the future, once there is an answer.
            resources: What the task needs of the worker's.

        Returns:
            The future. While it is held, the worker keeps the result.

        Raises:
            SchedulerLostError: The connection to the scheduler is gone.
        """
        if self._client.status != "running":
            raise self._lost()
        self._tasks += 1
        future = self._client.submit(
            function,
            *arguments,
            key=f"sparc-{function.__name__}-{self._client.id}-{self._tasks}",
            workers=[worker],
            allow_other_workers=False,
            resources=resources,
            pure=False,
        )
        self._waiting[future.key] = worker, future, then
        future.add_done_callback(lambda done: self._answered.put(done.key))
        return future

    def wait(self, seconds: float) -> None:
        """Wait for an answer, at most for `seconds`, and take all that are there.

        Raises:
            SchedulerLostError: The connection to the scheduler is gone.
        """
        with suppress(queue.Empty):
            self._take(self._answered.get(timeout=seconds))
            while True:
                self._take(self._answered.get_nowait())

    def _take(self, key: str) -> None:
        if key not in self._waiting:
            return  # its worker was given up
        _, future, then = self._waiting.pop(key)
        if future.cancelled():
            raise self._lost()
        then(future)

    def result(self, future: Future, worker: str) -> Any:
        """The result of a task that has ended.

        Args:
            future: Of the task.
            worker: The address of the worker that holds the result.

        Raises:
            WorkerLostError: The worker has ended before it could hand it over.
            SchedulerLostError: The connection to the scheduler is gone.
            Exception: What the task raised.
        """
        until = time.monotonic() + _ANSWER_SECONDS
        while True:
            try:
                return future.result(timeout=_POLL_SECONDS)
            except (KilledWorker, NoValidWorkerError, CancelledError) as error:
                raise WorkerLostError from error
            except TimeoutError as error:
                if future.status == "error":  # the task's own
                    raise
                if time.monotonic() > until or worker not in self.workers():
                    raise WorkerLostError from error

    def give_up(self, worker: str) -> None:
        """Forget what a worker has not answered."""
        keys = [key for key, (address, _, _) in self._waiting.items() if address == worker]
        futures = [self._waiting.pop(key)[1] for key in keys]
        if futures and self._client.status == "running":
            self._client.cancel(futures)

    def restart(self, worker: str) -> None:
        """Let the worker's nanny start its process again, if it has one. Nobody waits for that."""

        def ask() -> None:
            with suppress(Exception):  # it has no nanny, or is gone
                self._client.restart_workers([worker], raise_for_error=False)

        threading.Thread(target=ask, daemon=True).start()

    def _lost(self) -> SchedulerLostError:
        return SchedulerLostError(
            f"the Dask scheduler {self.scheduler} was lost: run the same command again, with a "
            "scheduler that runs, to go on"
        )
