"""What the shares of an extraction say: what bounds it, and what a person can do about that."""

import os
from collections.abc import Iterator, Sequence

from sparc.common.timing.phases import Phase, Role
from sparc.common.timing.shares import Shares, together
from sparc.extract.encoding.loader import ImageLoader
from sparc.extract.encoding.replica import Replica

COMMAND = "sparc-extract run"

_WAITS = 0.25
"""The share of their time that encoders wait at least where something else bounds the job."""

_BUSY = 0.75
"""The share of their time that threads work at least where they bound it."""


def shares_of(replicas: Sequence[Replica], loader: ImageLoader) -> Iterator[Shares]:
    """Where the time of those goes who encode in this process and of those who load for them."""
    names = [str(replica.device) for replica in replicas]
    for number, (replica, name) in enumerate(zip(replicas, names, strict=True), 1):
        yield replica.times.shares().of_worker(
            f"{name} ({number})" if names.count(name) > 1 else name
        )
    yield loader.times.shares()


def advice(shares: Sequence[Shares]) -> str:
    """What bounds the extraction and what helps; empty where no one thing does."""
    encoders = together(shares, Role.ENCODER)
    if encoders is None:
        return ""
    starved, blocked = encoders.share(Phase.STARVED), encoders.share(Phase.BLOCKED)
    if starved >= _WAITS and starved > blocked:
        return _of_loading(starved, together(shares, Role.LOADER))
    if blocked >= _WAITS:
        return (
            f"writing is the bound: encoders wait for it {blocked:.0%} of the time; a faster disk "
            "for the cache helps, or --compression none and --dtype float16"
        )
    if encoders.share(Phase.ENCODE) >= _BUSY:
        on_cpu = all(one.worker.startswith("cpu") for one in shares if one.role == Role.ENCODER)
        devices = "a GPU" if on_cpu else "more devices (--devices)"
        return (
            f"encoding is the bound: {devices} or more machines (--shard, --scheduler) make it "
            "faster, more --workers do not"
        )
    return ""


def _of_loading(starved: float, loaders: Shares | None) -> str:
    """What to do where encoders wait for images."""
    if loaders is None or loaders.share(Phase.IDLE) > 1 - _BUSY:
        return ""
    phases = (Phase.READ, Phase.DECODE, Phase.PREPARE)
    longest = max(phases, key=loaders.share)
    what = {
        Phase.READ: "reading images",
        Phase.DECODE: "decoding images",
        Phase.PREPARE: "preparing images",
    }[longest]
    threads = (
        "more --workers"
        if longest == Phase.READ or loaders.threads < (os.cpu_count() or 1)
        else "more processors or machines (--shard)"
    )
    others = (
        "a faster disk for the dataset"
        if longest == Phase.READ
        else "smaller images (in a new cache --decode-side, for JPEG files)"
    )
    return (
        f"{what} is the bound: encoders wait {starved:.0%} of the time for it; {threads} help, or "
        f"{others}"
    )
