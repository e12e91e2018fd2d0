"""Processes that train together, of which one after another is killed at a random moment.

    python tests/benchmarks/bench_killed_processes.py [--kills 20] [--processes 2]

A run is made once undisturbed and once with a SIGKILL for a process drawn at random, some time
after it has begun: within loading, steps, exchanges, logging or saving. `torchrun --max-restarts`
starts all again. Both runs have to end with the same weights and figures, byte for byte.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "support"))

from torchrun import result, start, worker

from sparc.common.cache.arrays import write_arrays
from sparc.common.files.folder import Folder
from sparc.train.data.planted import plant
from sparc.train.run.run_folder import saved_steps

OPTIONS = [
    *("--latents", 96, "--k", 4, "--auxk", 8, "--dead-after", 150, "--batch-size", 64),
    *("--lr", 3e-3, "--log-every", 7, "--checkpoint-every", 10, "--residency", "stream"),
    *("--block-chunks", 4),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        planted = plant({"a": 24, "b": 16}, rows=1000, shared=20, private=2, active=3)
        write_arrays(folder / "cache", planted.features, rows_per_chunk=64, dtype="float16")
        train = ["run", folder / "cache", folder / "undisturbed", *OPTIONS]
        train += ["--steps", arguments.steps]
        launcher = start(train, processes=arguments.processes)
        _, said = launcher.communicate()
        assert launcher.returncode == 0, said
        run = train[2] = folder / "run"
        options = ("--max-restarts", arguments.kills)
        launcher = start(train, options=options, processes=arguments.processes)
        kills = 0
        while kills < arguments.kills:
            rank = moments.randrange(arguments.processes)
            process = worker(launcher, rank)
            if process is None:
                break
            before = max(saved_steps(Folder(run)), default=0)
            begun = time.monotonic()
            wanted = before + 10 * moments.randrange(4)
            while launcher.poll() is None and max(saved_steps(Folder(run)), default=0) < wanted:
                time.sleep(0.002)
            time.sleep(moments.uniform(0, 0.2))
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it ended with the one that was killed before
            kills += 1
            print(
                f"kill {kills}: process {rank} after {time.monotonic() - begun:.1f} s, "
                f"step {max(saved_steps(Folder(run)), default=0)} saved",
                flush=True,
            )
            while Path(f"/proc/{process}").exists():
                time.sleep(0.01)
        _, said = launcher.communicate()
        assert launcher.returncode == 0, said
        same = result(run) == result(folder / "undisturbed")
        print(f"continued {said.count('continuing after step')} times; same bytes: {same}")
        assert same


if __name__ == "__main__":
    main()
