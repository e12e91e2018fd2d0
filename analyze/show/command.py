"""The command line `sparc-analyze show`."""

from typing import Annotated

from sparc.analyze.arguments import REPORT
from sparc.analyze.show.config import ShowConfig
from sparc.common.cli.output import display


def show(report: Annotated[str, REPORT], config: ShowConfig) -> None:
    """Show a latent: names, classes, images, agreement."""
    from sparc.analyze.concepts.gather import Evidence
    from sparc.analyze.report.folder import Report
    from sparc.analyze.show.latent import latent
    from sparc.analyze.show.page import show
    from sparc.common.progress import say

    assert config.latent is not None
    evidence = Evidence(Report(report), config.cache)
    shown = latent(evidence, config.latent)
    display(show(shown))
    if config.sheet is not None:
        from sparc.analyze.search.tiles import unreadable
        from sparc.analyze.show.sheet import latent_sheet

        missing = latent_sheet(shown, evidence.cache, config.sheet, dataset=config.dataset)
        say(f"{config.sheet} shows them")
        if missing:
            say(unreadable(missing, evidence.cache))
