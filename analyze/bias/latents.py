"""Which latents go with an attribute in each stream: the table `associations`.

Tests compare images of one stratum. `REPORT.md` describes the columns.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.analyze.bias.counting import BiasCounts, Flags, Integers, Names
from sparc.analyze.codes.parts import Parts
from sparc.analyze.maths import stratified
from sparc.analyze.maths.exact_tests import NORMAL_95, OddsRatio, benjamini_hochberg
from sparc.analyze.rows.top_rows import TopRows

SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("control", pa.string(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("latent", pa.int32(), nullable=False),
        pa.field("names", pa.list_(pa.string()), nullable=False),
        pa.field("images_both", pa.int64(), nullable=False),
        pa.field("images_latent", pa.int64(), nullable=False),
        pa.field("frequency_with", pa.float64(), nullable=False),
        pa.field("frequency_without", pa.float64(), nullable=False),
        pa.field("log_odds", pa.float64()),
        pa.field("log_odds_low", pa.float64()),
        pa.field("log_odds_high", pa.float64()),
        pa.field("p", pa.float64()),
        pa.field("q", pa.float64()),
        pa.field("associated", pa.bool_(), nullable=False),
        pa.field("sharing", pa.string()),
        pa.field("example_rows", pa.list_(pa.int64()), nullable=False),
    ]
)


LEAST_IMAGES = 5
"""A latent that is active on fewer images is not tested."""


def associations_table(
    parts: Parts, counts: BiasCounts, totals: Integers, names: Names, rate: float
) -> pa.Table:
    """Every latent of every stream, tested against the attribute, of `SCHEMA`.

    Args:
        parts: The codes.
        counts: The images on which latents are active.
        totals: (2, strata), all images: with the attribute and without.
        names: The latents' names.
        rate: False discovery rate that is accepted.
    """
    having, all_known = totals[0], totals.sum(axis=0)
    known, active = counts.known.sum(axis=1), counts.known.swapaxes(1, 2)
    tested = known >= LEAST_IMAGES
    pieces = []
    for control, by_stratum in (("trained", counts.held), ("shuffled", counts.shuffled)):
        both = by_stratum.sum(axis=1)
        ratio = stratified.odds_ratio(by_stratum.swapaxes(1, 2), all_known, active, having)
        p = np.ones(both.shape)
        p[tested] = stratified.fisher(both[tested], all_known, active[tested], having)
        q = np.ones_like(p)
        for s in range(len(q)):
            q[s, tested[s]] = benjamini_hochberg(p[s, tested[s]])
        associated = tested & (q <= rate)
        sharing = _sharing(associated, tested, ratio)
        for s, stream in enumerate(parts.streams):
            examples = [[] for _ in range(parts.latents)]  # type: list[list[int]]
            if control == "trained":
                more = ratio.log_odds[s] > 0
                _fill(examples, counts.top_held[s], associated[s] & more)
                _fill(examples, counts.top_others[s], associated[s] & ~more)
            untested = ~tested[s]
            columns = {
                "mode": [parts.code_set.mode] * parts.latents,
                "control": [control] * parts.latents,
                "stream": [stream] * parts.latents,
                "latent": np.arange(parts.latents, dtype=np.int32),
                "names": [names.get((stream, latent), []) for latent in range(parts.latents)],
                "images_both": both[s],
                "images_latent": known[s],
                "frequency_with": both[s] / having.sum(),
                "frequency_without": (known[s] - both[s]) / totals[1].sum(),
                "log_odds": pa.array(ratio.log_odds[s], mask=untested),
                "log_odds_low": pa.array(ratio.low[s], mask=untested),
                "log_odds_high": pa.array(ratio.high[s], mask=untested),
                "p": pa.array(p[s], mask=untested),
                "q": pa.array(q[s], mask=untested),
                "associated": associated[s],
                "sharing": pa.array(sharing[s], pa.string()),
                "example_rows": examples,
            }
            pieces.append(pa.table(columns, schema=SCHEMA))
    return pa.concat_tables(pieces)


def _sharing(associated: Flags, tested: Flags, ratio: OddsRatio) -> list[list[str | None]]:
    """By stream and latent, which other streams have the association; None where it has none."""
    streams, latents = associated.shape
    result: list[list[str | None]] = [[None] * latents for _ in range(streams)]
    if streams == 1:
        return result
    same = associated[:, None] & associated[None] & _same_sign(ratio.log_odds)
    difference = np.abs(ratio.log_odds[:, None] - ratio.log_odds[None])
    error = np.sqrt(ratio.error[:, None] ** 2 + ratio.error[None] ** 2)
    # A stream in which the latent is too rare to be tested has no association to compare with.
    differs = (difference > NORMAL_95 * error) | ~tested[None]
    for s, latent in zip(*np.nonzero(associated), strict=True):
        others = [o for o in range(streams) if o != s]
        sharers = sum(bool(same[s, o, latent]) for o in others)
        if sharers:
            result[s][latent] = "all" if sharers == len(others) else "some"
        elif all(differs[s, o, latent] for o in others):
            result[s][latent] = "own"
        else:
            result[s][latent] = "unclear"
    return result


def _same_sign(log_odds: npt.NDArray[np.float64]) -> Any:
    return np.sign(log_odds)[:, None] == np.sign(log_odds)[None]


def _fill(examples: list[list[int]], top: TopRows, wanted: Flags) -> None:
    for latent, row in zip(top.latents.tolist(), top.rows.tolist(), strict=True):
        if wanted[latent]:
            examples[latent].append(row)
