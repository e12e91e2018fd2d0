"""Extraction by the workers of a Dask cluster: processes that are checked, killed and replaced."""

import dataclasses
import logging
import os
import pickle
import random
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

distributed = pytest.importorskip("distributed")

from clusters import (  # noqa: E402
    HERE,
    DeadlyToLoad,
    FlakyDataset,
    OwnWeights,
    PoisonedEncoders,
    WaitingEncoders,
    forked_workers,
    pids,
    started,
)
from fakes import FakeDataset, contents  # noqa: E402

from sparc.common.cache.shards.cluster import announce, is_announced, withdraw  # noqa: E402
from sparc.common.errors import (  # noqa: E402
    CacheError,
    ConfigError,
    LockedError,
    SparcError,
)
from sparc.common.files.folder import Folder  # noqa: E402
from sparc.extract import job  # noqa: E402
from sparc.extract.cluster import connection, pool  # noqa: E402
from sparc.extract.cluster.checks import WorkerError, check_inspection  # noqa: E402
from sparc.extract.cluster.cluster import (  # noqa: E402
    Cluster,
    SchedulerLostError,
    WorkerLostError,
)
from sparc.extract.cluster.equipment import Equipment  # noqa: E402
from sparc.extract.cluster.faults import is_of_device, may_pass  # noqa: E402
from sparc.extract.cluster.messages import (  # noqa: E402
    Inspection,
    Job,
    Made,
    Order,
    Readiness,
)
from sparc.extract.config import ExtractConfig  # noqa: E402
from sparc.pipelines.demo.dataset import SceneSettings, write_scenes  # noqa: E402

CAPTIONS = [
    [None] if i % 11 == 7 else [f"image {i} caption {j}" + "x" * (i % 9) for j in range(1 + i % 4)]
    for i in range(37)
]
"""Runs of one to four captions: with ten rows a chunk, several runs cross a boundary."""

CAPTIONS[30:31] = [[f"image 30 caption {j}" for j in range(23)]]
"""An image whose rows go through two whole chunks."""

BROKEN, MISSING = (2, 9, 20), (3, 36)


@pytest.fixture(scope="module")
def cluster():
    with forked_workers(), started(workers=2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster):
    with distributed.Client(cluster, set_as_default=False) as client:
        yield client


class Elsewhere(FakeDataset):
    """A dataset of which another process sees less."""

    def __reduce__(self):
        return FakeDataset, (self.captions[:5],)


@pytest.fixture(scope="module")
def config(fake_streams, cluster) -> ExtractConfig:
    return ExtractConfig(
        streams=fake_streams,
        rows_per_chunk=10,
        batch_size=4,
        workers=2,
        device="cpu",
        scheduler=cluster.scheduler_address,
        workers_timeout=60,
    )


@pytest.fixture(scope="module")
def run(fake_dataset, fake_encoders, config):
    def run_one(location, *, build=None, dataset=None, overwrite=False, **changes):
        dataset = dataset or fake_dataset(CAPTIONS, broken=BROKEN, missing=MISSING)
        changed = dataclasses.replace(config, **changes)
        build = build or fake_encoders()
        return job.run(dataset, location, changed, build=build, overwrite=overwrite)

    return run_one


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory) -> Path:
    """The cache that one process makes."""
    location = tmp_path_factory.mktemp("whole") / "cache"
    run(location, scheduler="")
    return location


# ---------------------------------------------------------------------- the bytes


def test_a_cluster_leaves_what_one_process_leaves(run, whole, tmp_path, monkeypatch) -> None:
    """Made, repaired and made over; no answer is longer than 10 kB, and each lists all streams."""
    answers, result = [], Cluster.result

    def recorded(self, *arguments):
        answers.append(result(self, *arguments))
        return answers[-1]

    monkeypatch.setattr(Cluster, "result", recorded)
    location = tmp_path / "cache"
    run(location)
    assert contents(location) == contents(whole)
    assert max(len(pickle.dumps(answer)) for answer in answers) < 10_000
    made = {answer.chunk: answer for answer in answers if isinstance(answer, Made)}
    first = made[0].streams[0]
    assert (first.stream, first.rejected) == ("a", 7)
    assert sum(rows for _, rows in first.reasons) == first.rejected
    damaged = location / "activations.zarr/b/features/c/3/0"
    damaged.write_bytes(bytes(damaged.stat().st_size))
    (location / "activations.zarr/t/valid/c/2").unlink()
    (location / "thumbnails/00000001.parquet").unlink()
    (location / "rejects.parquet").unlink()
    run(location, repair=True)
    assert contents(location) == contents(whole)
    (location / "rows.parquet").write_bytes(b"spoilt")
    run(location, overwrite=True)
    assert contents(location) == contents(whole)


@pytest.mark.timeout(120, func_only=True)
def test_a_worker_whose_answer_to_a_check_is_lost_is_checked_again(
    run, whole, tmp_path, monkeypatch
) -> None:
    """As of one that died and was started again at its address, between two looks."""
    checks, result = {Inspection, Readiness}, Cluster.result

    def lose_first(self, *arguments):
        answer = result(self, *arguments)
        if type(answer) in checks:
            checks.remove(type(answer))
            raise WorkerLostError
        return answer

    monkeypatch.setattr(Cluster, "result", lose_first)
    run(tmp_path / "cache")
    assert not checks
    assert contents(tmp_path / "cache") == contents(whole)


def test_workers_that_are_killed_at_random_moments_are_replaced(
    run, whole, tmp_path, fake_encoders, client
) -> None:
    location, moments = tmp_path / "cache", random.Random(3)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, location, build=fake_encoders(delay=0.03))
        for number in range(1, 4):
            while len(list(location.glob("activations.zarr/*/valid/c/*"))) < 6 * number:
                assert not running.done()
                time.sleep(0.01)
            time.sleep(moments.uniform(0, 0.05))
            os.kill(moments.choice(pids(client)), signal.SIGKILL)
        assert running.result(120).left_out == ()
    assert contents(location) == contents(whole)


def test_a_second_client_is_refused(run, whole, tmp_path, fake_encoders) -> None:
    location = tmp_path / "cache"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, location, build=fake_encoders(delay=0.05))
        while not list(location.glob("activations.zarr/*/valid/c/*")):
            time.sleep(0.01)
        with pytest.raises(LockedError, match=f"process {os.getpid()}"):
            run(location)
        running.result(120)
    assert contents(location) == contents(whole)


def test_a_chunk_that_kills_its_workers_is_named_and_left_out_and_tried_again(
    run, whole, tmp_path, capsys, call
) -> None:
    location = tmp_path / "cache"
    summary = run(location, build=PoisonedEncoders(poison="image 17 caption 0", pause=0.02))
    (line,) = summary.left_out
    assert line == "chunk 3 (rows 30 to 39): 3 workers were lost while they made it"
    assert "1 chunk could not be made; run the same command again" in str(summary)
    written = {int(p.name) for p in location.glob("activations.zarr/t/valid/c/*")}
    assert written == set(range(11)) - {3}
    assert not (location / "shards").exists()
    assert f"left out: {line}" in capsys.readouterr().err
    assert run(location).left_out == ()
    assert contents(location) == contents(whole)


# ---------------------------------------------------------------------- errors


def test_a_disk_that_comes_back_is_waited_for_and_one_that_does_not_costs_its_chunk(
    run, whole, tmp_path, config, capsys
) -> None:
    def dataset(failures: int) -> FlakyDataset:
        flag = tmp_path / "flag"
        flag.write_bytes(bytes(failures))
        return FlakyDataset(CAPTIONS, flag, broken=BROKEN, missing=MISSING)

    run(tmp_path / "once", dataset=dataset(1))
    assert "is tried again: UnavailableError: the disk is gone" in capsys.readouterr().err
    assert contents(tmp_path / "once") == contents(whole)
    summary = run(tmp_path / "more", dataset=dataset(1000), retries=1)
    assert all("failed 2 times, last on tcp" in line for line in summary.left_out)
    assert 1 <= len(summary.left_out) <= 2, "where the image begins, and where it is in a lead"
    run(tmp_path / "more")
    assert contents(tmp_path / "more") == contents(whole)


def test_what_another_attempt_does_not_mend_ends_the_job_at_once(
    run, tmp_path, fake_encoders
) -> None:
    with pytest.raises(CacheError, match="--dtype float32"):
        run(tmp_path / "cache", build=fake_encoders(scale=1e6))
    assert not (tmp_path / "cache/shards").exists()


@pytest.mark.parametrize(
    ("error", "passes", "of_device"),
    [
        (OSError(28, "No space left on device"), True, False),
        (TimeoutError("slow"), True, False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True, True),
        (torch.OutOfMemoryError("CUDA out of memory"), False, False),
        (CacheError("a value does not fit float16"), False, False),
        (ValueError("an encoder's own"), False, False),
    ],
)
def test_errors_of_disks_networks_and_gpus_may_pass(error, passes, of_device) -> None:
    assert (may_pass(error), is_of_device(error)) == (passes, of_device)
    wrapped = SparcError("in other words")
    wrapped.__cause__ = error
    assert may_pass(wrapped) is passes


def test_an_empty_cluster_is_an_error_after_a_while_and_a_lost_scheduler_at_once(
    run, tmp_path, fake_encoders, monkeypatch, capsys
) -> None:
    location = tmp_path / "cache"
    with started(workers=0) as empty, pytest.raises(SparcError, match=r"had no worker for 1 s:"):
        run(location, scheduler=empty.scheduler_address, workers_timeout=1)
    assert "has no worker: waiting 1 s for one" in capsys.readouterr().err
    with ThreadPoolExecutor(1) as threads:
        with started(workers=1) as one:
            running = threads.submit(
                run, location, scheduler=one.scheduler_address, build=fake_encoders(delay=0.05)
            )
            while not list(location.glob("activations.zarr/*/valid/c/*")):
                time.sleep(0.01)
        with pytest.raises(SchedulerLostError, match="run the same command again"):
            running.result(60)
    monkeypatch.setattr(connection, "_CONNECT_SECONDS", 0.2)
    with pytest.raises(SparcError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        run(location, scheduler="tcp://127.0.0.1:9")


def test_workers_that_all_die_while_they_load_are_waited_for_as_long_as_none(
    run, tmp_path, fake_encoders, monkeypatch, capsys
) -> None:
    """They are there again and again, since their nannies start them."""
    monkeypatch.setattr(pool, "_SILENT_SECONDS", 0.0)
    location, flag = tmp_path / "cache", tmp_path / "flag"
    build = DeadlyToLoad(flag=flag, delay=0.05)
    with (
        ThreadPoolExecutor(1) as threads,
        started(workers=1) as one,
        distributed.Client(one, set_as_default=False) as client,
    ):
        running = threads.submit(
            run, location, scheduler=one.scheduler_address, build=build, workers_timeout=3
        )
        while not list(location.glob("activations.zarr/*/valid/c/*")):
            time.sleep(0.01)
        flag.touch()
        os.kill(pids(client)[0], signal.SIGKILL)
        with pytest.raises(SparcError, match=r"has had no worker.* for 3 s"):
            running.result(60)
    assert "still waiting for 1 worker, tcp" in capsys.readouterr().err


def test_what_dask_leaves_of_a_lost_result_is_not_logged(caplog) -> None:
    with connection._without_tracebacks():
        logging.getLogger("asyncio").error("never retrieved", exc_info=distributed.client.AllExit())
        logging.getLogger("asyncio").error("never retrieved", exc_info=ValueError("ours"))
    assert [str(record.exc_info[1]) for record in caplog.records] == ["ours"]


# ---------------------------------------------------------------------- who is refused


def test_another_timm_is_refused_by_name_also_where_it_joins_later(
    run, whole, tmp_path, cluster, monkeypatch
) -> None:
    import timm

    info = tmp_path / "site" / "timm-0.0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: timm\nVersion: 0.0.1\n")
    preload = f"import sys; sys.path.insert(0, {str(info.parent)!r})"

    async def begin(address: str):
        return await distributed.Nanny(address, preload=[preload], nthreads=1, name="old", **HERE)

    with started(workers=0) as other:
        nanny = other.sync(begin, other.scheduler_address)
        with pytest.raises(
            WorkerError,
            match=r"worker old \(tcp\S+\) has timm 0\.0\.1, this command timm "
            rf"{timm.__version__}, .*pip install timm=={timm.__version__}",
        ):
            run(tmp_path / "cache", scheduler=other.scheduler_address)
        other.sync(nanny.close)
    location, flag, said = tmp_path / "cache", tmp_path / "flag", []
    monkeypatch.setattr(pool, "say", said.append)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(run, location, build=WaitingEncoders(flag=flag))
        _wait_for("ready", said)
        nanny = cluster.sync(begin, cluster.scheduler_address)
        left_out = _wait_for("it is left out", said)
        flag.touch()
        running.result(120)
        cluster.sync(nanny.close)
    assert "has timm 0.0.1" in left_out
    assert contents(location) == contents(whole)


def _wait_for(words: str, said: list[str]) -> str:
    """The line with these words, once it is there."""
    until = time.monotonic() + 60
    while not (lines := [line for line in said if words in line]):
        assert time.monotonic() < until, said
        time.sleep(0.01)
    return lines[0]


def test_workers_with_other_weights_or_another_folder_are_refused(
    run, tmp_path, fake_encoders, client, monkeypatch
) -> None:
    with pytest.raises(WorkerError, match="sees other rows in the dataset"):
        run(tmp_path / "rows", dataset=Elsewhere(CAPTIONS))
    url = f"memory://cluster-{os.getpid()}/cache"
    with pytest.raises(WorkerError, match="is not seen there: give the cache's folder by a path"):
        run(url)
    with pytest.raises(WorkerError, match=r"stream a in another way .*\(weights_sha256: "):
        run(tmp_path / "weights", build=OwnWeights())


def inspection(**changes) -> Inspection:
    plain = Inspection(
        name="w", versions={"torch": "2"}, host="h", cores=4, threads=1, device="cuda:0", gpu="G",
        resources=(),
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


def test_a_worker_has_one_thread_and_a_gpu_of_its_own() -> None:
    def check(mine: Inspection, **others: Inspection) -> None:
        check_inspection("w", mine, {"torch": "2"}, others, "tcp://host:8786")

    check(inspection(), other=inspection(gpu="another"), far=inspection(host="another"))
    check(inspection(gpu="", device="cpu", threads=8))
    with pytest.raises(WorkerError, match=r"4 threads for one GPU: .*`dask cuda worker tcp://host"):
        check(inspection(threads=4))
    with pytest.raises(WorkerError, match="uses the same GPU as worker other"):
        check(inspection(), other=inspection())
    with pytest.raises(WorkerError, match=r"has torch \(none\) and timm 1, this command torch 2"):
        check_inspection("w", inspection(versions={"timm": "1"}), {"torch": "2"}, {}, "tcp://h:1")


def test_a_worker_whose_job_has_ended_writes_nothing(
    whole, tmp_path, config, fake_encoders, fake_dataset
):
    location = tmp_path / "cache"
    shutil.copytree(whole, location)
    folder = Folder(location)
    dataset = fake_dataset(CAPTIONS, broken=BROKEN, missing=MISSING)
    own = Job(
        token="mine", dataset=dataset, cache=str(location), config=config, build=fake_encoders()
    )
    equipment = Equipment(own, torch.device("cpu"), threads=1, loaders=1)
    order = Order(3, ("a", "t"), pictured=True)
    announce(folder, "mine")
    checksums = [made.checksums for made in equipment.make(order).streams]
    announce(folder, "another")
    assert not is_announced(folder, "mine")
    before = contents(location)
    with pytest.raises(CacheError, match="no longer written by this job"):
        equipment.make(order)
    withdraw(folder)
    with pytest.raises(CacheError, match="no longer written by this job"):
        equipment.make(order)
    equipment.close()
    assert contents(location) == {k: v for k, v in before.items() if not k.startswith("shards/")}
    assert len(checksums) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scheduler": "host:8786"}, "scheduler must be local or a cluster's address"),
        ({"scheduler": "tcp://h:1", "shard": "1/2"}, "--scheduler or --shard, not both"),
        ({"scheduler": "tcp://h:1", "n_workers": 2}, "of --scheduler local"),
        ({"scheduler": "tcp://h:1", "devices": "all"}, "each worker of a cluster has one device"),
        ({"scheduler": "tcp://h:1", "device": "cuda:1"}, "has one device"),
        ({"scheduler": "tcp://h:1", "retries": -1}, "retries"),
        ({"scheduler": "tcp://h:1", "workers_timeout": 0}, "workers_timeout must be above 0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, message) -> None:
    with pytest.raises(ConfigError, match=message):
        ExtractConfig(streams=("a=timm:a",), **changes)


def test_without_distributed_the_way_out_is_said(run, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    for name in [name for name in sys.modules if name.startswith("sparc.extract.cluster.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SparcError, match="pip install distributed"):
        run(tmp_path / "cache")


# ---------------------------------------------------------------------- as a command


def test_the_command_starts_workers_and_names_what_was_left_out(
    cluster, tmp_path, tiny_streams, call, monkeypatch
) -> None:
    """A dataset and a cache named by relative paths, from a folder that is not the workers'."""
    monkeypatch.chdir(tmp_path)
    write_scenes(Path("scenes"), SceneSettings(train=1, test=12))
    options = (tiny_streams[0], "--format=coco", "--split=test", "--rows-per-chunk=8")
    plain = call("extract", "run", "scenes", "whole", *options, "--device=cpu")
    assert plain.returncode == 0, plain.stderr
    local = ("--scheduler=local", "--n-workers=2", "--device=cpu")
    made = call("extract", "run", "scenes", "cache", *options, *local)
    assert made.returncode == 0, made.stderr
    assert "2 workers ready" in made.stderr
    assert contents(Path("cache")) == contents(Path("whole"))
