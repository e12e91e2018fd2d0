"""The workers of a job: each is checked before it makes its first chunk, whenever it joins."""

import dataclasses
import math
import time
from contextlib import suppress
from functools import partial

from distributed import Future

from sparc.common.errors import SparcError
from sparc.common.progress import say
from sparc.common.text import amount, listed, printable, reason, shorten
from sparc.extract.cluster.checks import (
    WorkerError,
    check_dataset,
    check_inspection,
    check_readiness,
)
from sparc.extract.cluster.cluster import Cluster, WorkerLostError
from sparc.extract.cluster.messages import Inspection, Job, Readiness
from sparc.extract.cluster.worker import equip, inspect, release

_LOOK_SECONDS = 0.5
"""Between two looks at which workers there are."""

_SILENT_SECONDS = 60.0
"""After which those are named for which the others wait before the first chunk."""

_RELEASE_SECONDS = 5.0
"""For which the end of a job waits until its workers have let go of the encoders."""

DEADLY = 3
"""Workers that die of one thing before it is given up."""


@dataclasses.dataclass(eq=False)
class Worker:
    """A worker that takes part, or is being checked.

    Attributes:
        address: Its address, new with every process.
        inspection: What it is; None until it has said so.
        readiness: What it makes; None until its encoders are loaded.
        loading: The task that loads them. The worker keeps them as long as it is held.
    """

    address: str
    inspection: Inspection | None = None
    readiness: Readiness | None = None
    loading: Future | None = None

    def __str__(self) -> str:
        name = "" if self.inspection is None else self.inspection.name
        is_plain = not name or name.isdecimal() or name == self.address
        return self.address if is_plain else f"{shorten(name, 60)} ({self.address})"


class Pool:
    """The workers of a job.

    Args:
        cluster: The cluster.
        job: The job.
        versions: Version by package, of this process.
        manifest_digest: Of the rows.
        patience: Seconds without any worker after which the job is given up.
    """

    def __init__(
        self,
        cluster: Cluster,
        job: Job,
        *,
        versions: dict[str, str],
        manifest_digest: str,
        patience: float,
    ) -> None:
        self._cluster = cluster
        self._job = job
        self._versions = versions
        self._manifest_digest = manifest_digest
        self._patience = patience
        self._workers: dict[str, Worker] = {}
        self._refused: set[str] = set()
        self._last_refusal = ""
        self._first: Worker | None = None
        self._is_begun = False
        self._died_loading = 0  # since one was ready
        self._is_said_empty = False
        self._next_look = 0.0
        self._last_seen = time.monotonic()

    @property
    def ready(self) -> list[Worker]:
        """The workers that can make chunks."""
        return [worker for worker in self._workers.values() if worker.readiness is not None]

    def begin(self) -> Readiness:
        """Check all workers that there are, and wait until there is one.

        Returns:
            What the workers make.

        Raises:
            WorkerError: One of them cannot take part.
            SparcError: No worker came, or all died while they loaded the encoders.
        """
        say(f"waiting for the workers of {self._cluster.scheduler} to load the encoders")
        named_at = time.monotonic() + _SILENT_SECONDS
        while True:
            self.look()
            if self._first is not None and 0 < len(self.ready) == len(self._workers):
                break
            if time.monotonic() > named_at:
                named_at = math.inf
                self._name_the_late()
            self._cluster.wait(_LOOK_SECONDS)
        self._is_begun = True
        say(f"{amount(len(self.ready), 'worker')} ready")
        assert self._first.readiness is not None
        return self._first.readiness

    def look(self) -> list[Worker]:
        """See which workers there are, now and then; new ones are checked.

        Returns:
            Those that were ready and are lost.

        Raises:
            SparcError: There has been none for too long.
        """
        now = time.monotonic()
        if now < self._next_look:
            return []
        self._next_look = now + _LOOK_SECONDS
        addresses = self._cluster.workers()
        self._refused &= addresses
        lost = [worker for address, worker in self._workers.items() if address not in addresses]
        for worker in lost:
            self.remove(worker)
        for address in sorted(addresses.difference(self._workers, self._refused)):
            self._workers[address] = worker = Worker(address)
            then = partial(self._inspected, worker)
            self._cluster.submit(address, inspect, self._job, then=then)
        self._load_all()
        self._watch_for_none(now)
        return [worker for worker in lost if worker.readiness is not None]

    def _name_the_late(self) -> None:
        late = [str(worker) for worker in self._workers.values() if worker.readiness is None]
        if late:
            say(
                f"still waiting for {amount(len(late), 'worker')}, {shorten(listed(late), 300)}: "
                "loading, busy with other work, or frozen"
            )

    def _watch_for_none(self, now: float) -> None:
        """Give up where there has been no worker for too long, or only such as die at once."""
        if not self._workers and not self._is_said_empty:
            say(f"{self._cluster.scheduler} has no worker: waiting {self._patience:.0f} s for one")
        self._is_said_empty = not self._workers
        if self.ready or (self._workers and not self._died_loading):
            self._last_seen = now
        elif now - self._last_seen > self._patience:
            raise self._no_workers()

    def remove(self, worker: Worker) -> None:
        """Rely on a worker no more. If its address is still there, it is checked again."""
        self._workers.pop(worker.address, None)
        self._cluster.give_up(worker.address)
        if worker.inspection is not None and worker.readiness is None:
            self._died_loading += 1
            self._last_refusal = f"worker {worker} died while it loaded the encoders: see its log"
            if self._died_loading >= DEADLY and self._first is None:
                raise SparcError(
                    f"workers of {self._cluster.scheduler} died while they loaded the encoders, "
                    f"{self._died_loading} in all, perhaps out of memory: see their logs"
                )

    def replace(self, worker: Worker) -> None:
        """Have a worker's process started again, since it cannot use its device any more."""
        self.remove(worker)
        self._refused.add(worker.address)
        self._cluster.restart(worker.address)

    def release(self) -> None:
        """Let the workers forget the job."""
        left = set()
        until = time.monotonic() + _RELEASE_SECONDS
        with suppress(SparcError):  # the scheduler is lost
            for worker in self.ready:
                then = self._cluster.submit(
                    worker.address, release, self._job.token, then=lambda t: left.discard(t.key)
                )
                left.add(then.key)
            while left and time.monotonic() < until:
                self._cluster.wait(0.1)

    # ------------------------------------------------------------------ checks

    def _inspected(self, worker: Worker, task: Future) -> None:
        try:
            inspection = self._cluster.result(task, worker.address)
            others = {str(w): w.inspection for w in self._workers.values() if w.inspection}
            worker.inspection = inspection
            scheduler = self._cluster.scheduler
            check_inspection(str(worker), inspection, self._versions, others, scheduler)
        except WorkerLostError:
            self.remove(worker)
        except Exception as error:
            self._refuse(worker, error)
        self._load_all()

    def _load_all(self) -> None:
        """Load the encoders where that has not begun, once all workers have been inspected."""
        if all(worker.inspection is not None for worker in self._workers.values()):
            for worker in self._workers.values():
                if worker.loading is None:
                    self._load(worker)

    def _load(self, worker: Worker) -> None:
        assert worker.inspection is not None
        host = worker.inspection.host
        inspected = [w.inspection for w in self._workers.values() if w.inspection is not None]
        beside = sum(other.host == host for other in inspected)
        loaders = self._job.config.workers or max(1, worker.inspection.cores // beside)
        then = partial(self._equipped, worker)
        worker.loading = self._cluster.submit(worker.address, equip, self._job, loaders, then=then)

    def _equipped(self, worker: Worker, task: Future) -> None:
        try:
            readiness = self._cluster.result(task, worker.address)
            check_dataset(str(worker), readiness, self._manifest_digest)
            if self._first is not None:
                assert self._first.readiness is not None
                check_readiness(str(worker), readiness, str(self._first), self._first.readiness)
        except WorkerLostError:
            self.remove(worker)
            return
        except Exception as error:
            self._refuse(worker, error)
            return
        worker.readiness = readiness
        self._died_loading = 0
        self._first = self._first or worker

    def _refuse(self, worker: Worker, error: Exception) -> None:
        message = str(error) if isinstance(error, WorkerError) else _of_worker(worker, error)
        if not self._is_begun:
            raise WorkerError(message) from error
        say(f"{message}; it is left out")
        self._refused.add(worker.address)
        self._last_refusal = message
        del self._workers[worker.address]

    def _no_workers(self) -> SparcError:
        scheduler = self._cluster.scheduler
        refused = f" that could be used ({self._last_refusal})" if self._last_refusal else ""
        return SparcError(
            f"the cluster {scheduler} has had no worker{refused} for {self._patience:.0f} s: start "
            f"some (`dask worker {scheduler} --nthreads 1 --memory-limit 0`) and run the same "
            "command again"
        )


def _of_worker(worker: Worker, error: Exception) -> str:
    if isinstance(error, SparcError):
        return f"worker {worker}: {error}"
    if isinstance(error, ImportError):
        return (
            f"worker {worker} cannot run this version of SPARC: {printable(reason(error))}: "
            "install there what is installed here"
        )
    return f"worker {worker}: {type(error).__name__}: {printable(reason(error))}"
