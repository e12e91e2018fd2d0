"""A Dask cluster that measures: who works there, what is sent, and what happens when workers die.

This module must not know what is measured.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from sparc.common.errors import SparcError
from sparc.common.progress import say
from sparc.common.text import printable, shorten
from sparc.common.versions import software_versions

if TYPE_CHECKING:
    from distributed import Client

_ANSWER_SECONDS = 30
"""How long a scheduler may take to answer."""

_WORKERS_SECONDS = 300
"""How long a cluster may be without a worker: a batch system starts them one by one."""

_LOOK_SECONDS = 5

_TRIES = 5
"""How often a pass is begun before workers that die are no accident."""

_SAME = ("sparc", "numpy", "pyarrow", "scipy", "torch", "zarr")
"""Packages whose versions figures may depend on, in the last bits at least."""


class _WorkersDiedError(Exception):
    """A pass has not ended, or its result is lost."""


class Cluster:
    """Runs graphs on the workers of a cluster.

    Args:
        client: Its client.
        address: The scheduler's address, for messages.

    Raises:
        SparcError: It has no workers, or others than this process needs.
    """

    def __init__(self, client: "Client", address: str) -> None:
        self._client = client
        self._address = address
        self._checked: set[str] = set()
        try:
            self._threads()
        except _WorkersDiedError as error:
            raise self._gone() from error

    def run(self, shared: Any, graph: Callable[[Any, int], Any]) -> Any:
        """Run a graph; where workers die, what they made is made again.

        Args:
            shared: What many tasks take; sent once to each worker.
            graph: From what stands for it, and the number of threads, to the graph of a result.

        Raises:
            SparcError: Workers die again and again, or there is none, or the scheduler is gone.
        """
        for left in reversed(range(_TRIES)):
            try:
                threads = self._threads()
                future = self._client.compute(graph(self._send(shared), threads))
                self._wait(future)
                return self._result(future)
            except _WorkersDiedError as error:
                if self._client.status != "running":
                    raise self._gone() from error
                if not left:
                    raise SparcError(
                        "workers of the Dask cluster died, perhaps out of memory (see their "
                        "logs): run the same command again to continue"
                    ) from error
                say("workers of the Dask cluster died: what they were at is begun again")
        raise AssertionError("there is a last try")

    def _send(self, shared: Any) -> Any:
        """Send what tasks share to all workers; what stands for it in a graph."""
        with _losses():
            # In a list, since a tuple would be scattered element by element; without a hash, since
            # the key of a released future may not be reused.
            (sent,) = self._client.scatter([shared], broadcast=True, hash=False)
        return sent

    def _result(self, future: Any) -> Any:
        from distributed import KilledWorker
        from distributed.comm import CommClosedError

        try:
            return future.result()
        except (KilledWorker, CancelledError, CommClosedError) as error:
            raise _WorkersDiedError from error

    def _threads(self) -> int:
        """Wait for a worker, and check those that are new; the threads of all."""
        with _losses():
            try:
                self._client.wait_for_workers(1, timeout=_WORKERS_SECONDS)
            except TimeoutError as error:
                raise self._no_workers() from error
            threads: dict[str, int] = self._client.ncores()
            new = sorted(threads.keys() - self._checked)
            if new:
                self._check(new)
                self._checked |= set(new)
        return max(1, sum(threads.values()))

    def _check(self, workers: list[str]) -> None:
        """Refuse workers with other versions of what figures depend on."""
        own = software_versions()
        answers = self._client.run(software_versions, workers=workers, on_error="return")
        for worker, theirs in sorted(answers.items()):
            if not isinstance(theirs, dict):
                if worker not in self._client.ncores():
                    continue  # It has died since.
                reason = shorten(printable(str(theirs)), 200)
                raise SparcError(
                    f"the Dask worker {worker} cannot run SPARC ({reason}): install sparc-sae "
                    f"{own['sparc']} there"
                )
            for name in _SAME:
                if own.get(name) != theirs.get(name):
                    raise SparcError(
                        f"the Dask worker {worker} has {name} {theirs.get(name)}, this process "
                        f"{own.get(name)}: install the same version, since figures depend on it"
                    )

    def _wait(self, future: Any) -> None:
        """Wait for a result as long as there are workers."""
        from distributed import wait

        without = 0
        while not future.done():
            try:
                # That it is cancelled is said where its result is asked for.
                with self._client.as_current(), suppress(CancelledError):
                    wait(future, timeout=_LOOK_SECONDS)
            except TimeoutError:
                with _losses():
                    without = 0 if self._client.ncores() else without + _LOOK_SECONDS
                if without >= _WORKERS_SECONDS:
                    future.cancel()
                    raise self._no_workers() from None

    def _no_workers(self) -> SparcError:
        return SparcError(
            f"the Dask cluster at {self._address} has had no worker for {_WORKERS_SECONDS:.0f} s: "
            f"start some (dask worker {self._address}) and run the same command again"
        )

    def _gone(self) -> SparcError:
        return SparcError(
            f"the Dask scheduler at {self._address} is gone: start it and its workers, and run the "
            "same command again to continue"
        )


@contextmanager
def _losses() -> Iterator[None]:
    """A worker that is gone is a missing key of the scheduler, or a connection that is closed."""
    try:
        yield
    except (KeyError, OSError, CancelledError) as error:
        raise _WorkersDiedError from error


@contextmanager
def connect(address: str) -> Iterator[Cluster]:
    """A cluster, as long as the context lasts.

    Args:
        address: Of its scheduler, such as `tcp://host:8786`.

    Raises:
        SparcError: No scheduler answers, it has no workers or others than this process needs, or
            `distributed` is not installed.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise SparcError(
            f"the scheduler {address} needs Dask's distributed: pip install distributed"
        ) from error
    try:
        client = Client(address, timeout=_ANSWER_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise SparcError(f"no Dask scheduler answers at {address}: {error}") from error
    with client:
        yield Cluster(client, address)
