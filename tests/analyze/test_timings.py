"""What an analysis says about its time."""

from sparc.analyze.timings import advice
from sparc.common.timing.phases import Phase, Role
from sparc.common.timing.shares import Shares


def test_advice_names_what_bounds_an_analysis_only_where_one_thing_does() -> None:
    def said(
        coder: dict[Phase, float],
        analyzer: dict[Phase, float],
        measurer: dict[Phase, float],
        threads: int = 1,
    ) -> str:
        return advice(
            [
                Shares(Role.CODER, "", 1, 10, coder),
                Shares(Role.ANALYZER, "", 1, 0, analyzer),
                Shares(Role.MEASURER, "", threads, 0, measurer),
            ]
        )

    short: dict[Phase, float] = {Phase.MEASURE: 1}
    assert said({Phase.STARVED: 6, Phase.ENCODE: 4}, short, {}).startswith("reading the cache is")
    assert said({Phase.BLOCKED: 6, Phase.ENCODE: 4}, short, {}).startswith("writing the report is")
    assert said({Phase.ENCODE: 6, Phase.STARVED: 4}, short, {}).startswith("computing codes is the")
    assert said({Phase.ENCODE: 4, Phase.STARVED: 4, Phase.BLOCKED: 4}, short, {}) == ""
    tables: dict[Phase, float] = {Phase.MEASURE: 9, Phase.OTHER: 1}
    encoding: dict[Phase, float] = {Phase.ENCODE: 1}
    assert said(encoding, tables, {Phase.MEASURE: 8, Phase.READ: 2}) == (
        "measuring tables is the bound: more --workers or a cluster (--scheduler tcp://…) help"
    )
    assert said(encoding, tables, {Phase.READ: 8, Phase.MEASURE: 2}, 10_000) == (
        "reading for tables is the bound: a cluster (--scheduler tcp://…) helps"
    )
    assert said(encoding, {Phase.OTHER: 9, Phase.MEASURE: 1}, {Phase.READ: 8}) == ""
    assert advice([]) == ""
