"""The figures that a person reads first, of one report or of several side by side.

Agreement of streams that select together is given by construction, so it never stands alone: the
figures of streams that select alone come first, and each has its controls below it.

A figure `name/…` has its 95% interval in `name_low/…` and `name_high/…`. That of a mean over pairs
or streams is the mean of theirs: the standard error of a mean is at most the mean of the standard
errors. Numbers of latents have none: how many images they are counted on stands beside them.
"""

import dataclasses
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from sparc.analyze.report.figure_names import check
from sparc.analyze.report.folder import SUMMARY_FILE, Report
from sparc.common.errors import ReportError
from sparc.common.files.folder import Folder
from sparc.common.files.parquet import read_parquet
from sparc.common.text import amount, printable, shorten

LABEL_WIDTH = 52
COLUMN_WIDTH = 15
MARGIN_WIDTH = 7
PAGE_WIDTH = 96

Figures = dict[str, float | None]
Rows = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of the summary: what it says and the name of its figure, if it has one.

    Raises:
        ValueError: No figure has this name.
    """

    text: str
    figure: str = ""
    style: str = ".3f"

    def __post_init__(self) -> None:
        if self.figure:
            check(self.figure)


def figures(folder: Folder) -> Figures:
    """The headline figures of a report, by name. `REPORT.md` lists the names.

    Args:
        folder: A report's folder, whose tables have been written.

    Raises:
        ReportError: A table is of another version.
    """

    def read(name: str) -> pa.Table:
        with folder.open(f"{name}.parquet") as file:
            return read_parquet(file)

    tables = {n: read(n) for n in _COLLECT if folder.exists(f"{n}.parquet")}
    return _collect(tables, folder)


def checked_figures(report: Report) -> Mapping[str, float | None]:
    """The figures of a finished report's summary, once it has all that the tables give.

    One that is not there was then not measured; one that is null is undefined.

    Raises:
        ReportError: A figure is missing, or the report is damaged or of another version.
    """
    tables = {name: report.table(name) for name in _COLLECT if name in report.tables}
    for name in _collect(tables, report.folder):
        if name not in report.summary:
            raise ReportError(
                f"{report.folder}/{SUMMARY_FILE} has no figure {name!r}, which the report's tables "
                f"give: remove {SUMMARY_FILE} and run the same `sparc-analyze run` again, which "
                "makes it of the tables"
            )
    return report.summary


def summarize(reports: Sequence[Report]) -> str:
    """The summary of some reports as plain text, a column for each.

    Raises:
        ReportError: A report is damaged or of another version, or lacks a figure that it must have.
    """
    summaries = [checked_figures(report) for report in reports]
    lines = [*_heading(reports), "", *_wrapped(_HOW_TO_READ)]
    if len(reports) > 1:
        lines += ["", _row("", _column_names(reports))]
    for section in _sections(reports):
        shown = [line for line in section.lines if any(line.figure in s for s in summaries)]
        if shown:
            lines += ["", section.title, *_wrapped(section.reading, indent="  ")]
            lines += [_row(line.text, [cell(s, line) for s in summaries]) for line in shown]
    for report in reports:
        for note in report.info.notes:
            lines += ["", *_wrapped(f"Note on {report.folder}: {printable(note)}.")]
    return "\n".join(lines)


def agreement_depths(report: Report) -> list[int]:
    """At which depths a report has agreement, ascending."""
    names = (name for name in report.summary if name.startswith("agreement/"))
    return sorted({int(name.rsplit(" ", 1)[1]) for name in names})


# ---------------------------------------------------------------------- what the figures are


ENDS = ("", "_low", "_high")
"""What is put behind the name of a figure: nothing, or which end of its interval is meant."""


def _agreement(rows: Rows) -> Figures:
    result: Figures = {}
    for row in rows:
        if row["first"] is None and row["restriction"] == "all_rows":
            name = "agreement" if row["averaged_over"] == "all" else "agreement_alive"
            where = f"{row['mode']}/{row['control']}/depth {row['depth']}"
            result[f"{name}_mispaired/{where}"] = row["mispaired"]
            for end in ENDS:
                result[f"{name}{end}/{where}"] = row[f"value{end}"]
                result[f"{name}_excess{end}/{where}"] = row[f"excess{end}"]
    return result


def _alive(rows: Rows) -> Figures:
    streams = max(row["alive_streams"] for row in rows)
    result: Figures = {}
    for row in rows:
        number = row["alive_streams"]
        where = "nowhere" if number == 0 else "everywhere" if number == streams else "somewhere"
        name = f"alive_{where}/{row['mode']}/{row['control']}"
        result[name] = (result.get(name) or 0) + row["latents"]
        # A table of an earlier report says nothing of them.
        if "images" in row:
            result["alive_images"] = row["images"]
            result["alive_unseen_share"] = row["unseen_share"]
    return result


def _reconstruction(rows: Rows) -> Figures:
    means = _means(
        (f"{measure}_{_kind(row)}{end}/{row['mode']}/{row['control']}", row[f"{measure}{end}"])
        for row in rows
        for measure in ("nmse", "explained_variance")
        for end in ENDS
    )
    of_streams = {
        f"explained_variance_self{end}/{row['mode']}/{row['control']}/{row['source']}": row[
            f"explained_variance{end}"
        ]
        for row in rows
        if _kind(row) == "self"
        for end in ENDS
    }
    return {**means, **of_streams}


def _retrieval(rows: Rows) -> Figures:
    return _means(
        (f"{row['space']}_{measure}/{row['mode'] or 'raw'}/{row['control']}", row[measure])
        for row in rows
        for measure in (
            *(f"{n}{end}" for n in ("r_at_1", "r_at_10") for end in ENDS),
            "median_rank",
        )
    )


def _selection(rows: Rows) -> Figures:
    return {
        f"selection{end}/{row['control']}/{row['stream']}": row[f"share{end}"]
        for row in rows
        for end in ENDS
    }


def _streams(rows: Rows) -> Figures:
    return {
        f"active_per_row{end}/{row['mode']}/{row['control']}/{row['stream']}": row[
            f"active_per_row{end}"
        ]
        for row in rows
        for end in ENDS
    }


def _left_out(rows: Rows) -> Figures:
    return {
        f"left_out_kept{end}/{row['control']}/{row['left_out']}": row[f"kept{end}"]
        for row in rows
        if row["stream"] is None
        for end in ENDS
    }


def _monosemanticity(rows: Rows) -> Figures:
    def name(row: Mapping[str, Any], end: str) -> str:
        kind = "own" if row["stream"] == row["reference"] else "cross"
        return f"monosemanticity_{kind}{end}/{row['mode']}/{row['control']}"

    return _means((name(row, end), row[f"value{end}"]) for row in rows for end in ENDS)


def _purity(rows: Rows) -> Figures:
    deepest = max(row["depth"] for row in rows)
    return _means(
        (f"purity{end}/{row['mode']}/{row['control']}", row[f"purity{end}"])
        for row in rows
        if row["depth"] == deepest and row["restriction"] == "all_rows"
        for end in ENDS
    )


def _probe(rows: Rows) -> Figures:
    return _means(
        (f"probe_log_loss/{row['mode']}/{row['control']}", row["log_loss"]) for row in rows
    )


def _classification(rows: Rows) -> Figures:
    def name(row: Mapping[str, Any], end: str) -> str:
        kind = f"_{_kind(row)}" if row["space"] == "reconstruction" else ""
        return f"{row['space']}{kind}_map{end}/{row['mode'] or 'raw'}/{row['control']}"

    return _means(
        (name(row, end), row[f"mean_average_precision{end}"]) for row in rows for end in ENDS
    )


def _localization(rows: Rows) -> Figures:
    return {
        f"localization_{measure}/{row['map']}/{row['pictures']}/{row['stream']}": row[measure]
        for row in rows
        if row["class_id"] is None
        for measure in ("pointing", "iou_best", "iou_otsu", "average_precision")
    } | {
        f"localization_auc{end}/text/{row['pictures']}/{row['stream']}": row.get(f"auc{end}")
        for row in rows
        if row["class_id"] is None and row["map"] == "text"
        for end in ENDS
    }


_COLLECT: Mapping[str, Callable[[Rows], Figures]] = {
    "agreement": _agreement,
    "reconstruction": _reconstruction,
    "retrieval": _retrieval,
    "alive": _alive,
    "probe": _probe,
    "classification": _classification,
    "selection": _selection,
    "left_out_selection": _left_out,
    "monosemanticity_means": _monosemanticity,
    "purity_means": _purity,
    "streams": _streams,
    "localization": _localization,
}


def _collect(tables: Mapping[str, pa.Table], folder: Folder) -> Figures:
    result: Figures = {}
    for name, table in tables.items():
        try:
            result.update(_COLLECT[name](table.to_pylist()))
        except KeyError as error:
            raise ReportError(
                f"{folder}/{name}.parquet has no column {error}: it is of another version of "
                "SPARC; use that, or remove the report and run the same `sparc-analyze run` again"
            ) from error
    return result


def _kind(row: Mapping[str, Any]) -> str:
    return "self" if row["source"] == row["target"] else "cross"


def _means(named: Iterator[tuple[str, float | None]]) -> Figures:
    groups: dict[str, list[float]] = {}
    for name, value in named:
        group = groups.setdefault(name, [])
        if value is not None:
            group.append(value)
    return {name: sum(g) / len(g) if g else None for name, g in groups.items()}


# ---------------------------------------------------------------------- how they are shown


@dataclasses.dataclass(frozen=True)
class _Section:
    title: str
    reading: str
    lines: list[Line]


def _sections(reports: Sequence[Report]) -> list[_Section]:
    streams = list(dict.fromkeys(s for report in reports for s in report.info.streams))
    return [
        _Section(
            "AGREEMENT: do the classes of a latent's rows match between the streams?",
            "0: not at all, 1: fully. Mean over all latents, dead ones as 0. Any two latents agree "
            "in part, most of all where classes are few. Excess: how much of the way from there to "
            "1 is gone; 0 where a latent is no more alike in two streams than two latents are.",
            _agreement_lines(reports),
        ),
        _Section(
            "CROSS-RECONSTRUCTION: does the code of one stream rebuild the features of another?",
            "NMSE: 0 is perfect, 1 is what a zero vector gives. Explained variance: 1 is perfect, "
            "0 is what the mean gives. Mean over pairs of streams; a stream that is rebuilt badly "
            "from its own code spoils them all.",
            [
                *_with_controls("nmse_cross", "NMSE, "),
                Line(f"explained variance, {_ALONE}", "explained_variance_cross/independent/none"),
                Line(f"explained variance, {_TOGETHER}", "explained_variance_cross/joint/none"),
                Line(f"NMSE of a stream's own features, {_ALONE}", "nmse_self/independent/none"),
                Line(f"NMSE of a stream's own features, {_TOGETHER}", "nmse_self/joint/none"),
                *(
                    line
                    for stream in streams
                    for line in (
                        Line(
                            f"explained variance of its own, {_ALONE}: {stream}",
                            f"explained_variance_self/independent/none/{stream}",
                        ),
                        Line(
                            "  untrained model",
                            f"explained_variance_self/independent/untrained/{stream}",
                        ),
                    )
                ),
            ],
        ),
        _Section(
            "RETRIEVAL: does a row of one stream find its own image or caption in another?",
            "R@n: share of the queries that rank it among the first n. Mean over pairs of streams.",
            [
                Line(f"R@1 on codes, {_ALONE}", "codes_r_at_1/independent/none"),
                Line("  untrained model", "codes_r_at_1/independent/untrained"),
                Line("  unrelated rows (chance)", "codes_r_at_1/independent/permuted"),
                Line(f"R@10 on codes, {_ALONE}", "codes_r_at_10/independent/none"),
                Line(
                    f"median rank on codes, {_ALONE}", "codes_median_rank/independent/none", ",.1f"
                ),
                Line(
                    "R@1 of cross-reconstructions among features",
                    "cross_reconstruction_r_at_1/independent/none",
                ),
                Line("  untrained model", "cross_reconstruction_r_at_1/independent/untrained"),
                Line("R@1 on raw features, where widths match", "raw_r_at_1/raw/none"),
                Line(f"R@1 on codes, {_TOGETHER}: a leak", "codes_r_at_1/joint/none"),
                Line(
                    "  unrelated rows that selected together", "codes_r_at_1/joint/permuted_before"
                ),
            ],
        ),
        _Section(
            "CLASSES: do codes tell them?",
            "mAP: mean average precision of a linear probe, over classes and streams. Log loss of "
            "the best single latent of a class, in nats: 0 is perfect, 0.693 is chance.",
            [
                Line("mAP on raw features", "raw_map/raw/none"),
                Line(f"mAP on codes, {_ALONE}", "codes_map/independent/none"),
                Line("  untrained model", "codes_map/independent/untrained"),
                Line("  unrelated rows (chance)", "codes_map/independent/permuted"),
                Line("mAP on reconstructions", "reconstruction_self_map/independent/none"),
                Line("mAP on cross-reconstructions", "reconstruction_cross_map/independent/none"),
                Line("  untrained model", "reconstruction_cross_map/independent/untrained"),
                Line(f"mAP on codes, {_TOGETHER}", "codes_map/joint/none"),
                Line(f"log loss of single latents, {_ALONE}", "probe_log_loss/independent/none"),
                Line("  untrained model", "probe_log_loss/independent/untrained"),
                Line("  unrelated rows (chance)", "probe_log_loss/independent/permuted"),
                Line(f"log loss of single latents, {_TOGETHER}", "probe_log_loss/joint/none"),
            ],
        ),
        _Section(
            "MEANING: does a latent stand for one thing?",
            "Monosemanticity: mean cosine of the features of the images on which it is active; 1 "
            "where they are all alike. Purity: share of its rows that carry its most frequent "
            "class. Mean over latents and streams.",
            [
                *_alone("monosemanticity_own", "monosemanticity, own features, "),
                *_alone("monosemanticity_cross", "monosemanticity, another's features, "),
                *_alone("purity", "purity, finest classes, "),
            ],
        ),
        _Section(
            "LATENTS: how many are alive, that is, active on any row?",
            "A dead latent was not active on any of these images. With 95% confidence it is active "
            "on at most the stated share of images of the kind. Share of the selection: of the "
            "latents that the streams select together, how many a "
            "stream would have selected alone; a stream with a large share decides for the others. "
            "Without it: how many of them the other streams still select.",
            [
                *(
                    Line(f"alive in {where}, {text}", f"alive_{name}/{mode}/none", ",.0f")
                    for mode, text in (("independent", _ALONE), ("joint", _TOGETHER))
                    for where, name in (
                        ("all streams", "everywhere"),
                        ("some", "somewhere"),
                        ("none", "nowhere"),
                    )
                ),
                Line("  images that these are counted on", "alive_images", ",.0f"),
                Line(
                    "  a latent not seen active is active on at most", "alive_unseen_share", ".2%"
                ),
                *(
                    line
                    for stream in streams
                    for line in (
                        Line(f"share of the selection: {stream}", f"selection/none/{stream}"),
                        Line(f"  still selected without {stream}", f"left_out_kept/none/{stream}"),
                    )
                ),
            ],
        ),
        _Section(
            "LOCALIZATION: does the map of a class's name point at its objects?",
            "Share of the objects whose map is strongest inside them, in images of several "
            "classes.",
            [line for stream in streams for line in _localization_lines(stream)],
        ),
    ]


def _localization_lines(stream: str) -> list[Line]:
    end = f"several/{stream}"
    return [
        Line(f"{stream}: map of the name", f"localization_pointing/text/{end}"),
        Line("  similarity of raw features", f"localization_pointing/raw_similarity/{end}"),
        Line("  a latent active in the image", f"localization_pointing/random_latent/{end}"),
        Line("  the image's centre", f"localization_pointing/centre/{end}"),
        Line("  present against absent names, AUC", f"localization_auc/text/{end}"),
    ]


_HOW_TO_READ = (
    "each alone: every stream of a row selects its own latents. together: they all select the same "
    "latents, so that they agree by construction and leak to each other what they select. Indented "
    "lines are controls: only what exceeds them was learnt. ±: half of a 95% interval, over other "
    "images of the same kind. -: undefined, or not measured in that report."
)

_ALONE = "each alone"
_TOGETHER = "together"


def _agreement_lines(reports: Sequence[Report]) -> list[Line]:
    """Streams that select alone at every depth, the finest first; the others at the finest."""
    depths = [agreement_depths(report) for report in reports]
    every = {depth for of_report in depths for depth in of_report if depth > 0}
    finest = {of_report[-1] for of_report in depths if of_report}

    def lines(depth: int, mode: str, text: str) -> list[Line]:
        def figure(kind: str, control: str) -> str:
            return f"agreement{kind}/{mode}/{control}/depth {depth}"

        return [
            Line(f"classes at depth {depth}, {text}", figure("", "none")),
            Line("  two latents of like frequency (chance)", figure("_mispaired", "none")),
            Line("  excess over chance", figure("_excess", "none")),
            Line("  untrained model", figure("", "untrained")),
            Line("  untrained model, excess over its chance", figure("_excess", "untrained")),
        ]

    return [
        *(x for depth in sorted(every, reverse=True) for x in lines(depth, "independent", _ALONE)),
        *(x for depth in sorted(finest, reverse=True) for x in lines(depth, "joint", _TOGETHER)),
    ]


def _with_controls(name: str, text: str) -> list[Line]:
    """A figure of streams that select alone and of those that select together, with controls."""
    return [*_alone(name, text), *_together(name, text)]


def _alone(name: str, text: str) -> list[Line]:
    """A figure of streams that select alone, with controls."""
    return [
        Line(f"{text}{_ALONE}", f"{name}/independent/none"),
        Line("  untrained model", f"{name}/independent/untrained"),
        Line("  unrelated rows (chance)", f"{name}/independent/permuted"),
    ]


def _together(name: str, text: str) -> list[Line]:
    """A figure of streams that select together, with controls."""
    return [
        Line(f"{text}{_TOGETHER}", f"{name}/joint/none"),
        Line("  untrained model", f"{name}/joint/untrained"),
        Line("  unrelated rows that selected together", f"{name}/joint/permuted_before"),
        Line("  unrelated rows (chance)", f"{name}/joint/permuted_after"),
    ]


def _heading(reports: Sequence[Report]) -> Iterator[str]:
    for report in reports:
        info = report.info
        yield printable(str(report.folder))
        yield f"  run     {printable(info.run)}"
        yield f"  cache   {printable(info.cache)}"
        sizes = f"{amount(info.rows, 'row')}, {amount(info.latents, 'latent')}, k {info.k}"
        yield from _wrapped(
            f"{sizes}, trained with {info.selection} selection; streams {', '.join(info.streams)}",
            indent="  ",
        )


def _column_names(reports: Sequence[Report]) -> list[str]:
    """The last parts of the reports' paths, as many as tell them apart."""
    paths = [str(report.folder).rstrip("/").split("/") for report in reports]
    different = len(set(map(tuple, paths)))
    for length in range(1, 1 + max(map(len, paths))):
        names = ["/".join(path[-length:]) for path in paths]
        if len(set(names)) == different:
            break
    return [shorten(name, COLUMN_WIDTH - 2) for name in names]


def _row(text: str, cells: Sequence[str]) -> str:
    shown = "".join(f"{cell:>{COLUMN_WIDTH}}" for cell in cells)
    return f"  {text:<{LABEL_WIDTH}}{shown}".rstrip()


def cell(summary: Mapping[str, float | None], line: Line) -> str:
    """A figure as tables show it, and behind it how far its interval goes to the farther side.

    Args:
        summary: Figures by name, as `checked_figures` gives them.
        line: The line of the table.

    Returns:
        The figure, followed by a margin of `MARGIN_WIDTH`, which is blank without an interval. A
        dash stands for a figure that is undefined, or was not measured.
    """
    value = summary.get(line.figure)
    if value is None:
        return "-" + " " * MARGIN_WIDTH
    name, _, rest = line.figure.partition("/")
    ends = [summary.get(f"{name}{end}/{rest}") for end in ENDS[1:]]
    distances = [abs(end - value) for end in ends if end is not None]
    margin = f" ±{max(distances):{line.style}}" if distances else ""
    return f"{value:{line.style}}{margin:<{MARGIN_WIDTH}}"


def _wrapped(text: str, *, indent: str = "") -> list[str]:
    return textwrap.wrap(text, PAGE_WIDTH, initial_indent=indent, subsequent_indent=indent)
