"""Other reports beside this one: which of their latents are the same, gained and lost."""

from collections.abc import Sequence

import numpy as np

from sparc.analyze.browse.contents import columns as encoded
from sparc.analyze.browse.contents.index import Column
from sparc.analyze.browse.contents.views import Comparison, Matches, OtherLatent
from sparc.analyze.browse.gather.about import Run, open_run
from sparc.analyze.browse.gather.gathered import Gathered
from sparc.analyze.browse.gather.headlines import headlines
from sparc.analyze.browse.gather.tables import Tables
from sparc.analyze.codes.subject import Subject
from sparc.analyze.report.folder import Report
from sparc.analyze.report.summary_page import make_columns
from sparc.analyze.stability.compare import common_streams, directions_of
from sparc.analyze.stability.match import match_jointly
from sparc.common.errors import RunError

LIMIT = 0.7
"""Two latents are the same concept where the mean cosine of their decoder rows exceeds this."""


def compare_reports(gathered: Gathered, locations: Sequence[str]) -> tuple[Comparison, ...]:
    """Other reports beside this one.

    Args:
        gathered: This report.
        locations: The other reports; their runs are where they were.

    Raises:
        SparcError: One is no finished report, or its run is not there, or two streams of
            one name come from different encoders.
    """
    if not locations:
        return ()
    report = gathered.evidence.report
    others = [Report(location) for location in locations]
    names = [column.name for column in make_columns([report, *others])][1:]
    own = _subject(gathered.run)
    return tuple(
        _compare(gathered, own, other, name) for other, name in zip(others, names, strict=True)
    )


def stability_column(comparison: Comparison) -> Column:
    """How alike each latent's partner in another report is, as a column of the list."""
    return Column(
        key="stability",
        label=f"in {comparison.name}",
        help=f"Cosine of its decoder rows with those of its partner in {comparison.name}; above "
        f"{comparison.limit} it is the same concept.",
        group="stability",
        kind="share",
        data=comparison.latents.similarity,
    )


def _subject(run: Run | str) -> Subject:
    if isinstance(run, str):  # why it is not at hand
        raise RunError(run)
    return run.subject


def _compare(gathered: Gathered, own: Subject, report: Report, name: str) -> Comparison:
    subject = _subject(open_run(report, ""))
    streams = common_streams(own, subject)
    matching = match_jointly(
        directions_of(own.model, streams), directions_of(subject.model, streams)
    )
    latents = gathered.tables.latents
    partner, cosine = np.full(latents, -1), np.full(latents, np.nan)
    cosine[matching.first] = matching.cosine
    same = matching.cosine > LIMIT
    partner[matching.first[same]] = matching.second[same]
    tables = Tables(report, [])
    unmatched = ~tables.dead
    unmatched[matching.second[same]] = False
    gained = np.flatnonzero(unmatched).tolist()
    listed = sorted({*gained, *matching.second[same].tolist()})
    return Comparison(
        name=name,
        location=str(report.folder),
        limit=LIMIT,
        latents=Matches(match=encoded.places(partner), similarity=encoded.floats(cosine)),
        headlines=headlines(report),
        gained=tuple(gained),
        lost=tuple(np.flatnonzero(~gathered.tables.dead & (partner < 0)).tolist()),
        details={latent: _other(tables, latent) for latent in listed},
        notes=_notes(gathered, report),
    )


def _other(tables: Tables, latent: int) -> OtherLatent:
    streams = [stream for mode, stream in tables.of_latents if mode == "independent"]
    names = {stream: tables.called(stream, latent) for stream in streams}
    return OtherLatent(names={stream: name for stream, name in names.items() if name})


def _notes(gathered: Gathered, report: Report) -> tuple[str, ...]:
    if report.info.manifest_digest == gathered.evidence.report.info.manifest_digest:
        return ()
    return ("the two reports are about other rows: only their models' latents can be compared",)
