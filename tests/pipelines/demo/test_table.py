"""The demo's table and `sparc-analyze compare` call a figure by the same name."""

from sparc.analyze.measures.agreement import VALUE
from sparc.analyze.measures.localization import POINTING
from sparc.analyze.measures.registry import MEASURES
from sparc.analyze.report.page import Column
from sparc.pipelines.demo.table import _sections

STREAMS = ("dino", "minilm")
FIGURES: dict[str, float | None] = {
    str(VALUE.of("depth 3", mode="joint", control="trained")): 0.5,
    str(POINTING.of("text", "several", "dino")): 0.5,
}


def test_a_figure_has_one_name() -> None:
    column = Column(
        name="demo", place="demo", about=(), sizes="", tables=(), notes=(), figures=FIGURES
    )
    shown = [line for section in _sections(column, STREAMS) for _, line in section.levels()]
    pages = [measure.section(STREAMS, [FIGURES]) for measure in MEASURES]
    compared = {line.figure: line.text for page in pages if page for _, line in page.levels()}
    assert len(shown) > 20
    for line in shown:
        name, text = line.figure.metric.title, compared[line.figure]
        assert line.text == text or (name and name in line.text and name in text)
