"""Caches on a real S3 server: under faults, with two writers, killed and asleep."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.stored import StoredStreams
from sparc.common.cache.verify import verify
from sparc.common.errors import DamagedCacheError, LockedError
from sparc.common.files.folder import Folder
from sparc.common.files.remote import filesystems
from sparc.common.files.remote.lease import SECONDS_VARIABLE
from sparc.extract import job
from sparc.extract.config import ExtractConfig

CAPTIONS = [
    [None] if i == 7 else [f"image {i} caption {j}" + "x" * (i % 9) for j in range(1 + i % 4)]
    for i in range(12)
]
BROKEN, MISSING = (2, 9), (3,)
SUPPORT = Path(__file__).parents[1] / "support"
DRIVER = """
import os, sys
sys.path.insert(0, {tests!r})
from fakes import FakeDataset, FakeEncoders, STREAMS
from sparc.extract import job
from sparc.extract.config import ExtractConfig

captions, broken, missing = {dataset!r}
for line in sys.stdin:  # each starts a process
    child = os.fork()
    if not child:
        config = ExtractConfig(streams=STREAMS, rows_per_chunk=4, batch_size=4, workers=2)
        dataset = FakeDataset(captions, broken=broken, missing=missing)
        job.run(dataset, sys.argv[1], config, build=FakeEncoders(delay=0.5))
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


def contents(where: str | Path) -> dict[str, str]:
    folder = Folder(where)
    return {name: hashlib.sha256(folder.read(name)).hexdigest() for name in folder.files()}


@pytest.fixture(scope="module")
def run(fake_dataset, fake_encoders, fake_streams):
    def run_one(location, *, captions=CAPTIONS, **changes):
        config = ExtractConfig(
            streams=fake_streams, rows_per_chunk=4, batch_size=4, workers=2, **changes
        )
        dataset = fake_dataset(captions, broken=BROKEN, missing=MISSING)
        return job.run(dataset, location, config, build=fake_encoders())

    return run_one


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory) -> Path:
    """The cache that one command makes on a disk."""
    location = tmp_path_factory.mktemp("whole") / "cache"
    run(location)
    return location


@pytest.mark.slow
def test_shards_under_faults_leave_what_one_command_leaves(
    run, whole, bucket, object_store
) -> None:
    url = f"{bucket}/cache"
    shares = {"dropped": 0.02, "lost": 0.02, "truncated": 0.02, "short": 0.02, "failed": 0.01}
    with object_store.faults(**shares, seed=4, at_most=16):
        run(url, shard="2/2")
        run(url, shard="1/2")  # which gathers
        assert list(verify(ActivationCache(url))) == []
        assert len(object_store.seen().faults) == len(shares)
    assert contents(url) == contents(whole)


@pytest.fixture(scope="module")
def remote(run, object_store):
    """A cache behind a URL, and what requests it took."""
    with object_store.counting() as counts:
        cache = run(f"{object_store.bucket()}/cache").cache
    return cache, counts


def test_requests_grow_with_the_chunks_and_listings_do_not(
    run, remote, bucket, object_store
) -> None:
    with object_store.counting() as fewer:
        smaller = run(f"{bucket}/cache", captions=CAPTIONS[:5]).cache
    counts = (fewer, remote[1])
    further = remote[0].info.chunks - smaller.info.chunks
    assert further >= 3
    assert counts[0]["LIST"] == counts[1]["LIST"]
    # Three streams of two objects each, thumbnails, cut captions, and rejects of each stream.
    assert counts[1]["PUT"] - counts[0]["PUT"] <= further * (3 * 2 + 1 + 1 + 3)
    assert counts[1].total() - counts[0].total() <= further * 28


def test_a_chunk_that_is_spoilt_on_the_way_is_read_again(remote, monkeypatch) -> None:
    cache, read_whole, spoilt = remote[0], filesystems.read_whole, []
    features = cache.features("a", 1)

    def spoil(filesystem, path: str) -> bytes:
        content = read_whole(filesystem, path)
        if path.endswith("a/features/c/1/0") and len(spoilt) < most:
            spoilt.append(path)
            return content[:-1] + bytes([content[-1] ^ 1])
        return content

    monkeypatch.setattr(filesystems, "read_whole", spoil)
    most = 1
    stored = StoredStreams(cache.folder, cache.info)
    assert (stored.read("a", "features", 1) == features).all()
    assert len(spoilt) == 1
    most = 100
    with pytest.raises(DamagedCacheError, match="chunk 1 of a/features"):
        stored.read("a", "features", 1)


@pytest.mark.slow
def test_of_two_writers_one_waits_for_the_death_of_the_other(
    run, whole, bucket, monkeypatch
) -> None:
    """The first is killed with SIGKILL; the second sleeps for longer than its lease, and wakes."""
    monkeypatch.setenv(SECONDS_VARIABLE, "2")
    url = f"{bucket}/cache"
    folder = Folder(url)
    given = {"tests": str(SUPPORT), "dataset": (CAPTIONS, BROKEN, MISSING)}
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER.format(**given), url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )

    def written() -> int:
        return len(folder.files("activations.zarr"))

    def start() -> int:
        """Start a writer, and wait until it has written a chunk."""
        before = written()
        driver.stdin.write("\n")
        driver.stdin.flush()
        writer = int(driver.stdout.readline())
        while written() <= max(before, 3 * 3 + 1):
            time.sleep(0.02)
        return writer

    with driver:
        first = start()
        with pytest.raises(LockedError, match=f"is being written by process {first} on"):
            run(url)
        os.kill(first, signal.SIGKILL)
        assert driver.stdout.readline() == f"{signal.SIGKILL.value}\n"
        second = start()
        os.kill(second, signal.SIGSTOP)
        assert run(url).encoded_rows > 0, "it takes over, and finishes"
        os.kill(second, signal.SIGCONT)
        assert driver.stdout.readline() == "256\n"  # exit status 1
        driver.stdin.close()
        said = driver.stderr.read()
    assert f"was being written by process {first} on" in said
    assert "LockedError" in said
    assert "is not held by this process any more" in said
    assert contents(url) == contents(whole)
