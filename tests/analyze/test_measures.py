"""A new metric is one file and one line: here the file is this one, the line a fixture."""

import dataclasses
import re
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from sparc import analyze as analyze_package
from sparc.analyze import AnalyzeConfig, Report, analyze
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.measure import TRAINED, Measure, Needs, Steps, Table
from sparc.analyze.measures.agreement import Agreement
from sparc.analyze.measures.registry import MEASURES
from sparc.analyze.report.digests import replace
from sparc.analyze.report.figure_names import Metric
from sparc.analyze.report.notes import Note
from sparc.analyze.report.page import NOT_MEASURED, Line, Section
from sparc.analyze.report.renderers.text import render
from sparc.analyze.report.summary_page import summary_page
from sparc.analyze.report.tables import file_of
from sparc.common.errors import ReportError
from sparc.common.files.folder import Folder

SETTINGS = AnalyzeConfig(
    top_rows=4, rows=60, permuted=False, scheduler="sync", device="cpu", probe_rows=60
)
SCHEMA = pa.schema([("mode", pa.string()), ("control", pa.string()), ("peak", pa.float64())])
PEAK = Metric("peak_value")


class Peaks(Measure):
    """The largest value of any code."""

    name = "peaks"
    tables = (Table("peaks", TRAINED),)
    steps = Steps("peaks")
    headline_table = "peaks"
    metrics = (PEAK,)

    def schemas(self):
        return {"peaks": SCHEMA}

    def notes(self, scope):
        return [Note(f"peaks are those of {scope.rows} rows")]

    def measure(self, context, code_set, reducer):
        parts = context.parts(code_set)
        peak = reducer.reduce(_peak, max, parts, len(parts))
        line = {"mode": code_set.mode, "control": code_set.control, "peak": peak}
        return {"peaks": pa.Table.from_pylist([line], SCHEMA)}

    def figures(self, rows):
        return {PEAK.of(mode=row["mode"], control=row["control"]): row["peak"] for row in rows}

    def section(self, streams, summaries):
        name = PEAK.of(mode="joint", control="trained")
        return Section("PEAKS: how strong?", "The largest value.", (Line("peak, joint", name),))


def _peak(parts, part):
    return max(float(values.max()) for values in parts.codes(part).values.values())


@pytest.fixture
def register():
    """Adds a measure to the list, for one test."""
    before = len(MEASURES)
    yield MEASURES.append
    del MEASURES[before:]


@pytest.fixture(scope="module")
def cache(make_cache, tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), rows=64)


def files(folder):
    root = Folder(folder)
    return {name: root.read(name) for name in root.files()}


def test_a_new_measure_has_a_table_a_figure_and_a_line(
    register, cache, saved_model, tmp_path, monkeypatch
):
    register(Peaks())
    report = analyze(saved_model, cache.folder.local, tmp_path / "whole", SETTINGS)
    joint, independent = report.table("peaks").to_pylist()
    assert (joint["mode"], independent["mode"]) == ("joint", "independent")
    codes = [report.codes.read(CodeSet("joint"), n) for n in range(report.codes.layout.chunks)]
    assert joint["peak"] == max(x.max() for chunk in codes for x in chunk.values.values())
    assert report.summary["peak_value/joint/trained"] == joint["peak"]
    shown = render(summary_page([report])).splitlines()
    (at,) = [n for n, line in enumerate(shown) if line == "PEAKS: how strong?"]
    assert shown[at + 2].split() == ["peak,", "joint", f"{joint['peak']:.3f}"]

    # Repeated, nothing is measured; interrupted, what is measured stays.
    complete = files(tmp_path / "whole")
    monkeypatch.setattr(Peaks, "measure", pytest.fail)
    analyze(saved_model, cache.folder.local, tmp_path / "whole", SETTINGS)
    assert files(tmp_path / "whole") == complete
    monkeypatch.undo()
    with monkeypatch.context() as broken:
        broken.setattr(Peaks, "measure", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            analyze(saved_model, cache.folder.local, tmp_path / "resumed", SETTINGS)
    with pytest.raises(ReportError, match="has not been finished"):
        Report(tmp_path / "resumed")
    measured, measure = [], Agreement.measure

    def measure_agreement(self, context, code_set, reducer):
        measured.append(code_set.mode)
        return measure(self, context, code_set, reducer)

    monkeypatch.setattr(Agreement, "measure", measure_agreement)
    analyze(saved_model, cache.folder.local, tmp_path / "resumed", SETTINGS)
    assert measured == ["independent"]  # joint codes come first, before what was interrupted
    assert files(tmp_path / "resumed") == complete


def test_a_finished_report_gets_a_newer_table_and_its_figures_and_keeps_the_others(
    register, cache, saved_model, tmp_path, monkeypatch, capsys
):
    before = files(analyze(saved_model, cache.folder.local, tmp_path, SETTINGS).folder.local)
    register(Peaks())
    page = " ".join(render(summary_page([Report(tmp_path)])).split())
    assert "PEAKS: how strong? not measured: " in page
    assert "again adds it" in page
    for measure in MEASURES[:-1]:
        monkeypatch.setattr(type(measure), "measure", pytest.fail)
    capsys.readouterr()
    report = analyze(saved_model, cache.folder.local, tmp_path, SETTINGS)
    said = [line for line in capsys.readouterr().err.splitlines() if "adding" in line]
    assert said == [f"{tmp_path} was made before there were all of today's tables: adding peaks"]
    after = files(tmp_path)
    assert after.keys() == before.keys() | {"peaks.parquet"}
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"report.json", "summary.json", "digests.json"}
    assert report.summary["peak_value/joint/trained"] == report.table("peaks")["peak"][0].as_py()
    assert Note("peaks are those of 63 rows") in report.info.notes
    report.check()
    analyze(saved_model, cache.folder.local, tmp_path, SETTINGS)
    assert files(tmp_path) == after


@pytest.mark.parametrize("finished", [True, False])
def test_a_newer_table_that_cannot_be_measured_is_explained_by_a_new_note(
    register, make_cache, saved_model, tmp_path, monkeypatch, finished
):
    cache = make_cache(tmp_path / "cache", rows=64, labels=False)
    location = cache.folder.local, tmp_path / "report", SETTINGS
    tables = analyze(saved_model, *location).tables
    if not finished:
        (tmp_path / "report/summary.json").unlink()
    monkeypatch.setattr(Peaks, "needs", Needs(labels=True))
    register(Peaks())
    report = analyze(saved_model, *location)
    assert report.tables == tables
    (note,) = [note for note in report.info.notes if "peaks" in note.tables]
    assert note.text.endswith("or peaks")
    after = files(tmp_path / "report")
    analyze(saved_model, *location)
    assert files(tmp_path / "report") == after


def test_a_finished_report_gets_a_newer_figure_of_a_table_that_it_has(
    register, cache, saved_model, tmp_path, monkeypatch, capsys
):
    register(Peaks())
    with monkeypatch.context() as earlier:
        earlier.setattr(Peaks, "figures", lambda *_: {})
        analyze(saved_model, cache.folder.local, tmp_path, SETTINGS)
    before = files(tmp_path)
    with pytest.raises(
        ReportError, match=r"has no figure 'peak_value/joint/trained'.*which adds it"
    ):
        summary_page([Report(tmp_path)])
    report = analyze(saved_model, cache.folder.local, tmp_path, SETTINGS)
    assert "summary.json gets peak_value/joint/trained" in capsys.readouterr().err
    assert report.summary["peak_value/joint/trained"] == report.table("peaks")["peak"][0].as_py()
    after = files(tmp_path)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"summary.json", "digests.json"}


def test_a_setting_that_is_newer_than_a_report_is_as_if_it_had_its_default(
    cache, saved_model, tmp_path
):
    report = analyze(saved_model, cache.folder.local, tmp_path, SETTINGS)
    settings = {k: v for k, v in report.info.settings.items() if k != "partners"}
    info = dataclasses.replace(report.info, settings=settings)
    replace(report.folder, "report.json", info.to_json())
    before = files(tmp_path)
    analyze(saved_model, cache.folder.local, tmp_path, SETTINGS)
    assert files(tmp_path) == before
    other = dataclasses.replace(SETTINGS, partners=3)
    with pytest.raises(ReportError, match=r"\(partners: 10 there, 3 now\)"):
        analyze(saved_model, cache.folder.local, tmp_path, other)


def test_a_measure_whose_needs_are_not_met_is_left_out_with_a_note(
    register, make_cache, saved_model, tmp_path, monkeypatch
):
    monkeypatch.setattr(Peaks, "needs", Needs(labels=True))
    register(Peaks())
    cache = make_cache(tmp_path / "cache", rows=64, labels=False)
    report = analyze(saved_model, cache.folder.local, tmp_path / "report", SETTINGS)
    (note,) = [note for note in report.info.notes if "peaks" in note.tables]
    assert note.text.startswith("no analysed row has a label: there is no agreement,")
    assert note.text.endswith("or peaks")
    with pytest.raises(ReportError, match=r"no table 'peaks'.*no analysed row has a label"):
        report.table("peaks")
    shown = render(summary_page([report])).splitlines()
    (at,) = [n for n, line in enumerate(shown) if line == "PEAKS: how strong?"]
    assert shown[at + 1].startswith(f"  {NOT_MEASURED}: no analysed row has a label")


def test_a_measure_that_breaks_its_word_is_an_error(
    register, cache, saved_model, tmp_path, monkeypatch
):
    register(Peaks())
    run = partial(analyze, saved_model, cache.folder.local, tmp_path, SETTINGS)
    with monkeypatch.context() as other:
        other.setattr(Peaks, "schemas", lambda _: {"peaks": SCHEMA.remove(0)})
        with pytest.raises(TypeError, match="'peaks' declares another schema of 'peaks'"):
            run()
    with monkeypatch.context() as other:
        other.setattr(Peaks, "metrics", ())
        with pytest.raises(TypeError, match="'peaks' does not declare the metric of peak_value/"):
            run()
    report = run()
    monkeypatch.setattr(Peaks, "metrics", ())
    monkeypatch.setattr(Peaks, "headline_table", None)
    with pytest.raises(
        ValueError, match="no measure declares the metric of peak_value/joint/trained"
    ):
        summary_page([report])


def test_measures_do_not_share_tables_or_names():
    names = [measure.name for measure in MEASURES]
    tables = [table.name for measure in MEASURES for table in measure.tables]
    assert len(set(names)) == len(names) > 10
    assert len(set(tables)) == len(tables) > 15
    for measure in MEASURES:
        assert set(measure.schemas()) == {table.name for table in measure.tables}
        assert measure.headline_table in (None, *measure.schemas())


def test_the_page_on_reports_names_every_table_and_figure():
    assert not explains("nmse_self/M/C SPACE_r_at_1/M/C Figures", "peak_value")
    page = (Path(analyze_package.__file__).parent / "REPORT.md").read_text(encoding="utf-8")
    beginning, summary = page.split("## Rows, modes", 1)[0], page.split("## summary.json", 1)[1]
    summary = summary.split("\n## ", 1)[0]
    for measure in MEASURES:
        for table in measure.tables:
            file = file_of(table.name)
            assert file in beginning, f"REPORT.md lacks {file} in the list of files at its top"
            heading = rf"(?m)^## .*\b{re.escape(file)}"
            assert re.search(heading, page), f"REPORT.md has no section on {file}"
        for metric in measure.metrics:
            assert explains(summary, metric.name), (
                f"REPORT.md does not explain the figure {metric.name} under summary.json"
            )


def explains(text, name):
    """Whether a name is in a text; in names of the text, capitals stand for any word."""
    names = [word for word in re.findall("[A-Za-z0-9_]+", text) if re.search("[a-z]", word)]
    return any(re.fullmatch(re.sub("[A-Z]+", "[a-z0-9_]+", word), name) for word in names)
