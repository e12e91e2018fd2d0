import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparc.analyze.report.folder import Report, ReportInfo, ReportWriter
from sparc.analyze.report.summary import ENDS, MARGIN_WIDTH, PAGE_WIDTH, Line, figures, summarize
from sparc.common.files.folder import Folder

FIGURES = {
    "agreement/independent/none/depth 3": 0.090,
    "agreement_mispaired/independent/none/depth 3": 0.012,
    "agreement_excess/independent/none/depth 3": 0.079,
    "agreement/independent/untrained/depth 3": 0.031,
    "agreement_excess/independent/untrained/depth 3": 0.001,
    "agreement/independent/none/depth 1": 0.309,
    "agreement_mispaired/independent/none/depth 1": 0.201,
    "agreement_excess/independent/none/depth 1": 0.135,
    "agreement/independent/untrained/depth 1": 0.221,
    "agreement_excess/independent/untrained/depth 1": 0.002,
    "agreement/joint/none/depth 3": 0.766,
    "agreement_mispaired/joint/none/depth 3": 0.013,
    "agreement_excess/joint/none/depth 3": 0.763,
    "agreement/joint/untrained/depth 3": 0.790,
    "agreement_excess/joint/untrained/depth 3": 0.787,
    "agreement_mispaired/independent/untrained/depth 3": 0.011,
    "agreement_mispaired/independent/untrained/depth 1": 0.2,
    "agreement_mispaired/joint/untrained/depth 3": 0.012,
    "nmse_cross/independent/none": 0.736,
    "codes_r_at_1/independent/none": 0.261,
    "codes_r_at_1/joint/none": 0.990,
    "alive_nowhere/independent/none": 1_224,
    "selection/none/dino": 0.5,
}


@pytest.fixture
def make_report(tmp_path):
    def make(name, figures, notes=()):
        folder = Folder(tmp_path / name)
        info = ReportInfo(
            run="/runs/sparc", model_sha256="", cache="/caches/\x1b[31mtest", manifest_digest="",
            streams=("dino", "clip_text"), stream_digests={}, latents=1024, k=32,
            selection="global", rows=1204, settings={}, notes=tuple(notes), versions={},
        )  # fmt: skip
        writer = ReportWriter(folder, info)
        writer.finish(figures)
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
    for kind in ("", "_mispaired", "_excess"):
        del baseline[f"agreement{kind}/joint/untrained/depth 3"]
    text = summarize([make_report("sparc", FIGURES), make_report("baseline", baseline)])
    lines = text.splitlines()
    (names,) = [line for line in lines if line.split() == ["sparc", "baseline"]]
    (alone,) = [line for line in lines if "depth 3, each alone" in line]
    assert alone.split()[-2:] == ["0.090", "0.045"]
    assert len(names) == len(alone) + MARGIN_WIDTH
    (untrained,) = [line for line in lines if "0.790" in line]
    assert untrained.split()[-2:] == ["0.790", "-"]


@pytest.mark.parametrize(
    "name",
    ["agrement/joint/none/depth 3", "agreement/joined/none/depth 3", "purity/joint/permutted"],
)
def test_a_misspelt_figure_is_an_error_not_an_empty_cell(name):
    with pytest.raises(ValueError, match="no figure of a report is called"):
        Line("agreement", name)


def test_a_figure_that_is_undefined_is_a_dash(make_report):
    some = {**FIGURES, "agreement_excess/joint/none/depth 3": None}
    lines = summarize([make_report("undefined", some)]).splitlines()
    (at,) = [n for n, line in enumerate(lines) if "0.766" in line]
    assert lines[at + 2].split()[-1] == "-"


def test_reports_with_trees_of_classes_of_other_depths_keep_their_controls(make_report):
    def ends_at_one(name):
        return (
            name.replace("depth 3", "depth 1")
            if name.startswith("agreement") and "/joint/" in name
            else name
        )

    flat = {ends_at_one(n): v for n, v in FIGURES.items() if "independent" not in n or "3" not in n}
    text = summarize([make_report("flat/report", flat), make_report("deep/report", FIGURES)])
    lines = [line.strip() for line in text.splitlines()]
    assert "flat/report    deep/report" in lines
    for heading, values in (
        ("classes at depth 3, each alone", ["- 0.090", "- 0.012", "- 0.079", "- 0.031"]),
        ("classes at depth 1, each alone", ["0.309 0.309", "0.201 0.201", "0.135 0.135"]),
        ("classes at depth 3, together", ["- 0.766", "- 0.013", "- 0.763", "- 0.790"]),
        ("classes at depth 1, together", ["0.766 -", "0.013 -", "0.763 -", "0.790 -"]),
    ):
        (first,) = (n for n, line in enumerate(lines) if line.startswith(heading))
        shown = [" ".join(line.split()[-2:]) for line in lines[first : first + len(values)]]
        assert shown == values


def test_the_page_is_narrow_and_plain(make_report):
    text = summarize([make_report("r", FIGURES, notes=["the cache has no labels " * 8])])
    assert max(map(len, text.splitlines())) <= PAGE_WIDTH
    assert "\x1b" not in text
    assert "the cache has no labels" in text


def test_a_section_without_figures_is_left_out(make_report):
    text = summarize([make_report("r", {"nmse_cross/independent/none": 0.5})])
    assert "AGREEMENT" not in text
    assert "CROSS-RECONSTRUCTION" in text


def test_intervals_stand_behind_their_figures(make_report):
    ends = {
        "agreement_low/independent/none/depth 3": 0.078,
        "agreement_high/independent/none/depth 3": 0.101,
        "nmse_cross_low/independent/none": None,
        "nmse_cross_high/independent/none": None,
    }
    text = summarize([make_report("a", {**FIGURES, **ends}), make_report("b", FIGURES)])
    (line,) = [line for line in text.splitlines() if "depth 3, each alone" in line]
    # The farther end decides; a figure without an interval stands where the others stand.
    first, second = line.index("0.090"), line.rindex("0.090")
    assert line[first:second].split() == ["0.090", "±0.012"]
    (other,) = [line for line in text.splitlines() if "NMSE, each alone" in line]
    assert (other.index("0.736"), other.rindex("0.736")) == (first, second)
    assert "±" not in other


def test_the_interval_of_a_mean_is_the_mean_of_the_intervals(tmp_path):
    def row(source, target, *nmse):
        names = ("nmse", "nmse_low", "nmse_high")
        explained = dict.fromkeys(f"explained_variance{end}" for end in ENDS)
        about = {"mode": "joint", "control": "none", "source": source, "target": target}
        return {**about, **dict(zip(names, nmse, strict=True)), **explained}

    rows = [row("a", "a", 0.1, 0, 0.2), row("a", "b", 0.5, 0.4, 0.7), row("b", "a", 0.7, 0.6, 0.8)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "reconstruction.parquet")
    found = figures(Folder(tmp_path))
    assert found["nmse_cross/joint/none"] == pytest.approx(0.6)
    assert found["nmse_cross_low/joint/none"] == pytest.approx(0.5)
    assert found["nmse_cross_high/joint/none"] == pytest.approx(0.75)
    assert found["nmse_self_low/joint/none"] == 0
    assert found["explained_variance_cross_low/joint/none"] is None


def test_the_intervals_of_purity_are_those_of_the_finest_classes(tmp_path):
    about = {"mode": "joint", "control": "none"}
    rows = [
        {**about, "restriction": restriction, "depth": depth, "purity": value}
        | {"purity_low": value and value - 0.1, "purity_high": value and value + 0.2}
        for restriction, depth, value in (
            ("all_rows", 1, 0.3), ("all_rows", 2, 0.4), ("all_rows", 2, 0.6),
            ("all_rows", 2, None), ("top_rows", 2, 0.7),
        )
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "purity_means.parquet")
    found = figures(Folder(tmp_path))
    assert found == {
        "purity/joint/none": pytest.approx(0.5),
        "purity_low/joint/none": pytest.approx(0.4),
        "purity_high/joint/none": pytest.approx(0.7),
    }


def test_the_intervals_of_monosemanticity_are_apart_for_own_and_other_features(tmp_path):
    rows = [
        {"mode": "joint", "control": "none", "stream": stream, "reference": reference}
        | dict(zip(("value", "value_low", "value_high"), values, strict=True))
        for stream, reference, values in (
            ("a", "a", (0.5, 0.4, 0.6)), ("b", "b", (0.7, 0.6, 0.9)), ("a", "b", (0.2, 0.1, 0.3)),
        )
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "monosemanticity_means.parquet")
    found = figures(Folder(tmp_path))
    assert found == {
        "monosemanticity_own/joint/none": pytest.approx(0.6),
        "monosemanticity_own_low/joint/none": pytest.approx(0.5),
        "monosemanticity_own_high/joint/none": pytest.approx(0.75),
        "monosemanticity_cross/joint/none": 0.2,
        "monosemanticity_cross_low/joint/none": 0.1,
        "monosemanticity_cross_high/joint/none": 0.3,
    }
