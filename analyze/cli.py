"""The command line `sparc-analyze`.

A question that one asks of a report or a run is a folder: its settings in `config.py`, its command
line in `command.py`, and modules that compute the answer and show it. How to add one: such a folder
(and its line in `pyproject.toml`), a line at the end of this module, and the name of its table of
settings in `sparc.common.config.TABLES`. Settings that other commands have as well come from
`sparc.analyze.options`.
"""

import shlex
from typing import Annotated

from sparc.analyze.arguments import CACHE, NEW_REPORT, REPORT, REPORTS, RUN
from sparc.analyze.bias.config import BiasConfig
from sparc.analyze.browse.command import browse
from sparc.analyze.browse.config import BrowseConfig
from sparc.analyze.concepts.command import concepts
from sparc.analyze.concepts.config import ConceptsConfig
from sparc.analyze.config import AnalyzeConfig, CompareConfig
from sparc.analyze.localize.command import localize
from sparc.analyze.localize.config import LocalizeConfig
from sparc.analyze.name.command import name
from sparc.analyze.name.config import NameConfig
from sparc.analyze.search.command import search
from sparc.analyze.search.config import SearchConfig
from sparc.analyze.show.command import show
from sparc.analyze.show.config import ShowConfig
from sparc.analyze.stability.command import stability
from sparc.analyze.stability.config import StabilityConfig
from sparc.common import heap
from sparc.common.cli.app import command, new_app, overwrite_option
from sparc.common.cli.output import confirm, display

app = new_app("Evaluate a trained dictionary: what its latents stand for and where streams agree.")

_HEAP = (heap.share, heap.map_large_arrays)
"""For commands that read parts of a cache in many threads: large arrays come and go in all."""


@command(app, AnalyzeConfig, "analyze", prepare=_HEAP)
def run(
    run: Annotated[str, RUN],
    cache: Annotated[str, CACHE],
    report: Annotated[str, NEW_REPORT],
    config: AnalyzeConfig,
    overwrite: Annotated[bool, overwrite_option("report")] = False,
) -> None:
    """Write codes, tables and a summary of a run on a cache."""
    from sparc.analyze.report.renderers.text import render
    from sparc.analyze.report.summary_page import small_samples, summary_page
    from sparc.analyze.run import analyze
    from sparc.common.files.folder import Folder
    from sparc.common.files.paths import is_url
    from sparc.common.progress import say

    if overwrite and Folder(report).exists():
        confirm(f"Remove the report in {report}?")
    finished = analyze(run, cache, report, config, overwrite=overwrite)
    display(render(summary_page([finished])))
    for line in small_samples([finished]):
        say(line)
    shared = ["--shared"] if len(finished.info.streams) > 1 else []
    # URLs that a report records are not followed, so whoever asks it types them again.
    at_cache = ["--cache", cache] if is_url(cache) else []
    at_run = ["--run", run] if is_url(run) else []
    question = shlex.join(["sparc-analyze", "concepts", report, *shared, *at_cache])
    say(f"next: `{question}` lists {'shared concepts' if shared else 'its concepts'}")
    site = f"{report.rstrip('/')}-site"
    pages = shlex.join(["sparc-analyze", "browse", report, site, *at_run, *at_cache])
    say(f"or `{pages}` makes pages to look at them in a browser")


@command(app, CompareConfig, "compare")
def compare(reports: Annotated[list[str], REPORTS], config: CompareConfig) -> None:
    """Show the summaries of several reports side by side."""
    from sparc.analyze.report.folder import Report
    from sparc.analyze.report.renderers.text import render
    from sparc.analyze.report.summary_file import write_summary
    from sparc.analyze.report.summary_page import small_samples, summary_page
    from sparc.common.progress import say

    opened = [Report(location) for location in reports]
    page = summary_page(opened)
    if config.summary is not None:
        write_summary(config.summary, page)
    display(render(page))
    for line in small_samples(opened):
        say(line)


@command(app, BiasConfig, "bias", prepare=_HEAP)
def bias(report: Annotated[str, REPORT], config: BiasConfig) -> None:
    """Find latents, and pairs, associated with an image attribute."""
    from sparc.analyze.bias.command import bias, show
    from sparc.analyze.report.folder import Report

    display(show(bias(Report(report), config), config))


command(app, ConceptsConfig, "concepts")(concepts)
command(app, ShowConfig, "show")(show)
command(app, BrowseConfig, "browse", prepare=_HEAP)(browse)
command(app, SearchConfig, "search")(search)
command(app, NameConfig, "name")(name)
command(app, StabilityConfig, "stability")(stability)
command(app, LocalizeConfig, "localize")(localize)

if __name__ == "__main__":
    app()
