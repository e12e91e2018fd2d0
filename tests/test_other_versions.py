"""What another version of the program wrote is called that, and never damaged."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from sparc.analyze.config import AnalyzeConfig
from sparc.common.cache.info import CacheInfo
from sparc.common.documents import seal, unseal
from sparc.train.config import TrainConfig

Document = dict[str, Any]
Change = Callable[[Document], None]


@pytest.fixture
def place(artefacts: Path, tmp_path: Path) -> Path:
    """Artefacts of one's own."""
    for name in ("cache", "run", "sweep", "report"):
        shutil.copytree(artefacts / name, tmp_path / name)
    return tmp_path


def change_json(path: Path, change: Change) -> None:
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


def change_cache(place: Path, change: Change) -> None:
    change_json(place / "cache/cache.json", change)
    change_json(place / "cache/activations.zarr/zarr.json", lambda x: change(x["attributes"]))


def change_stream(place: Path, change: Change) -> None:
    for name in ("zarr.json", "features/zarr.json"):
        path = place / "cache/activations.zarr/text" / name
        change_json(path, lambda x: change(x["attributes"]))


def change_sealed(path: Path, change: Change) -> None:
    document = unseal(path.read_bytes())
    change(document)
    path.write_bytes(seal(document))


def change_report(place: Path, change: Change) -> None:
    change_json(place / "report/report.json", change)
    digest = hashlib.sha256((place / "report/report.json").read_bytes()).hexdigest()
    change_sealed(
        place / "report/digests.json", lambda x: x["files"].update({"report.json": [digest]})
    )


KINDS: dict[str, tuple[Callable[[Path, Change], None], tuple[str, ...], Callable[..., Any]]] = {
    "cache": (change_cache, ("extract", "inspect", "cache"), lambda x: x),
    "stream": (change_stream, ("extract", "inspect", "cache"), lambda x: x),
    "run": (
        lambda place, change: change_sealed(place / "run/config.json", change),
        ("train", "inspect", "run"),
        lambda x: x["train"],
    ),
    "sweep": (
        lambda place, change: change_sealed(place / "sweep/sweep.json", change),
        ("train", "inspect", "sweep"),
        lambda x: x["settings"]["k=2"],
    ),
    "report": (change_report, ("analyze", "compare", "report", "report"), lambda x: x),
}


@pytest.fixture
def ask(place: Path, call):
    """Ask the command that reads a kind of artefact: the exit status and what it said."""

    def ask(kind: str) -> tuple[int, str]:
        stage, command, *names = KINDS[kind][1]
        done = call(stage, command, *(place / name for name in names))
        return done.returncode, " ".join(done.stderr.split())

    return ask


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "stream"])
def test_another_version_is_called_that(place: Path, ask, kind: str) -> None:
    assert ask(kind)[0] == 0
    KINDS[kind][0](place, lambda document: document.update(version=7))
    status, said = ask(kind)
    assert status == 2
    reads = "2, 3 and 4" if kind == "report" else "1"
    assert f"made by another version of SPARC (format 7; this one reads {reads})" in said
    assert "damaged" not in said


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_setting_of_an_intact_document_is_of_a_newer_version(
    place: Path, ask, kind: str
) -> None:
    change, _, settings = KINDS[kind]
    change(place, lambda document: settings(document).update(sparkle=3))
    status, said = ask(kind)
    assert status == 2
    assert "setting 'sparkle' is unknown to this version of SPARC" in said
    assert "damaged" not in said


@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_an_unknown_value_of_an_intact_document_is_of_a_newer_version(
    place: Path, ask, kind: str
) -> None:
    change, _, settings = KINDS[kind]
    change(place, lambda document: settings(document).update(schedule="zigzag"))
    status, said = ask(kind)
    assert status == 2
    assert "schedule must be one of" in said
    assert "it was made by a newer one" in said


@pytest.mark.parametrize(
    ("kind", "config", "name"),
    [
        ("cache", CacheInfo, "split"),
        ("run", TrainConfig, "lr"),
        ("sweep", TrainConfig, "k"),
        ("report", AnalyzeConfig, "rows"),
    ],
)
def test_a_renamed_setting_is_read_under_its_former_name(
    place: Path, ask, monkeypatch: pytest.MonkeyPatch, kind: str, config: type, name: str
) -> None:
    field = config.__dataclass_fields__[name]  # type: ignore[attr-defined]
    monkeypatch.setattr(
        field, "metadata", MappingProxyType({**field.metadata, "former": "old_name"})
    )
    change, _, settings = KINDS[kind]

    def rename(document: Document) -> None:
        table = document["settings"] if kind == "report" else settings(document)
        table["old_name"] = table.pop(name)

    change(place, rename)
    assert ask(kind)[0] == 0
    monkeypatch.undo()
    assert kind == "report" or ask(kind)[0] == 2


@pytest.mark.parametrize(
    ("kind", "file", "was", "becomes"),
    [
        ("cache", "cache/cache.json", b'"rows": 48', b'"rovs": 48'),
        ("cache", "cache/cache.json", b"{", b""),
        ("run", "run/config.json", b'"lr": ', b'"lx": '),
        ("run", "run/config.json", b'"lr": ', b'"lr": 1'),
        ("sweep", "sweep/sweep.json", b'"lr": ', b'"lr": 1'),
        ("report", "report/report.json", b'"k": ', b'"k": 1'),
        ("report", "report/report.json", b'"k": ', b'"j": '),
    ],
)
def test_damage_is_still_damage(
    place: Path, ask, kind: str, file: str, was: bytes, becomes: bytes
) -> None:
    content = (place / file).read_bytes()
    assert was in content
    (place / file).write_bytes(content.replace(was, becomes, 1))
    status, said = ask(kind)
    assert status == 2
    assert any(word in said for word in ("damaged", "not readable"))
    assert "version of SPARC" not in said


def test_an_extraction_does_not_repair_what_a_newer_version_made(place: Path) -> None:
    import numpy as np

    from sparc.common.cache.arrays import write_arrays
    from sparc.common.errors import CacheError

    values = np.ones((3, 2), np.float32)
    write_arrays(place / "new", {"text": values})
    for change in (change_stream, change_cache):
        shutil.rmtree(place / "cache")
        shutil.copytree(place / "new", place / "cache")
        change(place, lambda attributes: attributes.update(sparkle=3))
        before = (place / "cache/cache.json").read_bytes()
        with pytest.raises(CacheError, match="'sparkle' is unknown to this version"):
            write_arrays(place / "cache", {"text": values})
        assert (place / "cache/cache.json").read_bytes() == before


def test_an_index_of_another_version_is_called_that(place: Path, call) -> None:
    notes = place / "report/index/rows/digests.json"
    change_sealed(notes, lambda document: document.update(more=1))
    done = call("analyze", "search", place / "report", "--row=1", "--in=image")
    assert done.returncode == 2
    assert "built by another version of SPARC: remove the report's folder index" in done.stderr
