"""The name `demo`: what ships with the package, unless a folder here is such an artefact."""

from pathlib import Path

import pytest

from sparc.common.files import shipped
from sparc.common.files.shipped import located, recorded, shipped_folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shipped._say_what_is_meant.cache_clear()
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "file"), [("run", "config.json"), ("cache", "cache.json"), ("report", "report.json")]
)
def test_the_name_is_what_ships_unless_a_folder_here_is_one(here, capsys, kind, file):
    ships = str(shipped_folder() / kind)
    assert (Path(ships) / file).is_file()
    assert located("demo", kind) == ships
    assert capsys.readouterr().err == ""
    (here / "demo").mkdir()  # `make demo` leaves such a folder, which is none of the three
    assert [located("demo", kind), located(Path("demo"), kind)] == [ships, ships]
    assert capsys.readouterr().err == (
        "note: demo is what ships with SPARC, since the folder demo here is none such; "
        "./demo would be the folder\n"
    )
    (here / "demo" / file).write_text("{}")
    for own in ("demo", "./demo", "demo/run", str(here / "demo"), "s3://bucket/demo"):
        assert located(own, kind) == own


def test_records_name_what_ships_and_say_of_other_folders_where_they_are(here):
    (here / "run").mkdir()
    assert recorded(str(shipped_folder() / "run")) == "demo"
    assert recorded("run") == str(here / "run")
    assert [recorded(place) for place in ("owner/name", "s3://bucket/run")] == [
        "owner/name",
        "s3://bucket/run",
    ]
