"""Two processes with gloo on a CPU make the run of one process with the same batches."""

import dataclasses
import os
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch

from sparc.common.cache.reader import ActivationCache
from sparc.common.defaults import changed
from sparc.common.errors import LostProcessError
from sparc.common.files.folder import Folder
from sparc.train import together
from sparc.train.distributed import joining
from sparc.train.distributed import processes as module
from sparc.train.distributed.joining import Round
from sparc.train.loading import load_model
from sparc.train.run.log import read_lines
from sparc.train.run.run_folder import RunRecord

OPTIONS = [
    *("--latents", 96, "--k", 4, "--auxk", 8, "--dead-after", 150, "--batch-size", 64),
    *("--steps", 40, "--lr", 3e-3, "--log-every", 5, "--checkpoint-every", 8),
    *("--block-chunks", 4, "--align", 0.5, "--error", "variance", "--noise", 0.1),
    *("--residency", "stream"),
]


def torchrun(*arguments, processes=2):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), "-m", "sparc.train.cli"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command += list(map(str, arguments))
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)


@pytest.fixture(scope="module")
def two(tmp_path_factory, small_cache):
    run = tmp_path_factory.mktemp("two") / "run"
    done = torchrun("run", small_cache, run, *OPTIONS, "--validation", small_cache)
    assert done.returncode == 0, done.stderr
    return run


def assert_same_run(a, b):
    lines = zip(read_lines(Folder(a)), read_lines(Folder(b)), strict=True)
    for one, other in lines:
        assert (one["step"], one["split"], one["rows"]) == (
            other["step"],
            other["split"],
            other["rows"],
        )
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        for key in ("explained_variance", "l0"):
            assert one[key] == pytest.approx(other[key], abs=2e-3)
        for target, row in one["nmse"].items():
            assert row == pytest.approx(other["nmse"][target], rel=1e-3)
    models = [load_model(run).state_dict() for run in (a, b)]
    for name, value in models[0].items():
        torch.testing.assert_close(value, models[1][name], rtol=1e-2, atol=1e-3)


@pytest.fixture(scope="module")
def one(tmp_path_factory, call, small_cache):
    run = tmp_path_factory.mktemp("one") / "run"
    done = call("train", "run", small_cache, run, *OPTIONS, "--validation", small_cache)
    assert done.returncode == 0, done.stderr
    return run


def test_two_processes_are_one(one, two):
    assert RunRecord.read(Folder(two)).processes == 2
    assert RunRecord.read(Folder(two)).data.variances == RunRecord.read(Folder(one)).data.variances
    assert_same_run(one, two)
    for line in read_lines(Folder(two), "timings.jsonl"):
        first, second, *helpers = line["threads"]
        assert (first["worker"], second["worker"]) == ("process 0", "process 1")
        assert first["rows"] == second["rows"] == 5 * 64 / 2
        assert line["rows_per_second"] == pytest.approx(
            2 * first["rows"] / line["seconds"], rel=1e-4
        )
        assert {"step", "exchange", "starved"} <= set(second["seconds"])
        assert [threads["role"] for threads in helpers] == ["picker", "reader"]


def test_two_processes_that_share_the_latents_are_one_with_rows_that_lack_streams(
    tmp_path, call, small_cache
):
    """And their checkpoint is one that a single process goes on from."""
    one, two = tmp_path / "one", tmp_path / "two"
    options = [*OPTIONS, "--steps", 12, "--rows", "any", "--term", "distill=0.1"]
    options += ["--balance", 1e-3, "--independent", 0.5, "--alive-by", "both"]
    options += ["--residency", "host"]
    done = call("train", "run", small_cache, one, *options)
    assert done.returncode == 0, done.stderr
    done = torchrun("run", small_cache, two, *options, "--parallel", "latents")
    assert done.returncode == 0, done.stderr
    assert "2 processes that share latents" in done.stderr
    assert RunRecord.read(Folder(two)).parallel == "latents"
    assert RunRecord.read(Folder(one)).parallel == "rows"
    assert_same_run(one, two)
    (two / "model.safetensors").unlink()
    done = call("train", "resume", two)
    assert done.returncode == 0, done.stderr
    assert "continuing after step 8" in done.stderr
    assert_same_run(one, two)


def test_what_all_processes_refuse_is_said_once(tmp_path, small_cache):
    options = [*OPTIONS, "--latents", 97, "--parallel", "latents"]
    done = torchrun("run", small_cache, tmp_path / "run", *options)
    assert done.stderr.count("2 processes cannot share 97 latents evenly") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("begun_by", "resumed_by"), [(1, 2), (2, 1)])
def test_a_resumed_run_counts_the_rows_of_all_processes(
    tmp_path, call, one, two, begun_by, resumed_by
):
    """It continues after step 32, between the lines of metrics of steps 30 and 35."""
    run, whole = tmp_path / "run", one if begun_by == 1 else two
    shutil.copytree(whole, run)
    (run / "model.safetensors").unlink()
    done = torchrun("resume", run) if resumed_by == 2 else call("train", "resume", run)
    assert done.returncode == 0, done.stderr
    assert "continuing after step 32" in done.stderr
    assert_same_run(run, whole)


@pytest.mark.slow
def test_a_run_of_one_goes_on_with_four_that_share_the_latents(tmp_path, small_cache, one):
    run = tmp_path / "run"
    shutil.copytree(one, run)
    (run / "model.safetensors").unlink()
    arguments = ("run", small_cache, run, *OPTIONS, "--validation", small_cache)
    done = torchrun(*arguments, "--parallel", "latents", processes=4)
    assert done.returncode == 0, done.stderr
    assert "4 processes that share latents, continuing after step 32" in done.stderr
    assert_same_run(run, one)


@pytest.mark.parametrize("division", ["rows", "latents"])
def test_all_begin_with_the_weights_of_the_first(tmp_path, monkeypatch, one, small_cache, division):
    """Another machine may round means and norms otherwise; a run of its own has others here."""
    record = RunRecord.read(Folder(one))
    first = iter(load_model(one).state_dict().values())
    monkeypatch.setattr(
        module.Processes, "copy_from_first", lambda _, tensor: tensor.copy_(next(first))
    )
    monkeypatch.setattr(module.Processes, "wait", lambda _: None)
    second = module.Processes(rank=1, world=2)
    record = dataclasses.replace(record, train=changed(record.train, error="norm"))
    opened = together._opened(
        *(Folder(tmp_path / "run"), record, 0, ActivationCache(str(small_cache))),
        *(second.device, second, division),
    )
    with opened as trainee:
        begun = trainee.learner.model.state_dict()
    trained = load_model(one).state_dict()
    for name, tensor in begun.items():
        own = trained[name]
        assert torch.equal(tensor, own if tensor.shape == own.shape else own.chunk(2)[1]), name
    assert not (tmp_path / "run").exists()


def test_processes_wait_longer_than_any_validation(monkeypatch):
    given = {}
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(module, "join", lambda: Round(None, 1, ("a", "b")))
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda _, **kw: given.update(kw))
    monkeypatch.setattr(module, "_leave", lambda: None)
    with module.processes() as group:
        assert (group.rank, group.world) == (1, 2)
    assert given["timeout"] >= timedelta(hours=12)


@pytest.fixture
def joined_in(monkeypatch):
    """What processes of a store join, all in threads of this process."""

    def build(store, ranks):
        monkeypatch.setenv("MASTER_ADDR", "head")
        with ThreadPoolExecutor(len(ranks)) as threads:
            return list(threads.map(lambda rank: joining.join_in(store, rank, 3), ranks))

    return build


def test_processes_that_begin_again_do_not_take_the_dead_for_one_another(joined_in):
    """In a store of which they know nothing but what the former ones left there."""
    store = torch.distributed.HashStore()
    first = joined_in(store, range(3))
    for round_ in first:
        round_.store.set(f"address/{round_.rank}", "of the dead")
    again = joined_in(store, range(3))
    assert [round_.rank for round_ in again] == [0, 1, 2]
    assert again[0].hosts == (socket.gethostname(),) * 3
    again[0].store.set("number", "7")
    for round_ in again:
        assert round_.store.get("number") == b"7"
        assert not round_.store.check(["address/0"])


def test_a_process_that_does_not_begin_is_named(joined_in, monkeypatch):
    monkeypatch.setattr(joining, "PATIENCE", 0.2)
    with pytest.raises(LostProcessError, match=r"process 3 of 3 has not begun after .* head"):
        joined_in(torch.distributed.HashStore(), range(2))
