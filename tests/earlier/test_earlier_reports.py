"""Reports of versions 2 and 3: the finished ones of the archives, and others.

Columns of version 2 say picture; in both the control of the trained model itself is called `none`.
`sparc-analyze run` leaves a finished one as it is. One that is not finished, or gets a further
table, becomes one of today's version, and what it holds is not measured again.
"""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from sparc.analyze import AnalyzeConfig, LocalizeConfig, Report, analyze
from sparc.analyze.localize.scoring.cache_scores import SCHEMA
from sparc.analyze.measure import Measure, Rows, Summary
from sparc.analyze.measures.registry import MEASURES
from sparc.analyze.report import writer
from sparc.analyze.report.digests import replace
from sparc.analyze.report.earlier import RENAMED_COLUMNS, RENAMED_CONTROLS
from sparc.analyze.report.figure_names import Figures
from sparc.analyze.report.figures import figures
from sparc.common.errors import ReportError
from sparc.common.files.folder import Folder
from sparc.common.files.lock import LOCK_FILE

EARLIER = {name: earlier for earlier, name in RENAMED_COLUMNS.items()}
EARLIER_CONTROLS = {name: earlier for earlier, name in RENAMED_CONTROLS.items()}


def continue_report(where: Path) -> Report:
    return analyze(where / "run", where / "cache", where / "report")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != LOCK_FILE
    }


def plain_tables(folder: Path) -> dict[str, pa.Table]:
    """Every table by today's names, read without any code of ours."""
    result = {}
    for path in folder.glob("*.parquet"):
        table = pq.read_table(path)
        names = [RENAMED_COLUMNS.get(name, name) for name in table.column_names]
        result[path.stem] = with_controls(table.rename_columns(names), RENAMED_CONTROLS)
    return result


def with_controls(table: pa.Table, names: Mapping[str, str]) -> pa.Table:
    if "control" not in table.column_names:
        return table
    controls = [names.get(c, c) for c in table["control"].to_pylist()]
    place = table.column_names.index("control")
    return table.set_column(place, table.schema.field(place), pa.array(controls, pa.string()))


def plain_summary(folder: Path) -> dict[str, float | None]:
    """The figures of a report of today, read without any code of ours."""
    figures: dict[str, float | None] = json.loads((folder / "summary.json").read_bytes())
    assert not [name for name in figures if "none" in name.split("/")]
    return figures


def versions(folder: Path) -> set[int]:
    """The versions that the report and its tables say."""
    tables = [
        json.loads(pq.read_schema(path).metadata[b"sparc"]) for path in folder.glob("*.parquet")
    ]
    documents = [json.loads((folder / "report.json").read_bytes()), *tables]
    return {document["version"] for document in documents}


def make_version_2(table: Path) -> None:
    """Write a piece of a table as version 2 did."""
    content = with_controls(pq.read_table(table), EARLIER_CONTROLS)
    names = [EARLIER.get(name, name) for name in content.column_names]
    description = {**json.loads(content.schema.metadata[b"sparc"]), "version": 2}
    metadata = {b"sparc": json.dumps(description).encode()}
    pq.write_table(content.rename_columns(names).replace_schema_metadata(metadata), table)
    table.rename(table.with_name(table.name.replace("-trained", "-none")))


def only_known(measure: Measure, summary: Summary, monkeypatch: pytest.MonkeyPatch) -> None:
    of_today = type(measure).figures

    def figures_of_that_time(self: Measure, rows: Rows) -> Figures:
        figures = of_today(self, rows).items()
        return {n: x for n, x in figures if not n.metric.added or n.metric.where_in(summary)}

    monkeypatch.setattr(type(measure), "figures", figures_of_that_time)


@pytest.fixture(autouse=True)
def nothing_newer(
    request: pytest.FixtureRequest, earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Only the tables and figures of that time: a finished report would get newer ones."""
    of_version_3 = "version_3" in request.fixturenames
    place: Path = request.getfixturevalue("version_3") if of_version_3 else earlier
    report = Report(place / "report")
    today, present, summary = list(MEASURES), report.tables, report.summary
    for measure in today:
        only_known(measure, summary, monkeypatch)
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
    assert versions(earlier / "report") == {4}
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
    assert versions(earlier / "report") == {2, 4}
    continue_report(earlier).check()
    assert versions(earlier / "report") == {4}


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
    info.write_bytes(info.read_bytes().replace(b'"version": 4', b'"version": 2'))
    for piece in (earlier / "report/pieces").glob("naming.*"):
        piece.unlink()
    measures_nothing(monkeypatch, "naming")
    report = continue_report(earlier)
    report.check()
    assert versions(earlier / "report") == {4}
    assert {"images_both", "images_word"} < set(report.table("naming").column_names)
    assert {"images_both", "images_first"} < set(report.table("cofiring").column_names)


def test_one_that_gets_a_table_is_rewritten(earlier: Path) -> None:
    report, before = Report(earlier / "report"), plain_tables(earlier / "report")
    summary = report.summary
    about = report.about("localize", LocalizeConfig())
    assert "version" not in about
    writer.add_table(report, "localization", SCHEMA.empty_table(), figures, about)
    added = Report(earlier / "report")
    added.check()
    assert versions(earlier / "report") == {4}
    after = plain_tables(earlier / "report")
    assert after.pop("localization").num_rows == 0
    assert after == before
    assert added.summary == summary
    assert added.info == report.info


def test_one_of_a_newer_version_is_called_that_and_left_as_it_is(earlier: Path) -> None:
    info = earlier / "report/report.json"
    info.write_bytes(info.read_bytes().replace(b'"version": 2', b'"version": 5'))
    before = contents(earlier / "report")
    with pytest.raises(ReportError, match=r"made by another version of SPARC \(format 5"):
        continue_report(earlier)
    assert contents(earlier / "report") == before


def continue_version_3(version_3: Path, earlier: Path, **settings: bool) -> Report:
    run, cache = earlier / "run", earlier / "cache"
    name = "interrupted" if settings else "report"
    return analyze(run, cache, version_3 / name, AnalyzeConfig(**settings))


def test_tables_and_figures_of_version_3_have_the_controls_of_today(version_3: Path) -> None:
    report, plain = Report(version_3 / "report"), plain_tables(version_3 / "report")
    assert versions(version_3 / "report") == {3}
    for name in report.tables:
        table = report.table(name)
        assert table.equals(plain[name])
        if "control" in table.column_names:
            assert "trained" in table["control"].to_pylist()
            assert "none" not in table["control"].to_pylist()
    assert figures(report.folder) == report.summary
    assert "nmse_cross/joint/none" in json.loads((version_3 / "report/summary.json").read_bytes())


def test_a_finished_one_of_version_3_is_left_as_it_is(version_3: Path, earlier: Path) -> None:
    before = contents(version_3 / "report")
    continue_version_3(version_3, earlier)
    assert contents(version_3 / "report") == before


def test_a_finished_one_of_version_3_that_gets_a_figure_is_rewritten(
    version_3: Path, earlier: Path
) -> None:
    folder = version_3 / "report"
    before, all_figures = plain_tables(folder), dict(Report(folder).summary)
    written = json.loads((folder / "summary.json").read_bytes())
    del written["nmse_self/joint/none"]
    replace(Folder(folder), "summary.json", json.dumps(written).encode())
    continue_version_3(version_3, earlier).check()
    assert versions(folder) == {4}
    assert plain_tables(folder) == before
    assert plain_summary(folder) == all_figures


def test_an_interrupted_one_of_version_3_is_finished_with_its_pieces(
    version_3: Path, earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measures_nothing(monkeypatch)
    report = continue_version_3(version_3, earlier, untrained=False, permuted=False)
    report.check()
    assert versions(version_3 / "interrupted") == {4}
    trained = Report(version_3 / "report").table("retrieval")
    trained = trained.filter(pc.field("control") == "trained")
    assert report.table("retrieval").equals(trained)
    figures = plain_summary(version_3 / "interrupted")
    assert figures == {name: Report(version_3 / "report").summary[name] for name in figures}


def test_reports_of_different_versions_are_compared(version_3: Path, earlier: Path, call) -> None:
    today = version_3 / "today"
    shutil.copytree(version_3 / "report", today)
    (today / "naming.parquet").unlink()
    analyze(earlier / "run", earlier / "cache", today)
    assert versions(today) == {4}
    compared = call("analyze", "compare", version_3 / "report", today)
    assert compared.returncode == 0, compared.stderr
    assert "not measured" not in compared.stdout
    pairs = re.findall(r"(\S+) +(±\S+) +(\S+) +(±\S+)$", compared.stdout, re.MULTILINE)
    assert len(pairs) > 20
    assert all(pair[:2] == pair[2:] for pair in pairs)


def test_the_page_of_the_format_lists_the_renamed_columns() -> None:
    page = (Path(__file__).parents[2] / "analyze/REPORT.md").read_text(encoding="utf-8")
    table = page.partition("*Version 2*")[2].partition("*Version 3*")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| ")]
    pairs = [
        pair
        for earlier, now in rows
        for pair in zip(earlier.strip().split(", "), now.strip().split(", "), strict=True)
    ]
    assert dict(pairs) == {"version 2": "version 3", **RENAMED_COLUMNS}


def test_the_page_of_the_format_lists_the_renamed_controls() -> None:
    page = (Path(__file__).parents[2] / "analyze/REPORT.md").read_text(encoding="utf-8")
    text = page.partition("*Version 3*")[2].partition("*Damage.*")[0]
    assert [f"`{earlier}` where version 4 says `{now}`" in " ".join(text.split())
            for earlier, now in RENAMED_CONTROLS.items()] == [True]  # fmt: skip
