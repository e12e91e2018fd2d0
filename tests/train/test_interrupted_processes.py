"""Two processes that train together: stopped, killed and begun again, with the same bytes."""

import os
import signal
import time

import pytest
from torchrun import result, start, wait_for_step, worker

from sparc.common.errors import Terminated
from sparc.train.distributed.processes import Processes
from sparc.train.distributed.stopping import Stopping

OPTIONS = [
    *("--latents", 96, "--k", 4, "--auxk", 8, "--dead-after", 150, "--batch-size", 64),
    *("--steps", 160, "--lr", 3e-3, "--log-every", 7, "--checkpoint-every", 10),
    *("--block-chunks", 4, "--residency", "stream"),
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, small_cache):
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    launcher = start(["run", small_cache, run, *OPTIONS])
    _, said = launcher.communicate(timeout=240)
    assert launcher.returncode == 0, said
    return run


@pytest.mark.slow
def test_killed_and_stopped_they_end_as_if_undisturbed(tmp_path, small_cache, undisturbed):
    """Of both processes one is killed, one alone hears Ctrl-C; then `torchrun` hears SIGTERM."""
    run = tmp_path / "run"
    train = ["run", small_cache, run, *OPTIONS]
    launcher = start(train, options=("--max-restarts", 3))
    for number, (rank, sent) in enumerate(
        [(1, signal.SIGKILL), (0, signal.SIGKILL), (1, signal.SIGINT)], start=1
    ):
        wait_for_step(launcher, run, 30 * number)
        process = worker(launcher, rank)
        assert process is not None
        os.kill(process, sent)
        time.sleep(0.5)  # until `torchrun` has seen it
    wait_for_step(launcher, run, 120)
    launcher.send_signal(signal.SIGTERM)
    _, said = launcher.communicate(timeout=120)
    assert "another process of this training ended" in said
    # Of each pair that agreed to stop, the first speaks.
    assert said.count("interrupted; run the same command again") == 2
    assert said.count("continuing after step") == 3
    assert not (run / "model.safetensors").exists()
    launcher = start(train)
    _, said = launcher.communicate(timeout=120)
    assert launcher.returncode == 0, said
    assert "continuing after step" in said
    assert result(run) == result(undisturbed)


def test_a_signal_that_comes_twice_at_once_is_one_request(monkeypatch):
    """Slurm signals `torchrun` and its processes, and `torchrun` passes the signal on."""
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
