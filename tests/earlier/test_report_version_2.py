"""Reports of version 2, whose columns say picture: the finished one of the archive, and others.

`sparc-analyze run` leaves a finished one as it is. One that is not finished, or gets a further
table, becomes one of today's version, and what it holds is not measured again.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparc.analyze import LocalizeConfig, Report, analyze
from sparc.analyze.localize.scoring.cache_scores import SCHEMA
from sparc.analyze.measure import Measure, Rows
from sparc.analyze.measures.registry import MEASURES
from sparc.analyze.report import writer
from sparc.analyze.report.figure_names import Figures
from sparc.analyze.report.figures import figures
from sparc.analyze.report.tables import RENAMED_COLUMNS
from sparc.common.errors import ReportError
from sparc.common.files.lock import LOCK_FILE

EARLIER = {name: earlier for earlier, name in RENAMED_COLUMNS.items()}


def continue_report(where: Path) -> Report:
    return analyze(where / "run", where / "cache", where / "report")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != LOCK_FILE
    }


def plain_tables(folder: Path) -> dict[str, pa.Table]:
    """Every table by today's names of columns, read without any code of ours."""
    result = {}
    for path in folder.glob("*.parquet"):
        table = pq.read_table(path)
        names = [RENAMED_COLUMNS.get(name, name) for name in table.column_names]
        result[path.stem] = table.rename_columns(names)
    return result


def versions(folder: Path) -> set[int]:
    """The versions that the report and its tables say."""
    tables = [
        json.loads(pq.read_schema(path).metadata[b"sparc"]) for path in folder.glob("*.parquet")
    ]
    documents = [json.loads((folder / "report.json").read_bytes()), *tables]
    return {document["version"] for document in documents}


def make_version_2(table: Path) -> None:
    """Write a table as version 2 did."""
    content = pq.read_table(table)
    names = [EARLIER.get(name, name) for name in content.column_names]
    description = {**json.loads(content.schema.metadata[b"sparc"]), "version": 2}
    metadata = {b"sparc": json.dumps(description).encode()}
    pq.write_table(content.rename_columns(names).replace_schema_metadata(metadata), table)


def only_known(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    of_today = type(measure).figures

    def figures_of_that_time(self: Measure, rows: Rows) -> Figures:
        return {
            name: value for name, value in of_today(self, rows).items() if not name.metric.added
        }

    monkeypatch.setattr(type(measure), "figures", figures_of_that_time)


@pytest.fixture(autouse=True)
def nothing_newer(earlier: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only the tables and figures of that time: a finished report would get newer ones."""
    today, present = list(MEASURES), Report(earlier / "report").tables
    for measure in today:
        only_known(measure, monkeypatch)
        tables = tuple(t for t in measure.tables if t.name in present or measure.steps is None)
        monkeypatch.setattr(type(measure), "tables", tables)
        if measure.headline_table not in {table.name for table in tables}:
            monkeypatch.setattr(type(measure), "headline_table", None)
    MEASURES[:] = [measure for measure in today if measure.tables]
    yield
    MEASURES[:] = today


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def measures_nothing(monkeypatch: pytest.MonkeyPatch, *but: str) -> None:
    for measure in MEASURES:
        if measure.name not in but:
            monkeypatch.setattr(type(measure), "measure", Measure.measure)
            monkeypatch.setattr(type(measure), "measure_raw", Measure.measure_raw)


def test_its_tables_have_the_columns_that_measures_declare_today(earlier: Path) -> None:
    report, plain = Report(earlier / "report"), plain_tables(earlier / "report")
    assert versions(earlier / "report") == {2}
    schemas = {name: schema for m in MEASURES for name, schema in m.schemas().items()}
    for name in report.tables:
        assert report.table(name).schema.equals(schemas[name])
        assert report.table(name).equals(plain[name])
    assert figures(report.folder) == report.summary


def test_a_finished_one_is_left_as_it_is(earlier: Path) -> None:
    before = contents(earlier / "report")
    continue_report(earlier)
    assert contents(earlier / "report") == before


def test_a_table_that_is_lost_is_made_again_and_the_others_are_rewritten(
    earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = plain_tables(earlier / "report")
    (earlier / "report/naming.parquet").unlink()
    measures_nothing(monkeypatch, "naming")
    report = continue_report(earlier)
    report.check()
    assert versions(earlier / "report") == {3}
    assert plain_tables(earlier / "report") == before
    assert "images_both" in pq.read_schema(earlier / "report/naming.parquet").names
    assert "images_both" in pq.read_schema(earlier / "report/cofiring.parquet").names


def test_an_interruption_leaves_nothing_that_looks_damaged(
    earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (earlier / "report/naming.parquet").unlink()
    measures_nothing(monkeypatch, "naming")
    replace, calls = writer.replace, iter(range(5))

    def stop_after_five(*arguments: object) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        replace(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as during:
        during.setattr(writer, "replace", stop_after_five)
        with pytest.raises(KeyboardInterrupt):
            continue_report(earlier)
    assert versions(earlier / "report") == {2, 3}
    continue_report(earlier).check()
    assert versions(earlier / "report") == {3}


def test_pieces_of_an_interrupted_one_are_joined_as_today(
    earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All pieces but those of naming are of version 2, and so is `report.json`."""
    shutil.rmtree(earlier / "report")
    with monkeypatch.context() as during:
        during.setattr(writer.ReportWriter, "join", interrupt)
        with pytest.raises(KeyboardInterrupt):
            continue_report(earlier)
    for piece in (earlier / "report/pieces").glob("*.parquet"):
        make_version_2(piece)
    info = earlier / "report/report.json"
    info.write_bytes(info.read_bytes().replace(b'"version": 3', b'"version": 2'))
    for piece in (earlier / "report/pieces").glob("naming.*"):
        piece.unlink()
    measures_nothing(monkeypatch, "naming")
    report = continue_report(earlier)
    report.check()
    assert versions(earlier / "report") == {3}
    assert {"images_both", "images_word"} < set(report.table("naming").column_names)
    assert {"images_both", "images_first"} < set(report.table("cofiring").column_names)


def test_one_that_gets_a_table_is_rewritten(earlier: Path) -> None:
    report, before = Report(earlier / "report"), plain_tables(earlier / "report")
    about = report.about("localize", LocalizeConfig())
    assert "version" not in about
    writer.add_table(report, "localization", SCHEMA.empty_table(), figures, about)
    added = Report(earlier / "report")
    added.check()
    assert versions(earlier / "report") == {3}
    after = plain_tables(earlier / "report")
    assert after.pop("localization").num_rows == 0
    assert after == before
    assert added.summary == report.summary
    assert added.info == report.info


def test_one_of_a_newer_version_is_called_that_and_left_as_it_is(earlier: Path) -> None:
    info = earlier / "report/report.json"
    info.write_bytes(info.read_bytes().replace(b'"version": 2', b'"version": 4'))
    before = contents(earlier / "report")
    with pytest.raises(ReportError, match=r"made by another version of SPARC \(format 4"):
        continue_report(earlier)
    assert contents(earlier / "report") == before


def test_the_page_of_the_format_lists_the_renamed_columns() -> None:
    page = (Path(__file__).parents[2] / "analyze/REPORT.md").read_text(encoding="utf-8")
    table = page.partition("*Version 2*")[2].partition("*Damage.*")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| ")]
    pairs = [
        pair
        for earlier, now in rows
        for pair in zip(earlier.strip().split(", "), now.strip().split(", "), strict=True)
    ]
    assert dict(pairs) == {"version 2": "version 3", **RENAMED_COLUMNS}
