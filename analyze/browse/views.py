"""The data files that only some views of a site need."""

from sparc.analyze.browse.config import BrowseConfig
from sparc.analyze.browse.contents.index import Views
from sparc.analyze.browse.contents.scripts import script
from sparc.analyze.browse.contents.views import Map
from sparc.analyze.browse.folder import SiteFolder
from sparc.analyze.browse.gather.gathered import Gathered
from sparc.analyze.browse.gather.plane import place_latents
from sparc.analyze.browse.gather.words import index_words


def write_views(
    site: SiteFolder, gathered: Gathered, config: BrowseConfig
) -> tuple[Views, list[str]]:
    """Write the files of the views that were asked for.

    Args:
        site: The site.
        gathered: The report.
        config: The settings.

    Returns:
        Which views there are, and why others are not.
    """
    words = index_words(gathered)
    site.write("data/words.js", script("words", words))
    plane = place_latents(gathered) if config.map else ""
    if isinstance(plane, Map):
        site.write("data/map.js", script("map", plane))
    notes = [f"there is no map of latents: {plane}"] if plane and isinstance(plane, str) else []
    return Views(words=bool(words.words), map=isinstance(plane, Map)), notes
