"""The command line `sparc-analyze localize`."""

from typing import Annotated

from sparc.analyze.arguments import IMAGES, RUN
from sparc.analyze.localize.config import LocalizeConfig
from sparc.common.cli.output import display
from sparc.common.text import printable


def localize(
    run: Annotated[str, RUN],
    config: LocalizeConfig,
    images: Annotated[list[str] | None, IMAGES] = None,
) -> None:
    """Show where in images a text or a latent is. Without images, score maps on --cache's masks."""
    if config.cache and not images:
        from sparc.analyze.localize.scores import score_localization, show

        display(show(score_localization(run, config)))
        return
    from sparc.analyze.localize.maps import localize_images

    for path in localize_images(run, images or [], config):
        display(printable(str(path)))
