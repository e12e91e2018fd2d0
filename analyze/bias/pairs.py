"""Which pairs of latents meet more often under an attribute: the table `pairs`.

Tests compare images of one stratum. `REPORT.md` describes the columns.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.analyze.bias.counting import Examples, Integers, Names
from sparc.analyze.codes.parts import Parts
from sparc.analyze.maths import stratified
from sparc.analyze.maths.exact_tests import NORMAL_95, benjamini_hochberg

SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("control", pa.string(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("first_latent", pa.int32(), nullable=False),
        pa.field("second_latent", pa.int32(), nullable=False),
        pa.field("first_names", pa.list_(pa.string()), nullable=False),
        pa.field("second_names", pa.list_(pa.string()), nullable=False),
        pa.field("images_with", pa.int64(), nullable=False),
        pa.field("images_without", pa.int64(), nullable=False),
        pa.field("frequency_with", pa.float64(), nullable=False),
        pa.field("frequency_without", pa.float64(), nullable=False),
        pa.field("log_odds", pa.float64(), nullable=False),
        pa.field("q", pa.float64(), nullable=False),
        pa.field("interaction", pa.float64(), nullable=False),
        pa.field("interaction_low", pa.float64(), nullable=False),
        pa.field("interaction_high", pa.float64(), nullable=False),
        pa.field("streams", pa.list_(pa.string()), nullable=False),
        pa.field("example_rows", pa.list_(pa.int64()), nullable=False),
    ]
)


LEAST_MEETINGS = 1.0
"""A pair is tested if by chance it meets on this many images, with and without the attribute."""


class MeetingPairs(NamedTuple):
    """Pairs of one stream that meet more often with the attribute; arrays are (pairs,).

    Attributes:
        control: `trained`, or `shuffled` where the attribute was.
        stream: Number of the stream.
        first: The first latent of each pair.
        second: The second.
        meetings: (2, pairs), images on which both are active: with the attribute and without.
        totals: Images with the attribute and without.
        log_odds: Of meeting, with the attribute against without.
        q: Adjusted p-value.
        interaction: Log odds ratio of the two latents with the attribute less that without.
        margin: Half of the 95% interval of the interaction.
    """

    control: str
    stream: int
    first: Integers
    second: Integers
    meetings: Integers
    totals: tuple[int, int]
    log_odds: npt.NDArray[np.float64]
    q: npt.NDArray[np.float64]
    interaction: npt.NDArray[np.float64]
    margin: npt.NDArray[np.float64]


def pairs_that_meet_more(
    control: str,
    stream: int,
    matrices: npt.NDArray[np.integer],
    chosen: Integers,
    totals: Integers,
    rate: float,
    most: int,
) -> MeetingPairs:
    """The pairs of a stream that meet more often with the attribute.

    Args:
        control: `trained`, or `shuffled` where the attribute was.
        stream: Number of the stream.
        matrices: (2, strata, latents, latents), images on which two latents are active: with the
            attribute and without.
        chosen: The latents, (latents,).
        totals: (2, strata), all images.
        rate: False discovery rate that is accepted.
        most: Pairs kept at most, the most certain first.
    """
    first, second = np.triu_indices(len(chosen), k=1)
    # Where all images have the attribute, or none, there is nothing to compare.
    compared = (totals > 0).all(axis=0)
    sides = [
        _Side(
            totals[w, compared],
            np.diagonal(matrices[w, compared], axis1=1, axis2=2).T[first].astype(np.int64),
            np.diagonal(matrices[w, compared], axis1=1, axis2=2).T[second].astype(np.int64),
            matrices[w, compared][:, first, second].T.astype(np.int64),
        )
        for w in (0, 1)
    ]
    testable = np.minimum(*(side.expected.sum(axis=1) for side in sides)) >= LEAST_MEETINGS
    sides, first, second = (
        [side.take(testable) for side in sides],
        first[testable],
        second[testable],
    )
    images, having = sides[0].total + sides[1].total, sides[0].total
    met = sides[0].met + sides[1].met
    ratio = stratified.odds_ratio(sides[0].met, images, met, having)
    odds = [stratified.odds_ratio(s.met, s.total, s.first, s.second) for s in sides]
    interaction = odds[0].log_odds - odds[1].log_odds
    error = np.sqrt(odds[0].error ** 2 + odds[1].error ** 2)
    # Both must hold, so the weaker evidence counts (an intersection-union test, Berger 1982). Two
    # adjustments whose rejections are intersected would not bound the false discovery rate.
    p = np.ones(len(first))
    at = np.flatnonzero((ratio.log_odds > 0) & (interaction > error))  # p of the others is 1
    meets_more = stratified.upper_tail(sides[0].met[at].sum(axis=1), images, met[at], having)
    at, meets_more = at[meets_more <= rate], meets_more[meets_more <= rate]
    chances = stratified.larger_odds(*zip(*(side.take(at).table for side in sides), strict=True))
    p[at] = np.maximum(meets_more, chances)
    q = benjamini_hochberg(p)
    rejected = q <= rate
    certainty = np.where(rejected, interaction / error, 0)
    kept = np.argsort(-certainty, kind="stable")[: min(most, int(rejected.sum()))]
    first, second = first[kept], second[kept]
    meetings = matrices.sum(axis=1)[:, first, second]
    return MeetingPairs(
        control,
        stream,
        chosen[first],
        chosen[second],
        meetings,
        (int(totals[0].sum()), int(totals[1].sum())),
        ratio.log_odds[kept],
        q[kept],
        interaction[kept],
        NORMAL_95 * error[kept],
    )


class _Side(NamedTuple):
    """Images with an attribute, or without, on which the latents of some pairs are active.

    Attributes:
        total: How many there are, (strata,).
        first: On how many the first latent is active, (pairs, strata).
        second: On how many the second is.
        met: On how many both are.
    """

    total: Integers
    first: Integers
    second: Integers
    met: Integers

    @property
    def expected(self) -> npt.NDArray[np.float64]:
        """On how many images both would be active by chance, (pairs, strata)."""
        return self.first * (self.second / self.total)

    @property
    def table(self) -> tuple[Integers, Integers, Integers, Integers]:
        """What tests of the two latents' meeting take."""
        return self.met.sum(axis=1), self.total, self.first, self.second

    def take(self, pairs: npt.NDArray[Any]) -> "_Side":
        """Some of the pairs."""
        return _Side(self.total, self.first[pairs], self.second[pairs], self.met[pairs])


def pairs_table(
    parts: Parts, tested: Sequence[MeetingPairs], examples: Examples, names: Names
) -> pa.Table:
    """The pairs of all streams and controls, of `SCHEMA`."""
    sharers: dict[tuple[str, int, int], list[str]] = {}
    for pairs in tested:
        for pair in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True):
            sharers.setdefault((pairs.control, *pair), []).append(parts.streams[pairs.stream])
    rows = []
    for pairs in tested:
        stream = parts.streams[pairs.stream]
        for i, (first, second) in enumerate(
            zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
        ):
            shown = examples[pairs.stream][i] if pairs.control == "trained" else []
            rows.append(
                {
                    "mode": parts.code_set.mode,
                    "control": pairs.control,
                    "stream": stream,
                    "first_latent": first,
                    "second_latent": second,
                    "first_names": names.get((stream, first), []),
                    "second_names": names.get((stream, second), []),
                    "images_with": int(pairs.meetings[0, i]),
                    "images_without": int(pairs.meetings[1, i]),
                    "frequency_with": int(pairs.meetings[0, i]) / pairs.totals[0],
                    "frequency_without": int(pairs.meetings[1, i]) / pairs.totals[1],
                    "log_odds": float(pairs.log_odds[i]),
                    "q": float(pairs.q[i]),
                    "interaction": float(pairs.interaction[i]),
                    "interaction_low": float(pairs.interaction[i] - pairs.margin[i]),
                    "interaction_high": float(pairs.interaction[i] + pairs.margin[i]),
                    "streams": sharers[pairs.control, first, second],
                    "example_rows": [row for _, row in shown],
                }
            )
    return pa.Table.from_pylist(rows, schema=SCHEMA)
