"""The command line `sparc-analyze`."""

from typing import Annotated

import typer

from sparc.analyze.config import (
    AnalyzeConfig,
    BiasConfig,
    NameConfig,
    SearchConfig,
    StabilityConfig,
)
from sparc.analyze.localize.config import LocalizeConfig
from sparc.common import heap
from sparc.common.cli import command, display, new_app
from sparc.common.text import printable

app = new_app("Measure what a trained dictionary says, and what its streams agree on.")

_RUN = typer.Argument(
    metavar="RUN", help="A run's folder, a saved model's folder, or a hub repository."
)
_OTHER = typer.Argument(metavar="RUN", help="Another run on the same encoders.")
_CACHE = typer.Argument(metavar="CACHE", help="The activation cache to measure on.")
_REPORT = typer.Argument(
    metavar="REPORT", help="The report's folder; run again to go on after an interruption."
)
_FINISHED = typer.Argument(metavar="REPORT", help="A finished report.")
_REPORTS = typer.Argument(metavar="REPORT", help="Finished reports.")
_IMAGES = typer.Argument(
    metavar="IMAGE", help="Files of images; none to score a cache.", show_default=False
)

_HEAP = (heap.share, heap.map_large_arrays)
"""For commands that read parts of a cache in many threads: large arrays come and go in all."""


@command(app, AnalyzeConfig, "analyze", prepare=_HEAP)
def run(
    run: Annotated[str, _RUN],
    cache: Annotated[str, _CACHE],
    report: Annotated[str, _REPORT],
    config: AnalyzeConfig,
) -> None:
    """Write codes, tables and a summary of a run on a cache."""
    from sparc.analyze.report.summary_page import summary_page
    from sparc.analyze.report.text import render
    from sparc.analyze.run import analyze

    display(render(summary_page([analyze(run, cache, report, config)])))


@command(app)
def compare(reports: Annotated[list[str], _REPORTS]) -> None:
    """Show the summaries of several reports side by side."""
    from sparc.analyze.report.folder import Report
    from sparc.analyze.report.summary_page import summary_page
    from sparc.analyze.report.text import render

    display(render(summary_page([Report(location) for location in reports])))


@command(app, BiasConfig, "bias", prepare=_HEAP)
def bias(report: Annotated[str, _FINISHED], config: BiasConfig) -> None:
    """Find latents, and pairs, that go with an attribute of images."""
    from sparc.analyze.bias.command import bias, show
    from sparc.analyze.report.folder import Report

    display(show(bias(Report(report), config), config))


@command(app, SearchConfig, "search")
def search(report: Annotated[str, _FINISHED], config: SearchConfig) -> None:
    """Find images by a text, an image or a row, in any stream."""
    from sparc.analyze.report.folder import Report
    from sparc.analyze.report.output import write_table
    from sparc.analyze.report.sources import open_cache
    from sparc.analyze.report.tables import described
    from sparc.analyze.search.searcher import search, show, title
    from sparc.common.text import amount

    opened = Report(report)
    found = search(opened, config)
    display(show(found))
    if config.out is not None:
        write_table(config.out, described(found, "search", opened.about("search", config)))
    if config.sheet is not None:
        from sparc.analyze.search.contact_sheet import contact_sheet

        cache = open_cache(opened, config.cache)
        missing = contact_sheet(
            found, cache, config.sheet, title=title(opened, config), dataset=config.dataset
        )
        if missing:
            typer.echo(
                f"{amount(missing, 'image')} could not be read and left an empty frame; if the "
                "dataset has moved, say with --dataset where it is",
                err=True,
            )


@command(app, NameConfig, "name")
def name(report: Annotated[str, _FINISHED], config: NameConfig) -> None:
    """Name latents by a list of words, through the text stream."""
    from sparc.analyze.name.word_list import name, show
    from sparc.analyze.report.folder import Report

    display(show(name(Report(report), config)))


@command(app, StabilityConfig, "stability")
def stability(
    run: Annotated[str, _RUN], other: Annotated[str, _OTHER], config: StabilityConfig
) -> None:
    """Tell how many of a run's latents another run has found as well."""
    from sparc.analyze.stability.command import compare, show

    display(show(compare(run, other, config)))


@command(app, LocalizeConfig, "localize")
def localize(
    run: Annotated[str, _RUN],
    config: LocalizeConfig,
    images: Annotated[list[str] | None, _IMAGES] = None,
) -> None:
    """Show where in images a text or a latent is. With --cache alone, score maps on its masks."""
    from sparc.analyze.localize import command as localization

    if config.cache and not images:
        display(localization.describe_scores(localization.score_localization(run, config)))
        return
    for path in localization.localize_images(run, images or [], config):
        display(printable(str(path)))


if __name__ == "__main__":
    app()
