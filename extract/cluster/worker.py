"""What runs in the processes of a cluster: the functions that a job submits to its workers.

A worker's process keeps the equipment of a job until the job releases it, or until another job
comes and sees that the first one, whose futures the scheduler has forgotten, is gone.
"""

import dataclasses
import socket
import threading

import torch
from distributed import get_worker

from sparc.common.cache.info import CLUSTER_FILE
from sparc.common.cache.shards.agreement import deciding_versions
from sparc.common.cache.shards.cluster import is_announced
from sparc.common.devices import choose_device
from sparc.common.errors import CacheError
from sparc.common.text import reason
from sparc.extract.cluster.equipment import Equipment
from sparc.extract.cluster.faults import is_of_device, may_pass
from sparc.extract.cluster.messages import (
    Failed,
    Inspection,
    Job,
    Made,
    Order,
    Readiness,
    Unequipped,
)
from sparc.extract.encoders.libraries import packages_of

_held: dict[str, tuple[str, Equipment]] = {}
"""By token of the job, the key of the task that made it and the equipment."""

_one_at_a_time = threading.Lock()
"""A chunk uses all threads of its process, or its GPU."""


def inspect(job: Job) -> Inspection:
    """What this worker is, and whether it has the cache's folder.

    Raises:
        SparcError: It has not, or not the device.
    """
    folder = job.folder
    if not is_announced(folder, job.token):
        raise CacheError(
            f"what was written to {folder}/{CLUSTER_FILE} is not seen there: give the cache's "
            "folder by a path under which all machines have it, or by a URL"
        )
    trial = f"{CLUSTER_FILE}.{threading.get_native_id()}-{socket.gethostname()}"
    try:
        folder.write(trial, job.token.encode())
        folder.remove(trial)
    except OSError as error:
        raise CacheError(
            f"nothing can be written to {folder}: {error.strerror or reason(error)}"
        ) from error
    device = choose_device(job.config.device)
    worker = get_worker()
    is_gpu = device.type == "cuda"
    return Inspection(
        name=str(worker.name),
        versions=deciding_versions(packages_of(job.config.specs.values())),
        host=socket.gethostname(),
        cores=dataclasses.replace(job.config, workers=0).threads,
        threads=worker.state.nthreads,
        device=str(device),
        gpu=str(torch.cuda.get_device_properties(device).uuid) if is_gpu else "",
        resources=tuple(worker.state.total_resources),
    )


def equip(job: Job, loaders: int) -> Readiness:
    """Load the dataset and the encoders, and keep them.

    Args:
        job: The job.
        loaders: Threads that read and decode images.

    Raises:
        SparcError: The dataset cannot be read, or an encoder cannot be built.
    """
    worker = get_worker()
    with _one_at_a_time:
        known = worker.state.tasks
        _forget({t for t, (task, _) in _held.items() if task not in known and t != job.token})
        if job.token in _held:  # the job had lost sight of this worker
            _, equipment = _held[job.token]
        else:
            device, threads = choose_device(job.config.device), worker.state.nthreads
            equipment = Equipment(job, device, threads=threads, loaders=loaders)
        _held[job.token] = str(worker.get_current_task()), equipment
        return equipment.readiness()


def make(token: str, order: Order) -> Made | Failed | Unequipped:
    """Make a chunk.

    Raises:
        Exception: What would be raised again if the chunk were made again.
    """
    with _one_at_a_time:
        if token not in _held:
            return Unequipped()
        _, equipment = _held[token]
        try:
            return equipment.make(order)
        except Exception as error:
            if not may_pass(error):
                raise
            message = f"{type(error).__name__}: {reason(error)}"
            return Failed(order.chunk, message, broken_device=is_of_device(error))


def release(token: str) -> None:
    """Let go of what is held for a job."""
    with _one_at_a_time:
        _forget({token})


def _forget(tokens: set[str]) -> None:
    for token in tokens.intersection(_held):
        _, equipment = _held.pop(token)
        equipment.close()
