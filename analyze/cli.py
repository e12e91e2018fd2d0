"""The command line `sparc-analyze`."""

from typing import Annotated

import typer

from sparc.analyze.config import AnalyzeConfig, BiasConfig
from sparc.common.cli import command, new_app

app = new_app("Measure what a trained dictionary says, and what its streams agree on.")

_RUN = typer.Argument(help="A run's folder, a saved model's folder, or a hub repository.")
_CACHE = typer.Argument(help="The activation cache to measure on.")
_REPORT = typer.Argument(help="The report's folder; run again to go on after an interruption.")
_FINISHED = typer.Argument(help="A finished report.")
_REPORTS = typer.Argument(help="Finished reports.")


@command(app, AnalyzeConfig, "analyze")
def run(
    run: Annotated[str, _RUN],
    cache: Annotated[str, _CACHE],
    report: Annotated[str, _REPORT],
    config: AnalyzeConfig,
) -> None:
    """Write codes, tables and a summary of a run on a cache."""
    from sparc.analyze.analysis import analyze
    from sparc.analyze.summary import summarize

    typer.echo(summarize([analyze(run, cache, report, config)]))


@command(app)
def compare(reports: Annotated[list[str], _REPORTS]) -> None:
    """Show the summaries of several reports side by side."""
    from sparc.analyze.report import Report
    from sparc.analyze.summary import summarize

    typer.echo(summarize([Report(location) for location in reports]))


@command(app, BiasConfig, "bias")
def bias(report: Annotated[str, _FINISHED], config: BiasConfig) -> None:
    """Find the latents, and pairs of them, that go with an attribute of pictures."""
    from sparc.analyze.bias_report import bias, show
    from sparc.analyze.report import Report

    typer.echo(show(bias(Report(report), config), config))


if __name__ == "__main__":
    app()
