"""Connecting to a Dask cluster, or starting one on this machine."""

import dataclasses
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from distributed import Client, Nanny, Scheduler, SpecCluster
from distributed.client import AllExit

from sparc.common.devices import choose_devices
from sparc.common.errors import ConfigError, SparcError
from sparc.common.progress import say
from sparc.common.text import amount
from sparc.extract.config import LOCAL, ExtractConfig

_CONNECT_SECONDS = 30


@contextmanager
def connect(config: ExtractConfig) -> Iterator[Client]:
    """A client of the cluster that the settings name, as long as the context lasts.

    Raises:
        SparcError: No scheduler answers.
        ConfigError: There are fewer GPUs than workers.
    """
    with ExitStack() as stack:
        stack.enter_context(_without_tracebacks())
        address = config.scheduler
        if address == LOCAL:
            address = stack.enter_context(_local_cluster(config))
        try:
            client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise SparcError(f"no Dask scheduler answers at {address}: {error}") from error
        yield stack.enter_context(client)


@contextmanager
def _without_tracebacks() -> Iterator[None]:
    """Keep Dask from logging that the scheduler or a worker was lost, which we say in a line."""
    client, loop = logging.getLogger("distributed.client"), logging.getLogger("asyncio")
    level = client.level
    client.setLevel(logging.CRITICAL)
    loop.addFilter(_is_not_left_behind)
    try:
        yield
    finally:
        client.setLevel(level)
        loop.removeFilter(_is_not_left_behind)


def _is_not_left_behind(record: logging.LogRecord) -> bool:
    """Whether a record is not of what a client leaves of a result that its worker took with it."""
    return not record.exc_info or not isinstance(record.exc_info[1], AllExit)


@contextmanager
def _local_cluster(config: ExtractConfig) -> Iterator[str]:
    """The address of a cluster on this machine, with a process for each device."""
    devices = choose_devices(config.devices or config.device)
    count = config.n_workers or len(devices)
    if devices[0].type == "cpu":
        threads = max(1, dataclasses.replace(config, workers=0).threads // count)
        options: list[dict[str, object]] = [{"nthreads": threads}] * count
    else:
        if count > len(devices):
            raise ConfigError(
                f"{amount(count, 'worker')} need as many GPUs, not {len(devices)}: give fewer "
                "--n-workers, or --devices all"
            )
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        names = [
            visible[device.index] if visible[0] else str(device.index) for device in devices[:count]
        ]
        options = [{"nthreads": 1, "env": {"CUDA_VISIBLE_DEVICES": name}} for name in names]
    say(f"starting {amount(count, 'worker process')} on {', '.join(map(str, devices))}")
    here = {"host": "127.0.0.1", "dashboard": False, "dashboard_address": ":0"}
    with SpecCluster(
        scheduler={"cls": Scheduler, "options": here},
        workers={
            number: {
                "cls": Nanny,
                # Models are not Dask's memory: its limit would only kill a worker.
                "options": {
                    "host": "127.0.0.1",
                    "memory_limit": 0,
                    "dashboard": False,
                    "silence_logs": logging.ERROR,
                    **of_worker,
                },
            }
            for number, of_worker in enumerate(options)
        },
        silence_logs=logging.ERROR,
    ) as cluster:
        yield cluster.scheduler_address
