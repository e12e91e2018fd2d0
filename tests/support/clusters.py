"""Dask clusters of processes for tests, and encoders that misbehave in them.

Worker processes are forked from one that has imported what they need, so that one that was killed
is replaced in a moment.
"""

import dataclasses
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Nanny, Scheduler, SpecCluster
from distributed.utils import get_mp_context
from fakes import FakeDataset, FakeEncoders

from sparc.common.errors import UnavailableError

PRELOADED = ("sparc.extract.cluster.worker", "timm", "fakes")
HERE = {"host": "127.0.0.1", "dashboard": False, "silence_logs": 50}


@contextmanager
def forked_workers() -> Iterator[None]:
    """Let clusters of this process fork their workers from one process with all imports."""
    with dask.config.set(
        {
            "distributed.worker.multiprocessing-method": "forkserver",
            "distributed.comm.timeouts.connect": "3s",
        }
    ):
        context = get_mp_context()
        context.set_forkserver_preload(["distributed", *PRELOADED])
        yield


def started(*, workers: int) -> SpecCluster:
    """A cluster of worker processes, with one thread each."""
    return SpecCluster(
        scheduler={"cls": Scheduler, "options": {"host": "127.0.0.1", "dashboard_address": ":0"}},
        workers={
            number: {"cls": Nanny, "options": {**HERE, "nthreads": 1}} for number in range(workers)
        },
        silence_logs=50,
    )


def pids(client: Client) -> list[int]:
    """The processes of the workers, in no order."""
    return list(client.run(os.getpid, on_error="ignore").values())


class FlakyDataset(FakeDataset):
    """One that cannot be read at first: once for each byte of `flag`, which is used up."""

    def __init__(self, captions: Any, flag: Path, **settings: Any) -> None:
        super().__init__(captions, **settings)
        self.flag = flag

    def __reduce__(self) -> Any:
        return _flaky, (self.captions, self.flag, tuple(self.broken), tuple(self.missing))

    def read_image(self, image: str) -> bytes:
        left = self.flag.stat().st_size if self.flag.exists() else 0
        if left and image == "p20":
            os.truncate(self.flag, left - 1)
            raise UnavailableError("the disk is gone")
        return super().read_image(image)


def _flaky(captions: Any, flag: Path, broken: Any, missing: Any) -> FlakyDataset:
    return FlakyDataset(captions, flag, broken=broken, missing=missing)


@dataclasses.dataclass
class PoisonedEncoders(FakeEncoders):
    """Encoders whose process dies of a caption."""

    poison: str = ""
    pause: float = 0.0

    def __call__(self, specs: Any, device: Any) -> Any:
        encoders = super().__call__(specs, device)
        encode = encoders.texts["t"].encode

        def taste(captions: Any) -> Any:
            time.sleep(self.pause)
            if any(self.poison in caption for caption in captions):
                os._exit(9)
            return encode(captions)

        encoders.texts["t"].encode = taste
        return encoders


@dataclasses.dataclass
class WaitingEncoders(FakeEncoders):
    """Encoders that encode no caption until `flag` is there."""

    flag: Path = Path()

    def __call__(self, specs: Any, device: Any) -> Any:
        encoders = super().__call__(specs, device)
        encode = encoders.texts["t"].encode

        def wait(captions: Any) -> Any:
            while not self.flag.exists():
                time.sleep(0.01)
            return encode(captions)

        encoders.texts["t"].encode = wait
        return encoders


@dataclasses.dataclass
class OwnWeights(FakeEncoders):
    """Encoders that are others in each process."""

    def __call__(self, specs: Any, device: Any) -> Any:
        encoders = super().__call__(specs, device)
        encoder: Any = encoders.images["a"]
        digest = f"{os.getpid():064d}"
        encoder.origin = dataclasses.replace(encoder.origin, weights_sha256=digest)
        return encoders


@dataclasses.dataclass
class DeadlyToLoad(FakeEncoders):
    """Encoders whose process dies while it loads them, once `flag` is there."""

    flag: Path = Path()

    def __call__(self, specs: Any, device: Any) -> Any:
        if self.flag.exists():
            os._exit(9)
        return super().__call__(specs, device)
