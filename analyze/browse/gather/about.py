"""What a site's report is about, and its run where that is at hand."""

from typing import NamedTuple

from sparc.analyze.browse.contents.index import AboutReport, Stream
from sparc.analyze.codes.subject import Subject
from sparc.analyze.concepts.gather import Evidence
from sparc.analyze.report.folder import Report
from sparc.analyze.report.sources import open_model
from sparc.common.errors import SparcError
from sparc.common.files.folder import Folder
from sparc.common.files.shipped import located
from sparc.train.run.run_folder import RunRecord, is_run


class Run(NamedTuple):
    """The run of a report.

    Attributes:
        subject: Its model, without the untrained one.
        recipe: The recipe that it was trained by; None of a saved model.
    """

    subject: Subject
    recipe: str | None


def open_run(report: Report, location: str) -> Run | str:
    """The run of a report; or why it is not at hand, in words.

    Args:
        report: The report.
        location: Where the run is if it has moved; empty: the recorded place.

    Raises:
        RunError: A place was given, and holds no run or another one.
    """
    try:
        model = open_model(report, location)
    except SparcError as error:
        if location:
            raise
        return str(error)
    where = located(location or report.info.run, "run")
    folder = Folder(where)
    record = RunRecord.read(folder) if is_run(folder) else None
    subject = Subject(
        location=where,
        model=model,
        untrained=None,
        digest=report.info.model_sha256,
        trained_on=record.data.streams if record else None,
    )
    return Run(subject, record.train.recipe if record else None)


def about_report(evidence: Evidence, recipe: str | None) -> AboutReport:
    """What the start page says of a report.

    Args:
        evidence: The report.
        recipe: The recipe of its run; None where that is not known.
    """
    info, cache = evidence.report.info, evidence.cache
    return AboutReport(
        location=str(evidence.report.folder),
        run=info.run,
        cache=info.cache,
        dataset=cache.info.dataset,
        rows=info.rows,
        images=int(evidence.images.analysed.sum()),
        latents=info.latents,
        k=info.k,
        classes=0 if evidence.labels is None else len(cache.classes()),
        captions="naming" in evidence.report.tables,
        recipe=recipe,
        versions=info.versions,
    )


def streams(evidence: Evidence) -> tuple[Stream, ...]:
    """The streams of a report, in the model's order."""
    infos = [evidence.cache.stream(name) for name in evidence.streams]
    return tuple(
        Stream(
            name=info.name,
            modality=info.modality,
            encoder="" if info.origin.spec == "array" else info.origin.spec,
            dim=info.dim,
        )
        for info in infos
    )
