"""Which workers are refused: those that would make other features, or none."""

from collections.abc import Mapping

from sparc.common.cache.resume import stream_difference
from sparc.common.errors import SparcError
from sparc.common.text import listed
from sparc.extract.cluster.messages import Inspection, Readiness


class WorkerError(SparcError):
    """A worker of a cluster that cannot take part; the message names it."""


def check_inspection(
    worker: str,
    inspection: Inspection,
    versions: dict[str, str],
    others: Mapping[str, Inspection],
    scheduler: str,
) -> None:
    """Refuse a worker before it loads anything.

    Args:
        worker: Its name.
        inspection: What it says of itself.
        versions: Version by package, of this process.
        others: The other workers by name.
        scheduler: The scheduler's address.

    Raises:
        WorkerError: It has other software; or more threads than GPUs, or another worker's GPU.
    """
    theirs = inspection.versions
    differing = [n for n in (versions | theirs) if versions.get(n) != theirs.get(n)]
    if differing:
        there = listed([f"{n} {theirs.get(n, '(none)')}" for n in differing])
        here = listed([f"{n} {versions.get(n, '(none)')}" for n in differing])
        install = " ".join(
            f"{n}=={versions[n]}" for n in differing if n in versions.keys() - {"sparc"}
        )
        raise WorkerError(
            f"worker {worker} has {there}, this command {here}, and their features may differ: use "
            "the same software on every machine"
            + (f" (there: pip install {install})" if install else "")
        )
    if not inspection.gpu:
        return
    right = (
        f"start its workers with `dask cuda worker {scheduler}`, or one for each GPU with "
        f"`CUDA_VISIBLE_DEVICES=0 dask worker {scheduler} --nthreads 1 --memory-limit 0 "
        "--resources GPU=1`"
    )
    if inspection.threads > 1:
        raise WorkerError(f"worker {worker} has {inspection.threads} threads for one GPU: {right}")
    for name, other in others.items():
        if (other.host, other.gpu) == (inspection.host, inspection.gpu):
            raise WorkerError(f"worker {worker} uses the same GPU as worker {name}: {right}")


def check_readiness(worker: str, readiness: Readiness, first: str, wanted: Readiness) -> None:
    """Refuse a worker that would make other features.

    Args:
        worker: Its name.
        readiness: What it would make.
        first: The name of the worker that was ready first.
        wanted: What that one makes.

    Raises:
        WorkerError: It has other weights or another device; or it sees another dataset.
    """
    for a, b in zip(wanted.streams, readiness.streams, strict=True):
        if (difference := stream_difference(a, b)) is not None:
            what, there, here = difference
            raise WorkerError(
                f"worker {worker} would make stream {a.name} in another way than worker {first} "
                f"({what}: {there!r} there, {here!r} here): use the same weights and the same kind "
                "of device on every machine"
            )
    if readiness.first_image != wanted.first_image:
        raise WorkerError(
            f"worker {worker} does not read in the dataset's first image what worker {first} does: "
            "give the dataset by a path under which all machines have it"
        )


def check_dataset(worker: str, readiness: Readiness, manifest_digest: str) -> None:
    """Refuse a worker that sees other rows than this process does.

    Raises:
        WorkerError: It does.
    """
    if readiness.manifest_digest != manifest_digest:
        raise WorkerError(
            f"worker {worker} sees other rows in the dataset than this command: give the dataset "
            "by a path under which all machines have it"
        )
