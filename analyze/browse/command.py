"""The command line `sparc-analyze browse`."""

import shlex
from typing import Annotated

from sparc.analyze.arguments import REPORT, SITE
from sparc.analyze.browse.config import BrowseConfig
from sparc.common.cli.output import confirm, display
from sparc.common.errors import ConfigError


def browse(
    report: Annotated[str, REPORT], site: Annotated[str, SITE], config: BrowseConfig
) -> None:
    """Make pages that show what latents stand for."""
    from sparc.analyze.browse.build import browse
    from sparc.analyze.report.folder import Report
    from sparc.common.files.folder import Folder
    from sparc.common.progress import say
    from sparc.common.text import amount, size

    _refuse_swapped(report, site)
    if config.overwrite and Folder(site).exists():
        confirm(f"Remove the site in {site}?")
    made = browse(Report(report), site, config)
    if made.bytes:
        display(f"{amount(made.latents, 'latent')}, {size(made.bytes)}")
    for note in made.notes:
        say(note)
    display(f"open {made.start} in a browser")


def _refuse_swapped(report: str, site: str) -> None:
    from sparc.common.files.artefacts import kind_of
    from sparc.common.files.folder import Folder

    if kind_of(Folder(site)) == "report" and kind_of(Folder(report)) != "report":
        command = shlex.join(["sparc-analyze", "browse", site, report])
        raise ConfigError(f"{site} is a report, and the report comes first: `{command}`")
