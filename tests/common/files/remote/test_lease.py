"""Locks behind URLs: between processes, on a real S3 server, and in stores without conditions."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sparc.common.cache.shards.locks import refuse_others
from sparc.common.cache.shards.shard import Shard
from sparc.common.errors import LockedError, UnsafeError
from sparc.common.files.folder import Folder
from sparc.common.files.lock import LOCK_FILE, exclusive, further_lock, holder_of
from sparc.common.files.remote import lease
from sparc.common.files.remote.lease import SECONDS_VARIABLE

HOLDER = """
import sys
from sparc.common.errors import LockedError
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive
folder = Folder(sys.argv[1])
with exclusive(folder):
    print("held", flush=True)
    for line in sys.stdin:
        try:
            folder.write("a", line.strip().encode())
            print("written", flush=True)
        except LockedError as error:
            print(error, flush=True)
"""
DEAD = {"pid": 1, "host": "elsewhere", "token": "t", "lease": 1, "renewal": 3}


@pytest.fixture(autouse=True)
def short_lease(monkeypatch) -> None:
    monkeypatch.setenv(SECONDS_VARIABLE, "1")


@pytest.fixture
def memory() -> Folder:
    return Folder(f"memory://{uuid.uuid4().hex}/cache")


class Holder:
    """A process that holds a folder's lock and writes a file of it when asked."""

    def __init__(self, folder: Folder) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "held\n"
        self.name = f"process {self.process.pid} on {socket.gethostname()}"

    def write(self, content: str) -> str:
        self.process.stdin.write(f"{content}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self.process.send_signal(signal.SIGSTOP)
        yield
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def test_a_lock_outlives_neither_its_process_nor_its_sleep(bucket) -> None:
    folder = Folder(f"{bucket}/cache")
    holder = Holder(folder)
    message = rf"^{folder} is being written by {holder.name}; wait for it, or end it: .* 1 s after"
    with pytest.raises(LockedError, match=message), exclusive(folder):
        pass
    with holder.stopped():
        time.sleep(1.6)
    assert holder.write("one") == "written", "nobody took the lock while the process was stopped"
    with holder.stopped():
        with exclusive(folder):  # once the lease has run out
            folder.write("a", b"two")
        assert folder.files() == ["a"]
    lost = holder.write("three")
    assert lost.startswith(f"{folder} is not held by this process any more: its lock was removed")
    assert folder.read("a") == b"two"
    holder.kill()
    killed = Holder(folder)
    killed.kill()
    assert holder_of(folder, LOCK_FILE) == killed.name
    assert holder_of(folder, LOCK_FILE, wait=True) is None
    with exclusive(folder):
        assert folder.read("a") == b"two"
        assert holder_of(folder, LOCK_FILE) == f"process {os.getpid()} on {socket.gethostname()}"
    assert folder.files() == ["a"]


@pytest.mark.parametrize("store", ["memory", "s3"])
def test_who_lost_its_lock_writes_nothing_and_leaves_that_of_the_other(store, request) -> None:
    if store == "memory":
        folder = request.getfixturevalue("memory")
    else:
        folder = Folder(f"{request.getfixturevalue('bucket')}/cache")
    below = folder.below("runs/1")
    others = json.dumps(DEAD).encode()
    with exclusive(folder):
        below.write("a", b"1")
        refusal = f"written by process {os.getpid()}"
        with pytest.raises(LockedError, match=refusal), exclusive(folder):
            pass
        folder.remote._filesystem.pipe_file(folder.path(LOCK_FILE), others)
        time.sleep(0.6)
        for change in (
            lambda: below.write("a", b"2"),
            lambda: below.remove("a"),
            lambda: folder.remove_files(["runs/1/a", "b"]),
        ):
            with pytest.raises(LockedError, match="taken over by process 1 on elsewhere"):
                change()
    assert below.read("a") == b"1"
    assert folder.read(LOCK_FILE) == others
    with exclusive(folder):
        below.write("a", b"2")


def test_a_lock_that_another_took_while_its_removal_was_not_answered_stays(
    memory, monkeypatch
) -> None:
    others = json.dumps(DEAD).encode()
    filesystem = memory.remote._filesystem
    remove = filesystem.rm_file

    def out_of_reach(path: str) -> None:
        monkeypatch.setattr(filesystem, "rm_file", remove)
        filesystem.pipe_file(path, others)
        later = lease.now() + 2
        monkeypatch.setattr(lease, "now", lambda: later)
        raise ConnectionError("out of reach")

    monkeypatch.setattr(filesystem, "rm_file", out_of_reach)
    with exclusive(memory):
        pass
    assert memory.read(LOCK_FILE) == others


def test_of_many_that_find_a_dead_lock_one_alone_holds_it_at_a_time(bucket, object_store) -> None:
    """Answers are lost meanwhile: a request that succeeded is asked again, and then refused.

    On a busy machine a holder may sleep beyond its lease, and another takes the lock. Then its
    next write is refused, and it takes the lock once more.
    """
    folder = Folder(f"{bucket}/cache")
    folder.write("shards/1.lock", json.dumps(DEAD).encode())
    seen_by: dict[bytes, bytes] = {}

    def take(name: bytes) -> None:
        own = Folder(f"{bucket}/cache")
        with further_lock(own, "shards/1.lock", "shard 1"):
            own.write("turn", name)
            time.sleep(0.1)  # less than until a renewal, which would see that another holds it
            seen = own.read("turn")
            own.write("written", name)  # so the lock was held until after "turn" was read
            seen_by[name] = seen

    def try_until_taken(name: bytes) -> None:
        while name not in seen_by:
            try:
                take(name)
            except LockedError:
                time.sleep(0.05)

    names = [b"1", b"2", b"3", b"4"]
    with object_store.faults(lost=0.25, only=r"^(PUT|DELETE) .*\.lock$", seed=8):
        threads = [threading.Thread(target=try_until_taken, args=[name]) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert object_store.seen().faults["lost"] > 0
    assert seen_by == {name: name for name in names}
    assert holder_of(folder, "shards/1.lock", wait=True) is None


def test_a_lock_that_is_slow_to_be_let_go_does_not_stop_what_another_covers(
    memory, monkeypatch
) -> None:
    """Of one process: it has lost nothing while it removes a lock that it needs no more."""
    removing, go = threading.Event(), threading.Event()
    filesystem = memory.remote._filesystem
    remove = filesystem.rm_file

    def slowly(path: str) -> None:
        if path.endswith("1.lock"):
            removing.set()
            assert go.wait(60)
        remove(path)

    monkeypatch.setattr(filesystem, "rm_file", slowly)

    def hold_for_a_moment() -> None:
        with further_lock(memory, "shards/1.lock", "shard 1"):
            pass

    with further_lock(memory, "shards/2.lock", "shard 2"):
        thread = threading.Thread(target=hold_for_a_moment)
        thread.start()
        assert removing.wait(60)
        later = lease.now() + 1  # the lease of the first has run out
        monkeypatch.setattr(lease, "now", lambda: later)
        writer = threading.Thread(target=memory.write, args=["a", b"1"], daemon=True)
        writer.start()
        writer.join(20)
        assert not writer.is_alive()
        go.set()
        thread.join()
    assert memory.read("a") == b"1"


def test_shards_that_all_died_are_waited_for_at_a_time(memory) -> None:
    """A store that does not say how old a lock is: each has to be watched for its lease."""
    for number in range(1, 9):
        memory.write(f"shards/{number}-of-8.lock", json.dumps(DEAD).encode())
    began = time.monotonic()
    assert refuse_others(memory, Shard(1, 9))
    assert time.monotonic() - began < 8 * DEAD["lease"]


def test_a_lock_of_an_earlier_version_is_for_a_person_to_remove(memory) -> None:
    memory.write(LOCK_FILE, b'{"pid": 7, "host": "elsewhere"}')
    message = r"process 7 on elsewhere; if that process is dead, remove memory://.*/\.lock$"
    with pytest.raises(LockedError, match=message), exclusive(memory):
        pass
    assert holder_of(memory, LOCK_FILE) == "process 7 on elsewhere"


@pytest.mark.parametrize("content", [b"aptitude", b"{}", b'{"pid": 1, "host": 2, "lease": "x"}'])
def test_a_file_of_that_name_that_is_no_lock_stays(memory, content) -> None:
    memory.write(LOCK_FILE, content)
    with pytest.raises(UnsafeError, match="is not a lock of SPARC"), exclusive(memory):
        pass
    assert memory.read(LOCK_FILE) == content


def test_who_is_patient_gets_a_lock_that_is_let_go(memory) -> None:
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with exclusive(memory):
            held.set()
            go.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    threading.Timer(1.5, go.set).start()  # longer than its lease, which is renewed
    with exclusive(memory, patience=60):
        assert go.is_set()
    thread.join()


def test_a_lease_is_within_bounds(monkeypatch) -> None:
    for text, seconds in (("", 60), ("x", 60), ("0", 1), ("90", 90), ("1e9", 3600), ("nan", 60)):
        monkeypatch.setenv(SECONDS_VARIABLE, text)
        assert lease.lease_seconds() == seconds, text
