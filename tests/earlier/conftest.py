"""What earlier versions wrote, unpacked for one test."""

import tarfile
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """Artefacts of version 0.1.0; the report is of version 2 of the format."""
    return unpack("version-0.1.0.tar.xz", tmp_path)


@pytest.fixture
def version_3(tmp_path: Path) -> Path:
    """`report` and `interrupted`, of version 3 of the format (commit 609c932).

    They are on the run and the cache of version 0.1.0. `interrupted`, without permuted and
    untrained controls, has all its pieces and no table.
    """
    return unpack("report-version-3.tar.xz", tmp_path / "version-3")


def unpack(archive: str, where: Path) -> Path:
    with tarfile.open(FOLDER / archive) as opened:
        opened.extractall(where, filter="data")
    return where
