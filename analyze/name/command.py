"""The command line `sparc-analyze name`."""

from typing import Annotated

from sparc.analyze.arguments import REPORT
from sparc.analyze.name.config import NameConfig
from sparc.common.cli.output import display


def name(report: Annotated[str, REPORT], config: NameConfig) -> None:
    """Name latents by a list of words, through the text stream."""
    from sparc.analyze.name.page import show
    from sparc.analyze.name.word_list import name_by_words
    from sparc.analyze.report.folder import Report

    display(show(name_by_words(Report(report), config)))
