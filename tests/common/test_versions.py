"""The name that is installed by, and the versions that artefacts record."""

import importlib.metadata
import platform
import re
import tomllib
from pathlib import Path

import pytest

from sparc.common.versions import DISTRIBUTION, software_versions

ROOT = Path(__file__).parents[2]
ADVICE = re.compile(r"pip install (?:-\S+ )*['\"]?sparc(?![-\w])|\bsparc\[\w+[\],]")
"""Text that would install another's package: the index has one that is called `sparc`."""


def test_the_distribution_is_the_one_that_is_installed_and_versions_name_it_sparc():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == DISTRIBUTION == "sparc-sae"
    versions = software_versions()
    assert versions["sparc"] == importlib.metadata.version(DISTRIBUTION) == project["version"]
    assert versions["python"] == platform.python_version()
    assert versions["torch"] == importlib.metadata.version("torch")


def test_what_is_not_installed_has_no_version(monkeypatch):
    def version(name: str) -> str:
        if name in ("triton", DISTRIBUTION):
            raise importlib.metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert not {"sparc", "triton"} & software_versions().keys()
    assert software_versions()["zarr"] == "1"


@pytest.mark.parametrize(
    "text", ["pip install sparc", "pip install -U 'sparc[numba]'", "sparc[s3]"]
)
def test_the_pattern_knows_bad_advice(text):
    assert ADVICE.search(text)
    assert not ADVICE.search("pip install sparc-sae, pip install '.[numba]', sparc_sae[x]")


def test_nothing_advises_to_install_the_package_of_another():
    kinds = (".py", ".md", ".toml", ".txt", "")
    folders = ("common", "extract", "train", "analyze", "pipelines", ".ci")
    files = [path for name in folders for path in (ROOT / name).rglob("*")]
    files += [path for path in ROOT.iterdir() if path.name not in (".git",)]
    read = [path for path in files if path.is_file() and path.suffix in kinds]
    assert len(read) > 150
    for path in read:
        match = ADVICE.search(path.read_text(encoding="utf-8"))
        assert match is None, f"{path.relative_to(ROOT)}: {match}"
