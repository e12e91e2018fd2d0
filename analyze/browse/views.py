"""The data files that only some views of a site need."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sparc.analyze.browse.config import BrowseConfig
from sparc.analyze.browse.contents.index import Column, Views
from sparc.analyze.browse.contents.scripts import script
from sparc.analyze.browse.contents.views import BiasReports, Comparisons, Map
from sparc.analyze.browse.gather.bias import bias_report
from sparc.analyze.browse.gather.compare import compare_reports, stability_column
from sparc.analyze.browse.gather.gathered import Gathered
from sparc.analyze.browse.gather.plane import place_latents
from sparc.analyze.browse.gather.words import index_words


class MadeViews(NamedTuple):
    """The files of the views of a site.

    Attributes:
        views: Which views there are.
        files: By name in the site, their content.
        notes: Why there are no others.
        columns: Columns of the list that come from them.
        plane: The map; None if there is none.
    """

    views: Views
    files: Mapping[str, bytes]
    notes: tuple[str, ...]
    columns: tuple[Column, ...]
    plane: Map | None


def make_views(gathered: Gathered, config: BrowseConfig) -> MadeViews:
    """Make the files of the views that were asked for.

    Raises:
        SparcError: An attribute names what is not there, or all images have it or none.
    """
    contents: dict[str, Any] = {}
    notes = []
    reports = tuple(
        bias_report(gathered.evidence.report, asked, cache=config.cache, workers=config.workers)
        for asked in config.bias
    )
    if reports:
        contents["bias"] = BiasReports(reports=reports)
    if compared := compare_reports(gathered, config.compare):
        contents["compare"] = Comparisons(reports=compared)
    words = index_words(gathered)
    if words.words:
        contents["words"] = words
    plane = place_latents(gathered) if config.map else ""
    if isinstance(plane, Map):
        contents["map"] = plane
    elif plane:
        notes.append(f"there is no map of latents: {plane}")
    return MadeViews(
        Views(**dict.fromkeys(contents, True)),
        {f"data/{name}.js": script(name, content) for name, content in contents.items()},
        tuple(notes),
        tuple(map(stability_column, compared[:1])),
        plane if isinstance(plane, Map) else None,
    )
