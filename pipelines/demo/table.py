"""The demo's one table: SPARC beside the baseline, with the controls of every figure."""

import textwrap
from collections.abc import Mapping
from pathlib import Path

from sparc.analyze.report.folder import Report
from sparc.analyze.report.summary import Line, agreement_depths, cell, checked_figures

_WIDTH = 92
_TEXT_WIDTH = 60
_CELL_WIDTH = 16

_READING = """\
What was learnt stands in the upper part: there each model of the three (a "stream") chooses its
latents without seeing the others. SPARC should rebuild one stream from the code of another with a
lower error, find an image's caption more often, and use a latent for the same classes in every
stream. Any two latents agree in part: the excess says how much of the way from there to 1 is gone.
What exceeds the untrained model and unrelated rows was learnt from the scenes. Behind ± stands half
of a 95% interval: how far other scenes of the kind would move the figure; counts of latents have
none.
The lower part is given, not learnt: streams that select together get the same latents, so their
agreement is high even for an untrained model."""


def comparison(folder: Path, locations: Mapping[str, Path]) -> str:
    """The table, how to read it, and where to go from there.

    Args:
        folder: The demo's folder.
        locations: The finished reports by the names of their models.

    Raises:
        ReportError: A report is not there, damaged, or lacks a figure that it must have.
    """
    reports = {name: Report(location) for name, location in locations.items()}
    summaries = [checked_figures(report) for report in reports.values()]
    some = next(iter(reports.values()))
    rows = [
        "",
        f"{some.info.rows:,} rows of held-out scenes, {some.info.latents:,} latents, "
        f"{some.info.k} for a row; streams {', '.join(some.info.streams)}",
        "",
        " " * _TEXT_WIDTH + "".join(f"{name:>{_CELL_WIDTH}}" for name in reports),
    ]
    for line in _lines(some):
        cells = [_cell(summary, line) for summary in summaries]
        if line.figure or not rows[-1]:
            rows.append(f"{line.text:<{_TEXT_WIDTH}}{''.join(cells)}".rstrip())
        else:
            rows += ["", line.text]
    places = " ".join(map(str, locations.values()))
    return "\n".join(
        [
            *rows,
            "",
            *textwrap.wrap(_READING.replace("\n", " "), _WIDTH),
            "",
            "Where to go from here:",
            f"  the reports                       {folder / 'reports'} (Parquet tables)",
            f"  every figure, side by side        sparc-analyze compare {places}",
            f"  what the encoders have written    sparc-extract inspect {folder / 'caches/train'}",
            f"  how the training went             sparc-train inspect {folder / 'runs/sparc'}",
            f"  the images                      {folder / 'scenes/images'}",
            *(
                [f"  maps of names over some of them   {sheet}"]
                if (sheet := folder / "localized/contact-sheet.png").exists()
                else []
            ),
        ]
    )


def _lines(report: Report) -> list[Line]:
    depths = agreement_depths(report)
    finest = f"depth {depths[-1]}" if depths else ""
    alone = "agreement/independent"
    together = "agreement/joint"
    return [
        Line("EACH STREAM SELECTS ALONE: this is learnt"),
        *(
            line
            for d in depths
            if d > 0
            for line in (
                Line(
                    f"  agreement on {_DEPTHS.get(d, f'classes at depth {d}')}",
                    f"{alone}/none/depth {d}",
                ),
                Line("    any two latents", f"agreement_mispaired/independent/none/depth {d}"),
                Line("    excess over these", f"agreement_excess/independent/none/depth {d}"),
                Line("    excess, untrained", f"agreement_excess/independent/untrained/depth {d}"),
            )
        ),
        Line("  cross-reconstruction, NMSE (lower is better)", "nmse_cross/independent/none"),
        Line("    untrained", "nmse_cross/independent/untrained"),
        Line("  explained variance of it", "explained_variance_cross/independent/none"),
        Line("  retrieval, R@1", "codes_r_at_1/independent/none"),
        Line("    untrained", "codes_r_at_1/independent/untrained"),
        Line("    unrelated rows", "codes_r_at_1/independent/permuted"),
        Line("  retrieval, R@10", "codes_r_at_10/independent/none"),
        Line("THE STREAMS SELECT TOGETHER: this is given by construction"),
        Line("  agreement on emoji", f"{together}/none/{finest}"),
        Line("    any two latents", f"agreement_mispaired/joint/none/{finest}"),
        Line("    excess over these", f"agreement_excess/joint/none/{finest}"),
        Line("    excess, untrained", f"agreement_excess/joint/untrained/{finest}"),
        Line("  cross-reconstruction, NMSE", "nmse_cross/joint/none"),
        Line("  retrieval, R@1: a leak", "codes_r_at_1/joint/none"),
        *_localization_lines(report),
        Line("LATENTS"),
        Line("  alive in all streams, each alone", "alive_everywhere/independent/none", ",.0f"),
        Line("  dead in all streams, each alone", "alive_nowhere/independent/none", ",.0f"),
        Line("    such a latent is active (95%) on at most", "alive_unseen_share", ".2%"),
    ]


_POINTING = "localization_pointing"
_AUC = "localization_auc"


def _localization_lines(report: Report) -> list[Line]:
    # Image streams have maps; text streams weigh words, which are not scored.
    streams = [s for s in report.info.streams if f"{_POINTING}/text/several/{s}" in report.summary]
    if not streams:
        return []
    return [
        Line("THE MAP OF AN OBJECT'S NAME points at it, in scenes of several objects"),
        *(
            line
            for stream in streams
            for line in (
                Line(f"  in {stream}", f"{_POINTING}/text/several/{stream}"),
                Line(
                    "    a latent active in the scene",
                    f"{_POINTING}/random_latent/several/{stream}",
                ),
                Line("    the centre of the scene", f"{_POINTING}/centre/several/{stream}"),
                Line("    present against absent names, AUC", f"{_AUC}/text/several/{stream}"),
            )
        ),
    ]


_DEPTHS = {1: "groups (animals, food, …)", 2: "subgroups (birds, fruit, …)", 3: "emoji (owl, …)"}


def _cell(summary: Mapping[str, float | None], line: Line) -> str:
    return f"{cell(summary, line):>{_CELL_WIDTH}}" if line.figure else ""
