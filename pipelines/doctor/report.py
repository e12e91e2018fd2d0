"""All findings, and how they are shown."""

from collections.abc import Iterator, Sequence

from sparc.pipelines.doctor.finding import Finding
from sparc.pipelines.doctor.hub import hub
from sparc.pipelines.doctor.machine import machine
from sparc.pipelines.doctor.software import software


def findings() -> list[Finding]:
    """Everything that is looked at; asks the model hub whether it is there."""
    return [*software(), *machine(), *hub()]


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Findings as lines, what is missing with the way out below it."""
    for topic, text, advice, is_fault in findings:
        mark = "!" if is_fault else "-" if advice else " "
        yield f"{mark} {topic:<9} {text}"
        if advice:
            yield f"  {'':<9} {advice}"
    faults = sum(finding.is_fault for finding in findings)
    yield ""
    yield "SPARC will not run like this: mend what is marked !" if faults else "SPARC can run here"
