"""The command line `sparc-analyze stability`."""

from typing import Annotated

from sparc.analyze.arguments import OTHER_RUN, RUN
from sparc.analyze.stability.config import StabilityConfig
from sparc.common.cli.output import display


def stability(
    run: Annotated[str, RUN], other: Annotated[str, OTHER_RUN], config: StabilityConfig
) -> None:
    """Measure how many latents of a run another run has learned."""
    from sparc.analyze.stability.compare import compare
    from sparc.analyze.stability.page import show

    display(show(compare(run, other, config)))
