"""The pages on Python have all that is public, every error, every setting and every registry."""

import dataclasses
import importlib
import re
from pathlib import Path

import pytest

import sparc
from sparc.common import errors

ROOT = Path(__file__).parents[2]
API = ROOT / "docs/api"
SHOWN = re.findall(r"^::: ([\w.]+)$", "\n".join(p.read_text() for p in API.glob("*.md")), re.M)


@pytest.mark.parametrize(
    "package",
    ["common.cache", "extract", "extract.datasets", "extract.encoders", "train", "analyze"],
)
def test_what_is_public_is_on_a_page(package):
    public = importlib.import_module(f"sparc.{package}").__all__
    assert public
    assert [name for name in public if f"sparc.{package}.{name}" not in SHOWN] == []


def test_no_other_package_says_what_is_public():
    """A package with `__all__` is public: it is among those above."""
    files = [f for top in ("common", "extract", "train", "analyze", "pipelines")
             for f in (ROOT / top).rglob("__init__.py") if "__all__" in f.read_text()]  # fmt: skip
    assert sorted(f.parent.relative_to(ROOT).as_posix() for f in files) == [
        *("analyze", "common/cache", "extract", "extract/datasets", "extract/encoders", "train")
    ]


def test_the_names_of_the_top_are_listed():
    index = (API / "index.md").read_text()
    assert [name for name in sparc.__all__ if f"`sparc.{name}`" not in index] == []


def test_every_error_is_on_a_page():
    kinds = [kind for kind in vars(errors).values()
             if isinstance(kind, type) and issubclass(kind, errors.SparcError)]  # fmt: skip
    assert len(kinds) > 10
    assert [k.__name__ for k in kinds if f"{k.__module__}.{k.__name__}" not in SHOWN] == []


def test_every_command_s_settings_are_on_a_page():
    page = (API / "settings.md").read_text()
    classes = set()
    for top in ("extract", "train", "analyze", "pipelines"):
        for file in (ROOT / top).rglob("config.py"):
            if "encoders" in file.parts:  # of no command
                continue
            module = ".".join(("sparc", *file.relative_to(ROOT).with_suffix("").parts))
            for name, kind in vars(importlib.import_module(module)).items():
                if not dataclasses.is_dataclass(kind) or kind.__module__ != module:
                    continue
                if all(field.metadata.get("help") for field in dataclasses.fields(kind)):
                    classes.add(f"{module}:{name}")
    classes.remove("sparc.pipelines.config:PublishedConfig")  # a base class
    assert len(classes) > 15
    assert classes == set(re.findall(r"<!-- settings of (\S+) -->", page))


def test_every_registry_is_on_a_page():
    page = (API / "extending.md").read_text()
    registries = {
        file.relative_to(ROOT).as_posix()
        for top in ("extract", "train", "analyze")
        for file in (ROOT / top).rglob("registry.py")
    }
    assert len(registries) > 7
    assert [file for file in registries if f"../../{file}" not in page] == []
