"""Several commands that make one cache, each a shard of its chunks."""

import dataclasses
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fakes import contents
from hypothesis import given
from hypothesis import strategies as st

from sparc.common.cache.info import AGREEMENT_FILE
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.shards.agreement import Agreement, read_agreement, record
from sparc.common.cache.shards.finish import finish
from sparc.common.cache.shards.locks import hold
from sparc.common.cache.shards.shard import Shard
from sparc.common.cache.shards.status import describe_shards
from sparc.common.cache.verify import verify
from sparc.common.documents import seal, unseal
from sparc.common.errors import CacheError, ConfigError, IncompleteCacheError, LockedError
from sparc.common.files.folder import Folder
from sparc.extract import job
from sparc.extract.config import ExtractConfig

CAPTIONS = [
    [None] if i % 11 == 7 else [f"image {i} caption {j}" + "x" * (i % 9) for j in range(1 + i % 4)]
    for i in range(37)
]
"""Runs of one to four captions: with ten rows a chunk, several runs cross a boundary."""

BROKEN, MISSING = (2, 9, 20), (3, 36)
LONG = [[f"image {i} caption {j}" for j in range(23 if i in (2, 5) else 2)] for i in range(9)]
"""Images whose rows go through whole chunks; one of them is broken."""


@pytest.fixture(scope="module")
def config(fake_streams) -> ExtractConfig:
    return ExtractConfig(streams=fake_streams, rows_per_chunk=10, batch_size=4, workers=2)


@pytest.fixture(scope="module")
def run(fake_dataset, fake_encoders, config):
    def run_one(location, shard: str = "", *, captions=CAPTIONS, **changes):
        dataset = fake_dataset(captions, broken=BROKEN, missing=MISSING)
        build = changes.pop("build", None) or fake_encoders()
        changed = dataclasses.replace(config, shard=shard, **changes)
        return job.run(dataset, location, changed, build=build)

    return run_one


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory) -> Path:
    """The cache that one command makes."""
    location = tmp_path_factory.mktemp("whole") / "cache"
    run(location)
    return location


# ---------------------------------------------------------------------- the division


@given(total=st.integers(0, 500), count=st.integers(1, 600))
def test_shards_are_disjoint_and_complete_and_even(total: int, count: int) -> None:
    shares = [Shard(count, number).chunks(total) for number in range(1, count + 1)]
    assert list(itertools.chain.from_iterable(shares)) == list(range(total))
    assert {len(share) - total // count for share in shares} <= {0, 1}
    for number, share in enumerate(shares, start=1):
        owners = {Shard.of_chunk(chunk, count=count, total=total) for chunk in share}
        assert owners <= {Shard(count, number)}


def test_what_is_left_of_more_shards_than_chunks_is_said_at_once(run, tmp_path) -> None:
    count = 10**9 - 1
    summary = run(tmp_path / "cache", f"{count}/{count}")
    assert summary.unfinished[-1].startswith("left ")


@pytest.mark.parametrize(
    "text", ["0/4", "5/4", "1", "1/0", "a/b", "-1/2", "1/2/3", " 1/2", "1.5/2"]
)
def test_what_names_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="shard"):
        ExtractConfig(streams=("a=timm:a",), shard=text)


# ---------------------------------------------------------------------- the bytes


@pytest.mark.parametrize("count", [1, 3, 13])
def test_shards_in_any_order_leave_what_one_command_leaves(run, whole, tmp_path, count) -> None:
    order = list(range(1, count + 1))
    random.Random(count).shuffle(order)
    *_, last = [run(tmp_path / "cache", f"{number}/{count}") for number in order]
    assert last.unfinished == ()
    assert contents(tmp_path / "cache") == contents(whole)


def test_shards_at_once_leave_what_one_command_leaves(run, whole, tmp_path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = pool.map(lambda n: run(tmp_path / "cache", f"{n}/4"), range(1, 5))
        unfinished = [summary.unfinished for summary in made]
    assert () in unfinished, "the last of them gathers"
    assert contents(tmp_path / "cache") == contents(whole)


@pytest.mark.parametrize("count", [3, 5])
def test_an_image_that_goes_on_in_another_shard_has_one_feature(run, tmp_path, count) -> None:
    """Also where it goes through all of a shard, and where it cannot be read."""
    run(tmp_path / "one", captions=LONG)
    for number in range(count, 0, -1):  # the chunk before is never there
        run(tmp_path / "many", f"{number}/{count}", captions=LONG)
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def test_a_division_may_change_between_runs_and_one_command_may_go_on(run, whole, tmp_path) -> None:
    location = tmp_path / "cache"
    run(location, "2/3")
    run(location, "1/4")
    assert not (location / "rejects.parquet").exists()
    run(location)
    assert contents(location) == contents(whole)


def test_streams_may_be_made_by_shards_one_after_the_other(run, whole, tmp_path) -> None:
    location = tmp_path / "cache"
    for streams in (("a=timm:a",), ("b=timm:b", "t=transformers:t")):
        for number in (2, 1):
            run(location, f"{number}/2", streams=streams)
    assert contents(location) == contents(whole)


DRIVER = """
import os, random, signal, sys
sys.path.insert(0, {tests!r})
from fakes import FakeDataset, FakeEncoders, STREAMS
from sparc.extract import job
from sparc.extract.config import ExtractConfig

captions, broken, missing = {dataset!r}
moments = random.Random(5)

class Deadly(FakeEncoders):
    # The system ends the process soon after the third batch of texts: while a chunk is written,
    # or in the second one.
    def __call__(self, specs, device):
        encoders = super().__call__(specs, device)
        encode, batches = encoders.texts["t"].encode, []
        def count(texts):
            batches.append(texts)
            if len(batches) == 3:
                signal.setitimer(signal.ITIMER_REAL, self.ends_after)
            return encode(texts)
        encoders.texts["t"].encode = count
        return encoders

def begin(shard, ends_after):
    if child := os.fork():
        return child
    config = ExtractConfig(streams=STREAMS, rows_per_chunk=10, batch_size=4, workers=2, shard=shard)
    dataset = FakeDataset(captions, broken=broken, missing=missing)
    build = Deadly(delay=0.01)
    build.ends_after = ends_after
    job.run(dataset, sys.argv[1], config, build=build)
    os._exit(0)

for line in sys.stdin:  # shards, each made in a process of its own
    children = [begin(shard, moments.uniform(0.001, 0.05)) for shard in line.split()]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    print(*codes, flush=True)
"""


def test_shards_that_are_killed_at_random_moments_are_run_again(run, whole, tmp_path) -> None:
    location = tmp_path / "cache"
    given = {
        "tests": str(Path(__file__).parents[1] / "support"),
        "dataset": (CAPTIONS, BROKEN, MISSING),
    }
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER.format(**given), str(location)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    with driver:
        for _ in range(4):
            driver.stdin.write("1/2 2/2\n")
            driver.stdin.flush()
            assert driver.stdout.readline().split() == [str(-signal.SIGALRM)] * 2
        driver.stdin.close()
    assert sum(run(location, f"{number}/2").encoded_rows for number in (1, 2))
    assert contents(location) == contents(whole)


# ---------------------------------------------------------------------- who is refused


def test_a_shard_that_is_at_work_is_not_begun_twice_and_nobody_gathers(
    run, whole, tmp_path, fake_encoders
) -> None:
    location = tmp_path / "cache"
    run(location, "2/2")
    folder = Folder(location)
    who = f"process {os.getpid()} on "
    with hold(folder, Shard(2, 1)):
        with pytest.raises(LockedError, match=rf"being written by shard 1/2 \({who}"):
            run(location, "1/2")
        with pytest.raises(LockedError, match="divide the work into 2 shards as well"):
            run(location, "1/3")
        for write in (lambda: run(location), lambda: run(location, repair=True)):
            with pytest.raises(LockedError, match="being written by shard 1/2"):
                write()
        with pytest.raises(LockedError, match="being written by shard 1/2"):
            finish(location)
        assert run(location, "2/2").unfinished == (
            "at work   1 shard, 1/2, which is being written now",
        )
        assert "at work" in "".join(describe_shards(ActivationCache(location)))
    assert list(describe_shards(ActivationCache(location))) == [
        "left      1 shard, 1/2, of which chunks are missing: run it"
    ]
    with pytest.raises(IncompleteCacheError, match=r"sparc-extract inspect \S+` names, then `spa"):
        finish(location)
    run(location, "1/2")
    assert list(describe_shards(ActivationCache(location))) == []
    assert contents(location) == contents(whole)


def test_whoever_begins_while_another_writes_disturbs_nothing(
    run, whole, tmp_path, fake_encoders
) -> None:
    """A second shard begins in the midst of the first one's chunk: rejects, no features yet."""
    location, begun, go_on = tmp_path / "cache", threading.Event(), threading.Event()

    class Waiting(fake_encoders):
        def __call__(self, specs, device):
            encoders = super().__call__(specs, device)
            encode = encoders.texts["t"].encode

            def wait(captions):
                begun.set()
                assert go_on.wait(60)
                return encode(captions)

            encoders.texts["t"].encode = wait
            return encoders

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(run, location, "1/2", build=Waiting())
        assert begun.wait(60)
        try:
            partial = location / f"activations.zarr/a/features/c/0/0.{uuid.uuid4().hex}.partial"
            partial.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(b"being written")
            (location / "rejects").mkdir()
            (location / "rejects/a-00000000.parquet").write_bytes(b"being written")
            second = run(location, "2/2")
            assert partial.exists()
            assert (location / "rejects/a-00000000.parquet").read_bytes() == b"being written"
        finally:
            go_on.set()
        assert second.unfinished != ()
        assert second.encoded_rows == second.cache.info.rows - 40, "its own chunks alone"
        assert first.result(60).unfinished == ()
    assert contents(location) == contents(whole)


def test_another_timm_is_refused_by_name(run, tmp_path, monkeypatch) -> None:
    import timm

    location = tmp_path / "cache"
    run(location, "1/2")
    other = tmp_path / "site" / "timm-0.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: timm\nVersion: 0.0.1\n")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(other.parent))
        with pytest.raises(
            CacheError,
            match=rf"made with timm {timm.__version__}, .* with timm 0\.0\.1, .*"
            rf"pip install timm=={timm.__version__}",
        ):
            run(location, "2/2")
    run(location, "2/2")


def test_what_a_newer_version_agreed_on_is_not_called_damaged(tmp_path) -> None:
    agreement = Agreement(shards=2, thumbnails=None, versions={})
    record(Folder(tmp_path), agreement)
    assert read_agreement(Folder(tmp_path)) == agreement
    file = tmp_path / AGREEMENT_FILE
    file.write_bytes(seal({**unseal(file.read_bytes()), "colours": 3}))
    with pytest.raises(CacheError, match=r"'colours' is unknown .* was made by a newer one"):
        read_agreement(Folder(tmp_path))


def test_other_weights_and_other_thumbnails_are_refused(run, tmp_path, fake_encoders) -> None:
    location = tmp_path / "cache"
    run(location, "1/2")
    with pytest.raises(CacheError, match="give --thumbnails 96"):
        run(location, "2/2", thumbnails=64)

    class Others(fake_encoders):
        def __call__(self, specs, device):
            encoders = super().__call__(specs, device)
            encoder = encoders.images["a"]
            encoder.origin = dataclasses.replace(encoder.origin, weights_sha256="0" * 64)
            return encoders

    with pytest.raises(CacheError, match="stream a was made in another way"):
        run(location, "2/2", build=Others())
    with pytest.raises(CacheError, match="batch_size"):
        run(location, "2/2", batch_size=2)


def test_a_shard_neither_removes_nor_repairs_the_whole(run, tmp_path, config) -> None:
    with pytest.raises(ConfigError, match="--repair checks the whole cache"):
        run(tmp_path / "cache", "1/2", repair=True)
    with pytest.raises(ConfigError, match="--overwrite removes what the other shards make"):
        job.run(None, tmp_path, dataclasses.replace(config, shard="1/2"), overwrite=True)


# ---------------------------------------------------------------------- behind a URL


def test_shards_meet_behind_a_url_as_well(run, whole) -> None:
    url = f"memory://shards-{uuid.uuid4().hex}/cache"
    run(url, "2/2")
    with hold(Folder(url), Shard(2, 1)), pytest.raises(LockedError, match="by shard 1/2"):
        run(url, "1/2")
    run(url, "1/2")
    folder = Folder(url)
    made = {name: folder.read(name) for name in folder.files()}
    assert made.keys() == contents(whole).keys()
    assert all(made[name] == (whole / name).read_bytes() for name in made)
    assert list(verify(ActivationCache(url))) == []


# ---------------------------------------------------------------------- what is lost


def test_finish_refuses_what_only_the_dataset_can_restore(run, whole, tmp_path, fake_encoders):
    location = tmp_path / "cache"
    run(location, "1/2")
    with hold(Folder(location), Shard(2, 1)):
        run(location, "2/2")
    (location / "captions_cut/t-00000000.json").unlink()
    with pytest.raises(CacheError, match=r"of 1 chunk were cut: run .* without --shard"):
        finish(location)
    run(location)
    assert contents(location) == contents(whole)
    finish(location)  # nothing is left to do
    assert contents(location) == contents(whole)
