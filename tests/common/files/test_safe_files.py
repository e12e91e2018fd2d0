"""Regular files alone are opened, and nothing outside a folder."""

import os
import socket
from pathlib import Path

import pytest

from sparc.common.errors import UnsafeError
from sparc.common.files.folder import Folder
from sparc.common.files.safe_files import inside, open_regular


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder with one of each kind of file that no artefact holds, and a secret beside it."""
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    (folder / "file").write_text("content")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "loop").symlink_to("loop")
    (folder / "device").symlink_to("/dev/zero")
    (folder / "out").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(folder / "socket"))
    return folder


@pytest.mark.parametrize("name", ["link", "loop", "device", "below", "pipe", "socket"])
def test_what_is_no_regular_file_is_refused(odd, name) -> None:
    with pytest.raises(UnsafeError, match=f"{name} is (a link|not a regular file)"):
        open_regular(odd / name)
    with pytest.raises(UnsafeError, match=r"is (a link|not a regular file)"):
        Folder(odd).read(name)


@pytest.mark.parametrize("name", ["../secret", "out/secret", "/etc/passwd", "below/../../x", "a\0"])
def test_no_name_leads_out_of_a_folder(odd, name) -> None:
    folder = Folder(odd)
    for act in (
        folder.read,
        folder.exists,
        folder.files,
        folder.remove,
        lambda name: folder.write(name, b"mine"),
        lambda name: inside(odd, name),
    ):
        with pytest.raises(UnsafeError):
            act(name)
    assert (odd.parent / "secret").read_text() == "secret"


def test_the_folder_that_was_typed_may_be_a_link(odd) -> None:
    (odd.parent / "typed").symlink_to(odd)
    assert Folder(odd.parent / "typed").read("file") == b"content"


def test_a_longer_file_than_expected_is_not_read(odd) -> None:
    with (odd / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UnsafeError, match="more than the 33"):
        Folder(odd).read("sparse")


def test_removing_a_link_leaves_what_it_leads_to(odd) -> None:
    folder = Folder(odd)
    for name in ("link", "out", "pipe", "below"):
        folder.remove(name)
        assert not os.path.lexists(odd / name)
    assert (odd.parent / "secret").read_text() == "secret"
