"""The command line `sparc-analyze concepts`."""

from typing import Annotated

from sparc.analyze.arguments import REPORT
from sparc.analyze.concepts.config import ConceptsConfig
from sparc.common.cli.output import display


def concepts(report: Annotated[str, REPORT], config: ConceptsConfig) -> None:
    """List latents that streams share, or that only one has."""
    from sparc.analyze.concepts.find import concepts
    from sparc.analyze.concepts.page import show
    from sparc.analyze.report.folder import Report

    display(show(concepts(Report(report), config), config))
