"""The demo's one table: SPARC beside the baselines, with the controls of every figure."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sparc.analyze.measures.agreement import EXCESS, MISPAIRED, VALUE, depths
from sparc.analyze.measures.latents import ALIVE, ALIVE_UNSEEN_SHARE
from sparc.analyze.measures.localization import AUC, CENTRE, POINTING, RANDOM_LATENT
from sparc.analyze.measures.reconstruction import EXPLAINED_CROSS, NMSE_CROSS
from sparc.analyze.measures.retrieval import R_AT_1, R_AT_10
from sparc.analyze.report.control_lines import UNTRAINED, independent_line, untrained_line
from sparc.analyze.report.figure_names import FigureMode, Metric
from sparc.analyze.report.folder import Report
from sparc.analyze.report.page import Column, Line, Section
from sparc.analyze.report.renderers.text import MARGIN_WIDTH, cell
from sparc.analyze.report.summary_page import make_columns, require_declared
from sparc.pipelines.demo.searches import RESULTS, WORDS, Searches, search_by_text

_WIDTH = 98
_TEXT_WIDTH = 50
_CELL_WIDTH = 17

_READING = """\
What was learnt is in the upper part: there each model of the three (a "stream") chooses its
latents without the others. SPARC should rebuild one stream from the code of another with a
lower error, find an image's caption more often, and use a latent for the same classes in every
stream. Mispaired latents agree in part: the excess is the share of the way from there to 1.
What exceeds the untrained model and permuted rows was learnt from the scenes. ± is half of a
95% interval, over other scenes of the same kind; counts of latents have none.
The lower part is given, not learnt: streams that select jointly get the same latents, so their
agreement is high even for an untrained model. The aligned baseline was trained as the baseline
was; then its latents were renumbered so that those that fire together have one number, and its
encoders refitted in closed form, so that the streams' logits agree."""

_DEPTHS = {
    1: ": groups (animals, food, …)",
    2: ": subgroups (birds, fruit, …)",
    3: ": emoji (owl, …)",
}
"""What the classes of each depth are."""


def comparison(folder: Path, locations: Mapping[str, Path]) -> str:
    """The table, how to read it, and where to look next.

    Args:
        folder: The demo's folder.
        locations: The finished reports by the names of their models.

    Raises:
        ReportError: A report is missing, damaged, or lacks a figure that it must have.
    """
    reports = [Report(location) for location in locations.values()]
    columns = make_columns(reports)
    some = reports[0].info
    rows = [
        "",
        f"{some.rows:,} rows of held-out scenes, {some.latents:,} latents, "
        f"{some.k} for a row; streams {', '.join(some.streams)}",
        "",
        " " * _TEXT_WIDTH + "".join(f"{name:>{_CELL_WIDTH}}" for name in locations),
    ]
    for section in _sections(columns[0], some.streams):
        rows += ["", section.title]
        require_declared(line for _, line in section.levels())
        for level, line in section.levels():
            cells = "".join(f"{cell(column, line):>{_CELL_WIDTH}}" for column in columns)
            rows.append(_row(1 + level, line.text, cells))
    rows += _search_rows([search_by_text(report, folder / "scenes") for report in reports])
    places = " ".join(map(str, locations.values()))
    ask, asked = "sparc-analyze", next(iter(locations.values()))
    return "\n".join(
        [
            *rows,
            "",
            *textwrap.wrap(_READING.replace("\n", " "), _WIDTH),
            "",
            "Where to go from here:",
            f"  concepts that all streams share   {ask} concepts {asked} --shared",
            f"  concepts of one stream alone      {ask} concepts {asked} --only {some.streams[-1]}",
            f"  one of them, with its images      {ask} show {asked} --latent 42 --sheet 42.png",
            f"  the reports                       {folder / 'reports'} (Parquet tables)",
            f"  every figure, side by side        sparc-analyze compare {places}",
            f"  what the encoders have written    sparc-extract inspect {folder / 'caches/train'}",
            f"  how the training went             sparc-train inspect {folder / 'runs/sparc'}",
            f"  the images                        {folder / 'scenes/images'}",
            *(
                [f"  maps of names over some of them   {sheet}"]
                if (sheet := folder / "localized/contact-sheet.png").exists()
                else []
            ),
        ]
    )


def _sections(first: Column, streams: tuple[str, ...]) -> Iterator[Section]:
    """The sections of the table, with the depths and maps that the first report has."""
    codes, ten, of_classes = R_AT_1["codes"], R_AT_10["codes"], depths(first.figures)
    yield Section(
        "INDEPENDENT, each stream selects its own latents: this is learnt",
        "",
        (
            *(_agreement(depth, "independent") for depth in of_classes if depth > 0),
            Line(
                f"{NMSE_CROSS.title} (lower is better)",
                NMSE_CROSS.of(mode="independent", control="trained"),
                (untrained_line(NMSE_CROSS),),
            ),
            Line(
                EXPLAINED_CROSS.title,
                EXPLAINED_CROSS.of(mode="independent", control="trained"),
            ),
            Line(
                codes.title,
                codes.of(mode="independent", control="trained"),
                independent_line(codes).controls,
            ),
            Line(ten.title, ten.of(mode="independent", control="trained")),
        ),
    )
    yield Section(
        "JOINT, all streams select the same latents: this is given by construction",
        "",
        (
            *(_agreement(depth, "joint") for depth in of_classes[-1:]),
            Line(NMSE_CROSS.title, NMSE_CROSS.of(mode="joint", control="trained")),
            Line(f"{codes.title}: a leak", codes.of(mode="joint", control="trained")),
        ),
    )
    # Image streams have maps; text streams weigh words, which are not scored.
    maps = [_map(s) for s in streams if first.figure(POINTING.of("text", "several", s)) is not None]
    if maps:
        title = "THE MAP OF AN OBJECT'S NAME points at it, in images of several objects"
        yield Section(title, "", tuple(maps))
    bound = Line(f"{ALIVE_UNSEEN_SHARE.title} (95%)", ALIVE_UNSEEN_SHARE.of(), style="percent")
    yield Section(
        "LATENTS",
        "",
        (
            _alive("everywhere"),
            _alive("nowhere", bound),
        ),
    )


def _search_rows(by_report: Sequence[Mapping[str, Searches]]) -> Iterator[str]:
    """A section of searches by text, as rows; none where no text stream searches images."""
    if not by_report[0]:
        return
    yield ""
    yield f"SEARCH BY TEXT, share of the first {RESULTS} images that hold what the text names"
    for stream in by_report[0]:
        of_stream = [searches[stream] for searches in by_report]
        for kind, text in (
            ("single", f'in {stream}: the {WORDS} most frequent emoji, "a tiger"'),
            ("pair", f'in {stream}: one of two, "a tiger and a piano"'),
        ):
            hits = [getattr(searches, kind) for searches in of_stream]
            for level, line, values in (
                (1, text, [h.first for h in hits]),
                (2, "all images", [h.all for h in hits]),
            ):
                cells = "".join(
                    f"{value:>{_CELL_WIDTH - MARGIN_WIDTH}.3f}{'':{MARGIN_WIDTH}}"
                    for value in values
                )
                yield _row(level, line, cells)


def _row(level: int, text: str, cells: str) -> str:
    return f"{'  ' * level + text:<{_TEXT_WIDTH}}{cells}".rstrip()


def _agreement(depth: int, mode: FigureMode) -> Line:
    def line(metric: Metric, *controls: Line) -> Line:
        return Line(metric.title, metric.of(where, mode=mode, control="trained"), controls)

    where = f"depth {depth}"
    untrained = Line(UNTRAINED, EXCESS.of(where, mode=mode, control="untrained"))
    return Line(
        f"{VALUE.title}, {where}{_DEPTHS.get(depth, '')}",
        VALUE.of(where, mode=mode, control="trained"),
        (line(MISPAIRED), line(EXCESS, untrained)),
    )


def _map(stream: str) -> Line:
    return Line(
        f"{stream}: {POINTING.title}",
        POINTING.of("text", "several", stream),
        (
            Line(RANDOM_LATENT, POINTING.of("random_latent", "several", stream)),
            Line(CENTRE, POINTING.of("centre", "several", stream)),
            Line(AUC.title, AUC.of("text", "several", stream)),
        ),
    )


def _alive(place: str, *controls: Line) -> Line:
    metric = ALIVE[place]
    name = metric.of(mode="independent", control="trained")
    return Line(f"{metric.title}, independent", name, controls, style="count")
