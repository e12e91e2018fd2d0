"""Two processes that train together: told to stop, killed and begun again, with the same bytes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sparc.common.errors import Terminated
from sparc.common.files.folder import Folder
from sparc.train.distributed.processes import Processes
from sparc.train.distributed.stopping import Stopping
from sparc.train.run.run_folder import saved_steps

OPTIONS = [
    *("--latents", 96, "--k", 4, "--auxk", 8, "--dead-after", 150, "--batch-size", 64),
    *("--steps", 160, "--lr", 3e-3, "--log-every", 7, "--checkpoint-every", 10),
    *("--block-chunks", 4, "--residency", "stream"),
]


def torchrun(cache, run, *options):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", *options, "-m", "sparc.train.cli", "run", cache, run]
    return subprocess.Popen(
        list(map(str, [*command, *OPTIONS])),
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def worker(launcher, rank):
    """The process of a rank, which may be about to begin."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == launcher.pid and f"RANK={rank}".encode() in (
                    (folder / "environ").read_bytes().split(b"\0")
                ):
                    return int(folder.name)
            except (OSError, IndexError):
                continue  # it has ended meanwhile
        time.sleep(0.01)
    raise AssertionError(f"process {rank} has not begun")


def wait_for_step(launcher, run, step):
    deadline = time.monotonic() + 90
    while launcher.poll() is None and max(saved_steps(Folder(run)), default=0) < step:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def result(run):
    return (run / "model.safetensors").read_bytes(), (run / "metrics.jsonl").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, small_cache):
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    launcher = torchrun(small_cache, run)
    _, said = launcher.communicate(timeout=240)
    assert launcher.returncode == 0, said
    return run


def test_killed_and_told_to_stop_they_end_as_if_undisturbed(tmp_path, small_cache, undisturbed):
    """Of both processes one is killed, one alone hears Ctrl-C; then `torchrun` hears SIGTERM."""
    run = tmp_path / "run"
    launcher = torchrun(small_cache, run, "--max-restarts", 3)
    for number, (rank, told) in enumerate(
        [(1, signal.SIGKILL), (0, signal.SIGKILL), (1, signal.SIGINT)], start=1
    ):
        wait_for_step(launcher, run, 30 * number)
        os.kill(worker(launcher, rank), told)
        time.sleep(0.5)  # until `torchrun` has seen it
    wait_for_step(launcher, run, 120)
    launcher.send_signal(signal.SIGTERM)
    _, said = launcher.communicate(timeout=120)
    assert "another process of this training ended" in said
    # Of each pair that agreed to stop, the first speaks.
    assert said.count("interrupted; run the same command again") == 2
    assert said.count("continuing after step") == 3
    assert not (run / "model.safetensors").exists()
    launcher = torchrun(small_cache, run)
    _, said = launcher.communicate(timeout=120)
    assert launcher.returncode == 0, said
    assert "continuing after step" in said
    assert result(run) == result(undisturbed)


def test_a_signal_that_comes_twice_at_once_is_one_request(monkeypatch):
    """Slurm tells `torchrun` and its processes, and `torchrun` tells them again."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    several = Stopping(Processes(0, 2))
    several.ask(signal.SIGTERM, None)
    now[0] += 0.9
    several.ask(signal.SIGTERM, None)
    now[0] += 0.2
    with pytest.raises(Terminated):
        several.ask(signal.SIGTERM, None)
    alone = Stopping(Processes())
    assert alone.after_step() is None
    alone.ask(signal.SIGINT, None)
    assert alone.after_step() is KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        alone.ask(signal.SIGINT, None)
