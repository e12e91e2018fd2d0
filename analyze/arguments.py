"""What the commands of `sparc-analyze` take by position, each declared once."""

import typer

from sparc.common.cli.completion import autocompletion
from sparc.common.cli.suggestions import artefacts

_CACHES = autocompletion(artefacts("cache"))
_REPORTS = autocompletion(artefacts("report"))
_RUNS = autocompletion(artefacts("run"))

RUN = typer.Argument(
    metavar="RUN",
    help="A run's folder, a saved model's folder, or a hub repository; `demo` ships with SPARC.",
    autocompletion=_RUNS,
)
OTHER_RUN = typer.Argument(
    metavar="RUN", help="Another run on the same encoders.", autocompletion=_RUNS
)
CACHE = typer.Argument(
    metavar="CACHE",
    help="The activation cache to measure on; `demo` ships with SPARC.",
    autocompletion=_CACHES,
)
NEW_REPORT = typer.Argument(
    metavar="REPORT",
    help="The report's folder; run again to continue after an interruption.",
    autocompletion=_REPORTS,
)
REPORT = typer.Argument(
    metavar="REPORT",
    help="A finished report; `demo` ships with SPARC.",
    autocompletion=_REPORTS,
)
REPORTS = typer.Argument(metavar="REPORT", help="Finished reports.", autocompletion=_REPORTS)
SITE = typer.Argument(
    metavar="SITE", help="The site's folder; run again to continue after an interruption."
)
IMAGES = typer.Argument(
    metavar="IMAGE", help="Files of images; none to score a cache.", show_default=False
)
