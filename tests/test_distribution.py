"""What people install: the source distribution, and the wheel that is built from it."""

import email
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
STAGES = ("analyze", "common", "extract", "pipelines", "train")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BESIDE = ("docs", "examples", "tests")
"""Folders that only the source distribution has."""
IGNORED = shutil.ignore_patterns("__pycache__")


def files(folder: Path) -> dict[str, bytes]:
    """By path, what lies below a folder of the repository, as git would have it."""
    return {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not {"__pycache__", ".pytest_cache"} & {*path.parts}
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with both, built in a copy of the repository and with what is installed here."""
    copy, dist = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("dist")
    for name in (*STAGES, *BESIDE, "sparc"):
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, copy / name, ignore=IGNORED)
    for path in ROOT.iterdir():
        if path.is_file() and path.name != ".git":
            shutil.copy(path, copy)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    # Such as a folder of data that looks like a package.
    assert "Package would be ignored" not in done.stderr
    return dist


def test_the_wheel_has_all_files_of_the_packages_and_nothing_else(built):
    (path,) = built.glob("*.whl")
    assert path.name == f"sparc_sae-{PROJECT['version']}-py3-none-any.whl"
    expected = files(ROOT / "sparc")
    for stage in STAGES:
        expected |= {f"sparc/{name}": content for name, content in files(ROOT / stage).items()}
    for name in ("sparc/py.typed", "sparc/common/CACHE.md", "sparc/analyze/browse/page/main.js"):
        assert name in expected
    with zipfile.ZipFile(path) as wheel:
        held = {n: wheel.read(n) for n in wheel.namelist() if ".dist-info/" not in n}
        about = {
            n.partition(".dist-info/")[2]: wheel.read(n) for n in {*wheel.namelist()} - {*held}
        }
    assert held.keys() ^ expected.keys() == set()
    assert held == expected

    licences = {name for name in about if name.startswith("licenses/")}
    assert licences == {f"licenses/{name}" for name in PROJECT["license-files"]}
    for name in PROJECT["license-files"]:
        assert about[f"licenses/{name}"] == (ROOT / name).read_bytes()
    metadata = email.message_from_bytes(about["METADATA"])
    assert metadata["License-Expression"] == "Apache-2.0"
    assert about["top_level.txt"].split() == [b"sparc"]
    commands = re.findall(r"^(\S+) = ", about["entry_points.txt"].decode(), flags=re.MULTILINE)
    assert sorted(commands) == sorted(PROJECT["scripts"])


def test_the_source_distribution_has_tests_docs_and_examples(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    expected = [name for folder in BESIDE for name in files(ROOT / folder)]
    expected += ["CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "Makefile", "mkdocs.yml"]
    assert [name for name in expected if name not in held] == []


def test_whatever_names_the_repository_names_the_same_one():
    (home,) = {url for url in PROJECT["urls"].values() if url.count("/") == 4 and "github" in url}
    name = home.rpartition("/")[2]
    pages = [*ROOT.glob("*.md"), *ROOT.glob("*.cff"), *ROOT.glob("*.yml"), ROOT / "pyproject.toml"]
    pages += [path for path in (ROOT / "docs").rglob("*") if path.suffix in (".md", ".py")]
    pages += [*(ROOT / ".github").rglob("*.yml")]
    named = [
        (page.name, link)
        for page in pages
        for link in re.findall(rf"https://github\.com/[\w-]+/{name}\b", page.read_text("utf-8"))
    ]
    assert len(named) > 5
    assert {link for _, link in named} == {home}


def test_the_changelog_begins_with_what_is_next_or_with_this_version():
    sections = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert sections[0] == "Unreleased" or sections[0].startswith(f"{PROJECT['version']} ")
    for section in sections[1:]:
        assert re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)", section)


def test_the_citation_names_the_paper_and_no_version_that_could_be_forgotten():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["repository-code"] == PROJECT["urls"]["Homepage"]
    assert citation["license"] == PROJECT["license"]
    assert [author["name"] for author in citation["authors"]] == [
        author["name"] for author in PROJECT["authors"]
    ]
    (paper,) = citation["references"]
    assert paper["url"] == PROJECT["urls"]["Paper"]
    assert "version" not in citation
