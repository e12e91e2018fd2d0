"""The command line `sparc-analyze browse`."""

from typing import Annotated

from sparc.analyze.arguments import REPORT, SITE
from sparc.analyze.browse.config import BrowseConfig
from sparc.common.cli import display


def browse(
    report: Annotated[str, REPORT], site: Annotated[str, SITE], config: BrowseConfig
) -> None:
    """Make pages that show what latents stand for."""
    from sparc.analyze.browse.build import browse
    from sparc.analyze.report.folder import Report
    from sparc.common.progress import say
    from sparc.common.text import amount, size

    made = browse(Report(report), site, config)
    if made.bytes:
        display(f"{amount(made.latents, 'latent')}, {size(made.bytes)}")
    for note in made.notes:
        say(note)
    display(f"open {made.start} in a browser")
