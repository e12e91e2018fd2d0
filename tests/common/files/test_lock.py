import errno
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import uuid

import pytest

from sparc.common.errors import LockedError, SparcError, UnsafeError
from sparc.common.files.folder import Folder
from sparc.common.files.lock import LOCK_FILE, exclusive, further_lock, holder_of

HOLDER = """
import sys, time
from sparc.common.files.lock import exclusive
from sparc.common.files.folder import Folder
with exclusive(Folder(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_told_who_holds_it_and_a_dead_holder_is_no_obstacle(tmp_path) -> None:
    folder = Folder(tmp_path / "new" / "cache")
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    message = f"{folder} is being written by process {process.pid} on {socket.gethostname()}"
    with pytest.raises(LockedError, match=re.escape(message)), exclusive(folder):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (folder.local / LOCK_FILE).exists()
    with exclusive(folder):
        assert str(os.getpid()) in (folder.local / LOCK_FILE).read_text()
    assert folder.files() == []


def test_the_lock_is_freed_by_an_error(tmp_path) -> None:
    with pytest.raises(ZeroDivisionError), exclusive(Folder(tmp_path)):
        1 / 0  # noqa: B018
    with exclusive(Folder(tmp_path)):
        pass


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path, monkeypatch) -> None:
    def refuse(*_arguments: object) -> int:  # whoever runs the tests may be allowed everything
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    message = f"cannot write to {tmp_path}: Read-only file system; choose another"
    with pytest.raises(SparcError, match=re.escape(message)), exclusive(Folder(tmp_path)):
        pass


def test_a_link_in_the_place_of_the_lock_destroys_nothing(tmp_path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("years of work")
    for number, place in enumerate((os.symlink, os.link)):
        folder = tmp_path / str(number)
        folder.mkdir()
        place(precious, folder / ".lock")
        with pytest.raises(UnsafeError, match=r"\.lock is"), exclusive(Folder(folder)):
            pass
        assert precious.read_text() == "years of work"
        assert os.path.lexists(folder / ".lock")


@pytest.mark.parametrize("content", ["aptitude", "{}", "x" * 10_000])
def test_a_file_of_that_name_that_is_no_lock_stays(tmp_path, content) -> None:
    (tmp_path / ".lock").write_text(content)
    with pytest.raises(UnsafeError, match="is not a lock of SPARC"), exclusive(Folder(tmp_path)):
        pass
    assert (tmp_path / ".lock").read_text() == content


@pytest.mark.parametrize("written", [0, 3, 15])
def test_what_a_killed_process_wrote_of_a_lock_is_no_obstacle(tmp_path, written) -> None:
    with exclusive(Folder(tmp_path)):
        whole = (tmp_path / ".lock").read_bytes()
    (tmp_path / ".lock").write_bytes(whole[:written])
    with exclusive(Folder(tmp_path)):
        assert (tmp_path / ".lock").read_bytes() == whole
    assert not (tmp_path / ".lock").exists()


def test_a_pipe_in_the_place_of_the_lock_is_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(UnsafeError, match="not a regular file"), exclusive(Folder(tmp_path)):
        pass


def test_a_folder_that_is_not_recognized_is_not_touched(tmp_path) -> None:
    def refuse(folder: Folder) -> None:
        raise SparcError("not ours")

    with pytest.raises(SparcError, match="not ours"), exclusive(Folder(tmp_path), refuse):
        pass
    assert not list(tmp_path.iterdir())


def test_who_is_patient_waits_until_the_holder_lets_go(tmp_path) -> None:
    folder, has_begun, may_end = Folder(tmp_path), threading.Event(), threading.Event()

    def hold() -> None:
        with exclusive(folder):
            has_begun.set()
            may_end.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert has_begun.wait(60)
    with pytest.raises(LockedError), exclusive(folder, patience=0.2):
        pass
    threading.Timer(0.2, may_end.set).start()
    with exclusive(folder, patience=60):
        assert may_end.is_set()
    holder.join()


@pytest.mark.parametrize("place", ["local", "memory"])
def test_a_further_lock_is_held_beside_that_of_the_folder(tmp_path, place) -> None:
    folder = Folder(tmp_path if place == "local" else f"memory://{uuid.uuid4().hex}/cache")
    name, who = "parts/1.lock", f"process {os.getpid()} on {socket.gethostname()}"
    assert holder_of(folder, name) is None
    with further_lock(folder, name, "part 1"):
        assert holder_of(folder, name) == who
        with exclusive(folder), further_lock(folder, "parts/2.lock", "part 2"):
            pass
        with (
            pytest.raises(LockedError, match=rf"^part 1 is being written by {who}"),
            further_lock(folder, name, "part 1"),
        ):
            pass
    assert holder_of(folder, name) is None
    assert folder.files() == []


def test_the_lock_of_a_dead_process_has_no_holder_on_a_disk(tmp_path) -> None:
    (tmp_path / "1.lock").write_text('{"pid": 1, "host": "elsewhere"}')
    assert holder_of(Folder(tmp_path), "1.lock") is None
