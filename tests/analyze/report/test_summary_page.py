import dataclasses
import re

import pytest

from sparc.analyze.measures.agreement import EXCESS, MISPAIRED, VALUE
from sparc.analyze.measures.latents import ALIVE
from sparc.analyze.measures.reconstruction import NMSE_CROSS
from sparc.analyze.measures.retrieval import R_AT_1
from sparc.analyze.measures.selection import SHARE
from sparc.analyze.report.figure_names import Metric, as_text
from sparc.analyze.report.folder import Report
from sparc.analyze.report.info import ReportInfo
from sparc.analyze.report.notes import Note
from sparc.analyze.report.page import NOT_MEASURED, Line
from sparc.analyze.report.renderers.text import MARGIN_WIDTH, PAGE_WIDTH, render
from sparc.analyze.report.summary_page import require_declared, summary_page
from sparc.analyze.report.writer import ReportWriter
from sparc.common.files.folder import Folder

FIGURES = {
    EXCESS.of("depth 3", mode="independent", control="trained"): 0.079,
    EXCESS.of("depth 3", mode="independent", control="untrained"): 0.001,
    VALUE.of("depth 3", mode="independent", control="trained"): 0.090,
    MISPAIRED.of("depth 3", mode="independent", control="trained"): 0.012,
    VALUE.of("depth 3", mode="independent", control="untrained"): 0.031,
    EXCESS.of("depth 1", mode="independent", control="trained"): 0.135,
    EXCESS.of("depth 1", mode="independent", control="untrained"): 0.002,
    VALUE.of("depth 1", mode="independent", control="trained"): 0.309,
    MISPAIRED.of("depth 1", mode="independent", control="trained"): 0.201,
    VALUE.of("depth 1", mode="independent", control="untrained"): 0.221,
    EXCESS.of("depth 3", mode="joint", control="trained"): 0.763,
    EXCESS.of("depth 3", mode="joint", control="untrained"): 0.787,
    VALUE.of("depth 3", mode="joint", control="trained"): 0.766,
    MISPAIRED.of("depth 3", mode="joint", control="trained"): 0.013,
    VALUE.of("depth 3", mode="joint", control="untrained"): 0.790,
    MISPAIRED.of("depth 3", mode="independent", control="untrained"): 0.011,
    MISPAIRED.of("depth 1", mode="independent", control="untrained"): 0.2,
    MISPAIRED.of("depth 3", mode="joint", control="untrained"): 0.012,
    NMSE_CROSS.of(mode="independent", control="trained"): 0.736,
    R_AT_1["codes"].of(mode="independent", control="trained"): 0.261,
    R_AT_1["codes"].of(mode="joint", control="trained"): 0.990,
    ALIVE["nowhere"].of(mode="independent", control="trained"): 1_224,
    SHARE.of("dino", control="trained"): 0.5,
}


def summarize(reports):
    return render(summary_page(reports))


@pytest.fixture
def make_report(tmp_path):
    def make(name, figures, notes=()):
        folder = Folder(tmp_path / name)
        info = ReportInfo(
            run="/runs/sparc", model_sha256="", cache="/caches/\x1b[31mtest", manifest_digest="",
            streams=("dino", "clip_text"), stream_digests={}, latents=1024, k=32,
            selection="global", rows=1204, settings={}, notes=tuple(notes), versions={},
        )  # fmt: skip
        writer = ReportWriter.open(folder, info)
        writer.finish(as_text(figures))
        return Report(folder.local)

    return make


def test_figures_stand_beside_their_controls(make_report):
    text = summarize([make_report("r", FIGURES)])
    order = [f"{value:.3f}" for value in list(FIGURES.values())[:15]]
    places = [text.index(value) for value in order]
    assert places == sorted(places)
    assert "by construction" in text[: places[0]].replace("\n ", "")
    assert text.index("0.261") < text.index("0.990")
    assert "1,224" in text


def test_reports_stand_side_by_side(make_report):
    baseline = {name: value / 2 for name, value in FIGURES.items()}
    for metric in (VALUE, MISPAIRED, EXCESS):
        del baseline[metric.of("depth 3", mode="joint", control="untrained")]
    text = summarize([make_report("sparc", FIGURES), make_report("baseline", baseline)])
    lines = text.splitlines()
    (names,) = [line for line in lines if line.split() == ["sparc", "baseline"]]
    (independent,) = [line for line in lines if "  agreement, depth 3, independent" in line]
    assert independent.split()[-2:] == ["0.090", "0.045"]
    assert len(names) == len(independent) + MARGIN_WIDTH
    (untrained,) = [line for line in lines if "0.790" in line]
    assert untrained.split("0.790")[1].strip() == NOT_MEASURED
    assert f"{NOT_MEASURED}: that report has no such figure" in " ".join(text.split())


def test_the_first_figure_is_the_excess_of_agreement_at_the_finest_classes(make_report):
    lines = summarize([make_report("r", FIGURES)]).splitlines()
    first = next(line for line in lines if re.search(r"\d\.\d\d\d", line))
    assert re.sub(" +", " ", first) == " excess of agreement, depth 3, independent 0.079"
    titles = [line.split(":")[0] for line in lines if re.match("[A-Z]+: ", line)]
    assert titles[:4] == ["AGREEMENT", "CONSISTENCY", "TWINS", "TRANSLATION"]


def test_a_figure_that_no_measure_declares_is_an_error_not_an_empty_cell():
    line = Line("agreement", Metric("agrement").of(mode="joint", control="trained"))
    with pytest.raises(
        ValueError, match="no measure declares the metric of agrement/joint/trained"
    ):
        require_declared([line])


def test_a_figure_that_is_undefined_is_a_dash(make_report):
    some = {**FIGURES, EXCESS.of("depth 3", mode="joint", control="trained"): None}
    lines = summarize([make_report("undefined", some)]).splitlines()
    (at,) = [n for n, line in enumerate(lines) if "0.766" in line]
    assert lines[at - 2].split()[-1] == "-"


def test_reports_with_trees_of_classes_of_other_depths_keep_their_controls(make_report):
    def at_depth_one(name):
        moved = name.metric in (VALUE, MISPAIRED, EXCESS) and name.mode == "joint"
        return dataclasses.replace(name, where=("depth 1",)) if moved else name

    flat = {
        at_depth_one(name): value
        for name, value in FIGURES.items()
        if name.mode != "independent" or name.where != ("depth 3",)
    }
    text = summarize([make_report("flat/report", flat), make_report("deep/report", FIGURES)])
    lines = [line.strip().replace(NOT_MEASURED, "-") for line in text.splitlines()]
    assert "flat/report    deep/report" in lines
    for heading, values in (
        ("agreement, depth 3, independent", ["- 0.090", "- 0.012", "- 0.031"]),
        ("excess of agreement, depth 3, independent", ["- 0.079", "- 0.001"]),
        ("agreement, depth 1, independent", ["0.309 0.309", "0.201 0.201"]),
        ("excess of agreement, depth 1, independent", ["0.135 0.135"]),
        ("agreement, depth 3, joint", ["- 0.766", "- 0.013", "- 0.790"]),
        ("agreement, depth 1, joint", ["0.766 -", "0.013 -", "0.790 -"]),
        ("excess of agreement, depth 1, joint", ["0.763 -", "0.787 -"]),
    ):
        (first,) = (n for n, line in enumerate(lines) if line.startswith(heading))
        shown = [" ".join(line.split()[-2:]) for line in lines[first : first + len(values)]]
        assert shown == values


def test_the_page_is_narrow_and_plain(make_report):
    text = summarize([make_report("r", FIGURES, notes=[Note("the cache has no labels " * 8)])])
    assert max(map(len, text.splitlines())) <= PAGE_WIDTH
    assert "\x1b" not in text
    assert "the cache has no labels" in text


def test_a_section_that_was_not_measured_says_why(make_report):
    some = {NMSE_CROSS.of(mode="independent", control="trained"): 0.5}
    note = Note("no analysed row has a label: there is no agreement", ("agreement",))
    lines = summarize([make_report("r", some, notes=[note])]).splitlines()
    (at,) = [n for n, line in enumerate(lines) if line.startswith("AGREEMENT")]
    assert lines[at + 1] == f"  {NOT_MEASURED}: {note.text}"
    assert lines.count(f"  {NOT_MEASURED}: {note.text}") == 1


def test_a_section_that_is_newer_than_a_report_says_how_to_get_it(make_report):
    some = {NMSE_CROSS.of(mode="independent", control="trained"): 0.5}
    text = " ".join(summarize([make_report("r", some)]).split())
    assert re.search(
        "AGREEMENT: [^?]*[?] not measured: [^ ]*/r was made before there was this table; the same "
        "`sparc-analyze run` again adds it",
        text,
    )


def test_a_section_of_another_command_is_left_out_until_that_has_measured(make_report):
    text = summarize(
        [make_report("r", {NMSE_CROSS.of(mode="independent", control="trained"): 0.5})]
    )
    assert "LOCALIZATION" not in text
    assert "TRANSLATION" in text


def test_intervals_stand_behind_their_figures(make_report):
    ends = {
        VALUE.of("depth 3", mode="independent", control="trained", end="_low"): 0.078,
        VALUE.of("depth 3", mode="independent", control="trained", end="_high"): 0.101,
        NMSE_CROSS.of(mode="independent", control="trained", end="_low"): None,
        NMSE_CROSS.of(mode="independent", control="trained", end="_high"): None,
    }
    reports = [make_report("a", {**FIGURES, **ends}), make_report("b", FIGURES)]
    lines = summarize(reports).splitlines()
    (line,) = [line for line in lines if "  agreement, depth 3, ind" in line]
    # The farther end decides; a figure without an interval stands where the others stand.
    first, second = line.index("0.090"), line.rindex("0.090")
    assert line[first:second].split() == ["0.090", "±0.012"]
    (other,) = [line for line in lines if "NMSE, independent" in line]
    assert (other.index("0.736"), other.rindex("0.736")) == (first, second)
    assert "±" not in other
