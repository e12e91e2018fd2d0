"""`sparc-train` as processes: killed, terminated, resumed, inspected."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from struck import struck

from sparc.common.files.folder import Folder
from sparc.train.run.run_folder import saved_steps

NEXT_BATCH = "sparc.train.data.reader:BatchReader.next_batch"

SETTINGS = """
[train]
latents = 96
k = 4
auxk = 8
dead_after = 150
batch_size = 64
steps = 240
lr = 3e-3
log_every = 10
checkpoint_every = 6
block_chunks = 4
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    path = tmp_path_factory.mktemp("settings") / "train.toml"
    path.write_text(SETTINGS)
    return path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, small_cache, settings, call, one_thread):
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    done = call("train", "run", small_cache, run, "--config", settings)
    assert done.returncode == 0, done.stderr
    return run


def start(cache, run, settings, *, terminated_in_step=0):
    arguments = ("sparc.train.cli", "run", cache, run, "--config", settings)
    command = [sys.executable, "-m", *arguments]
    if terminated_in_step:
        command = struck(signal.SIGTERM, terminated_in_step, NEXT_BATCH, *arguments)
    return subprocess.Popen(
        list(map(str, command)),
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(process):
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return said


def result(run):
    return (run / "model.safetensors").read_bytes(), (run / "metrics.jsonl").read_bytes()


def wait_for_step(process, run, step):
    deadline = time.monotonic() + 60
    while process.poll() is None and max(saved_steps(Folder(run)), default=0) < step:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_killed_at_random_moments_and_resumed(tmp_path, small_cache, settings, undisturbed):
    """SIGKILL, twice, at moments that fall into steps, logging and saving alike."""
    run, moments = tmp_path / "run", random.Random(os.urandom(8))
    reached = 0
    for _ in range(2):
        process = start(small_cache, run, settings)
        wait_for_step(process, run, reached + moments.randrange(6, 60))
        time.sleep(moments.uniform(0, 0.05))
        process.kill()
        process.communicate()
        reached = max(saved_steps(Folder(run)), default=0)
    finish(start(small_cache, run, settings))
    assert result(run) == result(undisturbed)


def test_terminated_it_saves_and_says_how_to_go_on(tmp_path, small_cache, settings, undisturbed):
    run = tmp_path / "run"
    process = start(small_cache, run, settings, terminated_in_step=71)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "interrupted; run the same command again" in said
    assert not (run / "model.safetensors").exists()
    stopped = max(saved_steps(Folder(run)))
    assert stopped == 71
    said = finish(start(small_cache, run, settings))
    assert f"continuing after step {stopped}" in said
    assert result(run) == result(undisturbed)


def test_inspect_a_finished_run(call_process, undisturbed, small_cache):
    shown = call_process("train", "inspect", undisturbed).stdout
    assert "96 latents, k 4, global selection" in shown
    assert f"from {small_cache}" in shown
    assert "finished: 240 steps" in shown
    (header,) = [line for line in shown.splitlines() if line.startswith("stream")]
    assert header.split()[:5] == ["stream", "EV", "L0", "dead", "own"]
    own, pairs = [line.split() for line in shown.splitlines() if line.startswith("dino ")]
    assert 0.5 < float(own[1]) < 1
    assert own[1] == pairs[1]
    assert " ".join(shown.split()).count("target EV from dino EV from clip_image") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere", "run"], "nowhere is not an activation cache"),
        (["resume", "."], ". is not a run folder"),
        (["run", "nowhere", "run", "--latents=8", "--k=9"], "k (9) cannot exceed latents (8)"),
        (["run", "nowhere", "run", "--lr", "nan"], "lr must be a positive number, not nan"),
        (["run", "nowhere", "run", "--clip", "nan"], "clip must be at least 0, not nan"),
    ],
)
def test_mistakes_are_one_line(call, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = call("train", *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_help_imports_nothing_that_takes_long():
    code = """
import atexit, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
from sparc.train.cli import app
app(["run", "--help"])
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "--latents" in done.stdout
    assert "sparc.train.config" in done.stderr.split()
    assert not {"torch", "zarr", "pyarrow", "dask", "scipy", "numpy"} & set(done.stderr.split())
