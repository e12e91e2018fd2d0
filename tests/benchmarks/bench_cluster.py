"""Extraction on a Dask cluster under deaths, and what a cluster costs.

    python tests/benchmarks/bench_cluster.py deaths --workers 20 --clients 5 --schedulers 3
    python tests/benchmarks/bench_cluster.py overhead --workers 4

`deaths` kills processes with SIGKILL at random moments, or stops workers for good, runs the command
again where it was the client or the scheduler that died, and compares every byte with the cache of
one process. `overhead` compares one process with workers, with an encoder that waits as for a GPU:
what is more than time / workers is overhead.
"""

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import dask
from clusters import HERE, forked_workers, pids, started
from distributed import Client, Nanny, Scheduler, SpecCluster
from fakes import STREAMS, FakeDataset, FakeEncoders, contents

from sparc.extract import job
from sparc.extract.config import ExtractConfig
from sparc.extract.summary import Summary

PORT = 18786
BROKEN, MISSING = (2, 9, 20), (3, 36)


def captions(images: int) -> list[list[str]]:
    """Runs of one to four captions, several of which cross a boundary of chunks."""
    return [[f"image {i} caption {j}" for j in range(1 + i % 4)] for i in range(images)]


def extract(location: Path, images: int, delay: float, **settings: object) -> Summary:
    """The job of all measurements."""
    settings = {"rows_per_chunk": 10, "batch_size": 4, "workers": 2, "device": "cpu", **settings}
    dataset = FakeDataset(captions(images), broken=BROKEN, missing=MISSING)
    config = ExtractConfig(streams=STREAMS, **settings)
    return job.run(dataset, location, config, build=FakeEncoders(delay=delay))


# ---------------------------------------------------------------------- deaths


def cluster_process(workers: int) -> None:
    """A process with a scheduler and the nannies of its workers."""
    with forked_workers(), dask.config.set({"distributed.scheduler.worker-ttl": "1s"}):
        options = {"host": "127.0.0.1", "port": PORT, "dashboard_address": ":0"}
        nanny = {"cls": Nanny, "options": {**HERE, "nthreads": 1}}
        with SpecCluster(
            scheduler={"cls": Scheduler, "options": options},
            workers=dict.fromkeys(range(workers), nanny),
            silence_logs=50,
        ):
            signal.pause()


def client_process(location: Path, images: int) -> None:
    """The command."""
    summary = extract(
        location, images, 0.04, scheduler=f"tcp://127.0.0.1:{PORT}", workers_timeout=120
    )
    print(f"  {summary}")
    if summary.left_out:
        sys.exit(1)


def written(location: Path) -> int:
    """How many chunks of streams there are."""
    return len(list(location.glob("activations.zarr/*/valid/c/*")))


def deaths(arguments: argparse.Namespace) -> None:
    """Kill workers, clients and schedulers, and compare the bytes."""
    moments = random.Random(arguments.seed)
    folder = Path(tempfile.mkdtemp())
    extract(folder / "whole", arguments.images, 0.0)
    victims = ["worker"] * arguments.workers + ["frozen worker"] * arguments.frozen
    victims += ["client"] * arguments.clients + ["scheduler"] * arguments.schedulers
    moments.shuffle(victims)
    context = multiprocessing.get_context("spawn")

    def begin(function: object, *given: object) -> BaseProcess:
        process = context.Process(target=function, args=given)
        process.start()
        return process

    location, runs, before, codes = folder / "cache", 0, 0, []
    cluster = begin(cluster_process, 3)
    client = begin(client_process, location, arguments.images)
    while victims:
        time.sleep(moments.uniform(0.05, 0.8))
        if not client.is_alive():
            codes.append(client.exitcode)
            if client.exitcode == 0:
                runs += contents(location) == contents(folder / "whole")
                shutil.rmtree(location)
                before = 0
            client = begin(client_process, location, arguments.images)
            continue
        if written(location) <= before:
            continue  # nobody is at work yet
        victim = victims.pop()
        print(f"  kill a {victim}", flush=True)
        if victim == "client":
            client.kill()
            client.join()
        elif victim == "scheduler":
            cluster.kill()
            cluster.join()
            cluster = begin(cluster_process, 3)
        else:
            number = signal.SIGKILL if victim == "worker" else signal.SIGSTOP
            with Client(f"tcp://127.0.0.1:{PORT}", set_as_default=False) as connected:
                if alive := pids(connected):
                    os.kill(moments.choice(alive), number)
        before = written(location)
    client.join()
    while not codes or codes[-1] != 0:
        client = begin(client_process, location, arguments.images)
        client.join()
        codes.append(client.exitcode)
    is_same = contents(location) == contents(folder / "whole")
    cluster.terminate()
    print(f"exit statuses of all runs: {codes}")
    print(f"{runs} caches before the last one, all with the same bytes; the last one: {is_same}")
    shutil.rmtree(folder)


# ---------------------------------------------------------------------- overhead


def overhead(arguments: argparse.Namespace) -> None:
    """Compare one process with workers, where the encoder is the bound."""
    folder = Path(tempfile.mkdtemp())
    settings = {"rows_per_chunk": 1024, "batch_size": 16}
    alone = extract(folder / "alone", arguments.images, arguments.delay, **settings)
    seconds = {"one process": alone.timings.seconds}
    with forked_workers():
        for workers in (1, arguments.workers):
            with started(workers=workers) as cluster:
                address = cluster.scheduler_address
                made = extract(
                    folder / f"of-{workers}",
                    arguments.images,
                    arguments.delay,
                    scheduler=address,
                    **settings,
                )
                seconds[f"{workers} workers"] = made.timings.seconds
                assert contents(folder / f"of-{workers}") == contents(folder / "alone")
    for name, taken in seconds.items():
        ideal = alone.timings.seconds / max(1, int(name.split()[0]) if name[0].isdigit() else 1)
        print(f"{name}: {taken:.1f} s, overhead {taken / ideal - 1:+.1%}")
    shutil.rmtree(folder)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(required=True)
    killing = kinds.add_parser("deaths")
    killing.set_defaults(measure=deaths)
    for name, number in (
        ("workers", 20),
        ("clients", 5),
        ("schedulers", 3),
        ("frozen", 2),
        ("images", 1000),
    ):
        killing.add_argument(f"--{name}", type=int, default=number)
    killing.add_argument("--seed", type=int, default=0)
    cost = kinds.add_parser("overhead")
    cost.set_defaults(measure=overhead)
    cost.add_argument("--workers", type=int, default=4)
    cost.add_argument("--images", type=int, default=12800)
    cost.add_argument("--delay", type=float, default=0.02)
    arguments = parser.parse_args()
    arguments.measure(arguments)


if __name__ == "__main__":
    main()
