"""What the commands of `sparc-analyze` take by position, each declared once."""

import typer

RUN = typer.Argument(
    metavar="RUN", help="A run's folder, a saved model's folder, or a hub repository."
)
OTHER_RUN = typer.Argument(metavar="RUN", help="Another run on the same encoders.")
CACHE = typer.Argument(metavar="CACHE", help="The activation cache to measure on.")
NEW_REPORT = typer.Argument(
    metavar="REPORT", help="The report's folder; run again to continue after an interruption."
)
REPORT = typer.Argument(metavar="REPORT", help="A finished report.")
REPORTS = typer.Argument(metavar="REPORT", help="Finished reports.")
SITE = typer.Argument(
    metavar="SITE", help="The site's folder; run again to continue after an interruption."
)
IMAGES = typer.Argument(
    metavar="IMAGE", help="Files of images; none to score a cache.", show_default=False
)
