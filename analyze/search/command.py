"""The command line `sparc-analyze search`."""

from typing import Annotated

from sparc.analyze.arguments import REPORT
from sparc.analyze.search.config import SearchConfig
from sparc.common.cli.output import display


def search(report: Annotated[str, REPORT], config: SearchConfig) -> None:
    """Find images by text, image, row or latent, in any stream."""
    from sparc.analyze.report.folder import Report
    from sparc.analyze.search.once import open_searcher, search_once
    from sparc.analyze.search.page import show, title
    from sparc.common.progress import say

    searcher = open_searcher(Report(report), config)
    table = search_once(searcher, config)
    display(show(table))
    if config.sheet is not None:
        from sparc.analyze.search.contact_sheet import contact_sheet
        from sparc.analyze.search.tiles import unreadable

        heading = title(searcher.stream, config)
        missing = contact_sheet(
            table, searcher.cache, config.sheet, title=heading, dataset=config.dataset
        )
        say(f"{config.sheet} shows them")
        if missing:
            say(unreadable(missing, searcher.cache))
