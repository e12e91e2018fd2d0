"""What version 0.1.0 wrote, unpacked for one test."""

import tarfile
from pathlib import Path

import pytest

ARCHIVE = Path(__file__).parent / "version-0.1.0.tar.xz"


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path
