"""What a report will hold: which codes, which measures, and what is left out and why."""

from collections.abc import Iterable, Iterator, Sequence

from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.codes.subject import Subject
from sparc.analyze.config import AnalyzeConfig
from sparc.analyze.measure import Measure, Scope, Step, Table
from sparc.analyze.report.notes import Note
from sparc.common.text import amount, listed


def choose_code_sets(subject: Subject, config: AnalyzeConfig) -> tuple[CodeSet, ...]:
    """The sets of codes that are measured, in the order of the tables."""
    sets = [CodeSet("joint"), CodeSet("independent")]
    if config.permuted:
        sets += [
            CodeSet("joint", "permuted_before"),
            CodeSet("joint", "permuted_after"),
            CodeSet("independent", "permuted"),
        ]
    if config.untrained and subject.untrained is not None:
        sets += [CodeSet("joint", "untrained"), CodeSet("independent", "untrained")]
    return tuple(sets)


def choose_measures(
    measures: Iterable[Measure], *, labelled: bool, captioned: bool
) -> list[Measure]:
    """The measures whose needs are met.

    Args:
        measures: All measures.
        labelled: Whether any analysed row has a label.
        captioned: Whether any row has a caption.
    """
    return [
        measure
        for measure in measures
        if (labelled or not measure.needs.labels) and (captioned or not measure.needs.captions)
    ]


def plan_steps(measures: Sequence[Measure], code_sets: Sequence[CodeSet]) -> list[Step]:
    """The steps of some measures; those of one name follow each other."""
    by_name: dict[str, list[Step]] = {}
    for step in _steps(measures, code_sets):
        by_name.setdefault(step.name, []).append(step)
    return [step for steps in by_name.values() for step in steps]


def tables_by_step(steps: Iterable[Step]) -> dict[str, tuple[str, ...]]:
    """By name of the steps, in their order, the tables that they have pieces of."""
    result: dict[str, tuple[str, ...]] = {}
    for step in steps:
        result[step.name] = (*result.get(step.name, ()), *step.tables)
    return result


def _steps(measures: Sequence[Measure], code_sets: Sequence[CodeSet]) -> Iterator[Step]:
    planned = [(measure, measure.steps) for measure in measures if measure.steps is not None]
    for code_set in code_sets:
        for measure, steps in planned:
            if steps.each == "code_set" and (tables := _tables(measure, code_set)):
                name = f"{steps.name}-{code_set.control}-{code_set.mode}"
                yield Step(name, measure, code_set, tables)
    for measure, steps in planned:
        if steps.raw:
            tables = tuple(table.name for table in measure.tables)
            yield Step(f"{steps.name}-raw", measure, None, tables)
    for code_set in code_sets:
        for measure, steps in planned:
            both_modes = steps.each == "control" and code_set.mode == "joint"
            if both_modes and (tables := _tables(measure, code_set)):
                yield Step(f"{steps.name}-{code_set.control}", measure, code_set, tables)


def _tables(measure: Measure, code_set: CodeSet) -> tuple[str, ...]:
    """The tables of a measure that some codes have rows in."""

    def holds(table: Table) -> bool:
        return table.controls is None or code_set.control in table.controls

    return tuple(table.name for table in measure.tables if holds(table))


def make_notes(
    scope: Scope, measures: Sequence[Measure], left_out: Sequence[Measure]
) -> Iterator[Note]:
    """What is left out of a report or approximated in it, and why.

    Args:
        scope: What the report is about.
        measures: What is measured.
        left_out: The measures whose needs are not met.
    """
    subject, streams, config = scope.subject, scope.streams, scope.config
    permutation = scope.permutation
    absent = [name for name in subject.model.config.names if name not in streams]
    if absent:
        are = "is" if len(absent) == 1 else "are"
        yield Note(
            f"of the model's streams, {', '.join(absent)} {are} left out: streams select jointly "
            "with the others, so joint figures are those of the remaining streams"
        )
    if len(streams) == 1:
        comparing = sorted(m.name for m in (*measures, *left_out) if m.compares_streams)
        yield Note(f"there is one stream: {listed(comparing)} compare nothing")
    if scope.parts:
        yield Note(
            f"{amount(scope.parts, 'row')} of one image with the row before, such as places of it, "
            "count as images of their own: intervals are too narrow and probes too good; analyse a "
            "cache with one place of each image (sparc-extract run --places-per-image 1)"
        )
    for lacking, needing in (
        ("no analysed row has a label", [m for m in left_out if m.needs.labels]),
        ("the cache has no captions", [m for m in left_out if m.needs.captions]),
    ):
        if needing:
            names = listed([measure.name for measure in needing], "or")
            tables = tuple(table.name for measure in needing for table in measure.tables)
            yield Note(f"{lacking}: there is no {names}", tables)
    for measure in measures:
        yield from measure.notes(scope)
    if not config.untrained:
        yield Note("the untrained control is left out (--no-untrained)")
    elif subject.untrained is None:
        unknown = ", and whether the cache comes from the same encoders could not be checked"
        yield Note(
            f"{subject.location} is a saved model without its run: the untrained control is left "
            f"out{'' if subject.encoders_are_known else unknown}"
        )
    if not config.permuted:
        yield Note("the permuted controls are left out (--no-permuted)")
    elif not permutation.exact:
        yield Note(
            f"images are permuted in {len(permutation.blocks)} random blocks of up to "
            f"{config.permute_rows:,} rows, not all at once (--permute-rows)"
        )
    if config.permuted and (near := permutation.inseparable(len(streams))):
        yield Note(
            f"{amount(near, 'image')} of {len(permutation.sizes):,} have a number of rows that at "
            f"most {len(streams) - 1} others have: the permuted controls, which exchange images "
            "with as many rows, cannot keep all of their streams apart"
        )
