"""Which latents go with an attribute of pictures, in each stream, and which of them meet under it.

Everything is counted on whole pictures: a latent is active on a picture if it is active on one of
its rows. See `REPORT.md` for the tables.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse, special

from sparc.analyze import top_rows
from sparc.analyze.attribute import Attribute
from sparc.analyze.codes import CodeRows, concatenate
from sparc.analyze.parts import Parts
from sparc.analyze.pictures import Pictures
from sparc.analyze.reduction import Executor
from sparc.analyze.statistics import (
    NORMAL_95,
    OddsRatio,
    adjust,
    fisher,
    odds_ratio,
    upper_tail,
)
from sparc.analyze.top_rows import TopRows

SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("control", pa.string(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("latent", pa.int32(), nullable=False),
        pa.field("names", pa.list_(pa.string()), nullable=False),
        pa.field("pictures_both", pa.int64(), nullable=False),
        pa.field("pictures_latent", pa.int64(), nullable=False),
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

PAIRS_SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("control", pa.string(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("first_latent", pa.int32(), nullable=False),
        pa.field("second_latent", pa.int32(), nullable=False),
        pa.field("first_names", pa.list_(pa.string()), nullable=False),
        pa.field("second_names", pa.list_(pa.string()), nullable=False),
        pa.field("pictures_with", pa.int64(), nullable=False),
        pa.field("pictures_without", pa.int64(), nullable=False),
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

LEAST_PICTURES = 5
"""A latent that is active on fewer pictures is not tested."""

LEAST_MEETINGS = 1.0
"""A pair is tested if chance alone would let it meet so often, with the attribute and without."""

Names = Mapping[tuple[str, int], list[str]]
"""The words that name a latent, by stream and latent; those without a name are left out."""

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class BiasTables(NamedTuple):
    """What goes with an attribute.

    Attributes:
        associations: Of schema `SCHEMA`: each latent in each stream.
        pairs: Of schema `PAIRS_SCHEMA`: the pairs of latents that meet more often under it.
    """

    associations: pa.Table
    pairs: pa.Table


class BiasCounts(NamedTuple):
    """Pictures on which latents are active.

    Attributes:
        known: By stream and latent, pictures of which the attribute is known.
        held: Those of them that have it.
        shuffled: Those that would have it if it were dealt out anew.
        top_held: By stream, each latent's strongest rows on pictures that have it.
        top_others: Those on the other pictures of which it is known.
    """

    known: Integers
    held: Integers
    shuffled: Integers
    top_held: tuple[TopRows, ...]
    top_others: tuple[TopRows, ...]


class _Shared(NamedTuple):
    """What every part needs."""

    parts: Parts
    pictures: Pictures
    attribute: Attribute
    shuffled: Flags
    examples: int
    chosen: Integers  # The latents whose pairs are counted.
    pairs: tuple[Integers, ...]  # By stream, (pairs, 2): those that examples are wanted of.


def find_bias(
    parts: Parts,
    pictures: Pictures,
    attribute: Attribute,
    names: Names,
    reducer: Executor,
    *,
    rate: float,
    examples: int,
    pair_latents: int,
    most_pairs: int,
    seed: int,
) -> BiasTables:
    """Test every latent, and the pairs of the most frequent ones, against an attribute.

    Args:
        parts: A set of codes that is not permuted.
        pictures: The pictures of the cache's rows.
        attribute: The attribute; some pictures must have it and some not.
        names: The latents' names, to stand beside them.
        reducer: Runs the reductions.
        rate: Share of false findings that is accepted among all findings.
        examples: Example rows of a finding.
        pair_latents: Latents whose pairs are tested.
        most_pairs: Pairs reported of a stream, the most certain first.
        seed: Seed of the control, in which the attribute is dealt out anew.
    """
    nothing = np.zeros(0, np.int64)
    shuffled = shuffle(attribute, seed)
    shared = _Shared(parts, pictures, attribute, shuffled, examples, nothing, ())
    counts: BiasCounts = reducer.reduce(
        _count_part, partial(_merge_counts, examples), shared, len(parts)
    )
    chosen = _most_frequent(counts, pair_latents)
    shared = shared._replace(chosen=chosen)
    meetings = reducer.reduce(_meet_part, _add, shared, len(parts))
    having = int(attribute.held.sum())
    totals = [having, int(attribute.known.sum()) - having]
    found = [
        _test_pairs(
            control, stream, np.stack([held, known - held]), chosen, totals, rate, most_pairs
        )
        for group, control in ((1, "none"), (2, "shuffled"))
        for stream, (known, held) in enumerate(meetings[:, [0, group]])
    ]
    wanted = tuple(np.stack([f.first, f.second], axis=1) for f in found if f.control == "none")
    shared = shared._replace(pairs=wanted)
    rows = reducer.reduce(_example_part, partial(_merge_examples, examples), shared, len(parts))
    return BiasTables(
        _associations(parts, counts, attribute, names, rate),
        _pairs(parts, found, rows, names),
    )


def shuffle(attribute: Attribute, seed: int) -> Flags:
    """The attribute dealt out anew among the pictures of which it is known, (pictures,)."""
    known = np.flatnonzero(attribute.known)
    result = np.zeros_like(attribute.held)
    result[known] = np.random.default_rng(seed).permutation(attribute.held[known])
    return result


# ---------------------------------------------------------------------- counting


def whole_pictures(parts: Parts, pictures: Pictures, part: int) -> CodeRows:
    """The codes of all pictures that begin in a part, wherever they end."""
    of_row = pictures.of_row
    found = [parts.codes(part)]
    last = of_row[found[0].rows[-1]]
    following = part + 1
    while following < len(parts) and of_row[parts.rows(following)[0]] == last:
        codes = parts.codes(following)
        found.append(codes.take(np.flatnonzero(of_row[codes.rows] == last)))
        following += 1
    codes = concatenate(found)
    if part > 0:
        begun = of_row[parts.rows(part - 1)[-1]]
        codes = codes.take(np.flatnonzero(of_row[codes.rows] != begun))
    return codes


def active_pictures(
    codes: CodeRows, stream: str, latents: int, pictures: Pictures
) -> tuple[sparse.csr_matrix, Integers]:
    """On which pictures the latents of a stream are active.

    Returns:
        (n, latents) int32, 1 where active, canonical; and which pictures these are, (n,).
    """
    of_row = pictures.of_row[codes.rows]
    begins = np.flatnonzero(np.diff(of_row, prepend=-1))
    matrix = codes.matrix(stream, latents)
    # The rows of a picture follow each other, and so do their entries: they are those of one line.
    ends = np.append(matrix.indptr[begins], matrix.nnz)
    ones = np.ones(matrix.nnz, np.int32)
    active = sparse.csr_matrix((ones, matrix.indices, ends), shape=(len(begins), latents))
    active.has_canonical_format = len(begins) == len(of_row)
    active.sum_duplicates()
    active.data[:] = 1
    return active, of_row[begins]


def _groups(shared: _Shared) -> tuple[Flags, Flags, Flags]:
    """Pictures that are counted: those known of, those that have it, and that shuffled would."""
    return shared.attribute.known, shared.attribute.held, shared.shuffled


def _count_part(shared: _Shared, part: int) -> BiasCounts:
    codes = whole_pictures(shared.parts, shared.pictures, part)
    latents, attribute = shared.parts.latents, shared.attribute
    groups = _groups(shared)
    counts = np.zeros((len(groups), len(codes.streams), latents), np.int64)
    for s, stream in enumerate(codes.streams):
        active, found = active_pictures(codes, stream, latents, shared.pictures)
        for group, flags in zip(counts, groups, strict=True):
            group[s] = np.bincount(active[np.flatnonzero(flags[found])].indices, minlength=latents)
    of_row = shared.pictures.of_row[codes.rows]
    held = codes.take(np.flatnonzero(attribute.held[of_row]))
    others = codes.take(np.flatnonzero((attribute.known & ~attribute.held)[of_row]))
    return BiasCounts(
        counts[0],
        counts[1],
        counts[2],
        tuple(_strongest(shared, held, stream) for stream in codes.streams),
        tuple(_strongest(shared, others, stream) for stream in codes.streams),
    )


def _strongest(shared: _Shared, codes: CodeRows, stream: str) -> TopRows:
    """The rows of whole pictures on which each latent is strongest, one of each picture."""
    of_row = shared.pictures.of_row
    lists = top_rows.measure(codes, stream, shared.examples * _most_rows(shared, codes))
    return top_rows.cut(top_rows.one_a_picture(lists, of_row), shared.examples)


def _most_rows(shared: _Shared, codes: CodeRows) -> int:
    """How many of the rows a picture has, at most."""
    numbers = np.unique(shared.pictures.of_row[codes.rows], return_counts=True)[1]
    return int(numbers.max(initial=1))


def _merge_counts(examples: int, found: Sequence[BiasCounts]) -> BiasCounts:
    def merged(lists: Sequence[tuple[TopRows, ...]]) -> tuple[TopRows, ...]:
        return tuple(top_rows.merge(each, examples) for each in zip(*lists, strict=True))

    return BiasCounts(
        known=_add([each.known for each in found]),
        held=_add([each.held for each in found]),
        shuffled=_add([each.shuffled for each in found]),
        top_held=merged([each.top_held for each in found]),
        top_others=merged([each.top_others for each in found]),
    )


def _most_frequent(counts: BiasCounts, number: int) -> Integers:
    """The latents active on most pictures with the attribute, all streams together; ascending."""
    total = counts.held.sum(axis=0)
    order = np.argsort(-total, kind="stable")[:number]
    return np.sort(order[total[order] > 0])


def _meet_part(shared: _Shared, part: int) -> Integers:
    """Pictures on which two latents are active.

    Returns:
        (streams, groups, latents, latents) int64; the groups are those of `_groups`.
    """
    codes = whole_pictures(shared.parts, shared.pictures, part)
    chosen, groups = shared.chosen, _groups(shared)
    result = np.zeros((len(codes.streams), len(groups), len(chosen), len(chosen)), np.int64)
    for s, stream in enumerate(codes.streams):
        active, found = active_pictures(codes, stream, shared.parts.latents, shared.pictures)
        active = active[:, chosen].tocsr()
        for g, flags in enumerate(groups):
            some = active[np.flatnonzero(flags[found])]
            result[s, g] = (some.T @ some).toarray()
    return result


def _add(found: Sequence[Integers]) -> Integers:
    return sum(found[1:], start=found[0])


Examples = list[dict[int, list[tuple[float, int]]]]
"""By stream and number of the pair: (-value, row) of the rows where the weaker one is strongest."""


def _example_part(shared: _Shared, part: int) -> Examples:
    codes = whole_pictures(shared.parts, shared.pictures, part)
    held = shared.attribute.held[shared.pictures.of_row[codes.rows]]
    codes = codes.take(np.flatnonzero(held))
    of_row = shared.pictures.of_row[codes.rows]
    enough = shared.examples * _most_rows(shared, codes)
    result: Examples = []
    for stream, pairs in zip(codes.streams, shared.pairs, strict=True):
        wanted, places = np.unique(pairs, return_inverse=True)
        values = codes.matrix(stream, shared.parts.latents)[:, wanted].toarray()
        first, second = places.reshape(pairs.shape).T
        weaker = np.minimum(values[:, first], values[:, second])
        strongest = np.argsort(-weaker, axis=0, kind="stable")[:enough]
        listed = {}
        for pair, rows in enumerate(strongest.T):
            # Of a picture the strongest row alone, which comes first.
            best: dict[int, tuple[float, int]] = {}
            for row in rows[weaker[rows, pair] > 0]:
                entry = -float(weaker[row, pair]), int(codes.rows[row])
                best.setdefault(int(of_row[row]), entry)
            listed[pair] = list(best.values())[: shared.examples]
        result.append(listed)
    return result


def _merge_examples(number: int, found: Sequence[Examples]) -> Examples:
    return [
        {pair: sorted(x for each in parts for x in each[pair])[:number] for pair in parts[0]}
        for parts in zip(*found, strict=True)
    ]


# ---------------------------------------------------------------------- testing


def _associations(
    parts: Parts, counts: BiasCounts, attribute: Attribute, names: Names, rate: float
) -> pa.Table:
    total, having = int(attribute.known.sum()), int(attribute.held.sum())
    pieces = []
    for control, both in (("none", counts.held), ("shuffled", counts.shuffled)):
        tested = counts.known >= LEAST_PICTURES
        ratio = odds_ratio(both, total, counts.known, having)
        p = fisher(both, total, counts.known, having)
        q = np.ones_like(p)
        for s in range(len(q)):
            q[s, tested[s]] = adjust(p[s, tested[s]])
        associated = tested & (q <= rate)
        sharing = _sharing(associated, tested, ratio)
        for s, stream in enumerate(parts.streams):
            examples = [[] for _ in range(parts.latents)]  # type: list[list[int]]
            if control == "none":
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
                "pictures_both": both[s],
                "pictures_latent": counts.known[s],
                "frequency_with": both[s] / having,
                "frequency_without": (counts.known[s] - both[s]) / (total - having),
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
    """By stream and latent, who else has the association; None without one, or without others."""
    streams, latents = associated.shape
    result: list[list[str | None]] = [[None] * latents for _ in range(streams)]
    if streams == 1:
        return result
    same = associated[:, None] & associated[None] & _same_sign(ratio.log_odds)
    difference = np.abs(ratio.log_odds[:, None] - ratio.log_odds[None])
    error = np.sqrt(ratio.error[:, None] ** 2 + ratio.error[None] ** 2)
    # A stream in which the latent is hardly ever active has no association to compare with.
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


class _FoundPairs(NamedTuple):
    """Pairs of one stream that meet more often with the attribute; arrays of equal length."""

    control: str
    stream: int
    first: Integers
    second: Integers
    meetings: Integers  # (2, pairs): pictures with the attribute and without
    totals: tuple[int, int]
    log_odds: npt.NDArray[np.float64]
    q: npt.NDArray[np.float64]
    interaction: npt.NDArray[np.float64]
    margin: npt.NDArray[np.float64]


def _test_pairs(
    control: str,
    stream: int,
    matrices: Integers,
    chosen: Integers,
    totals: Sequence[int],
    rate: float,
    most: int,
) -> _FoundPairs:
    a, b = np.triu_indices(len(chosen), k=1)
    having, others = totals
    alone = np.stack([np.diagonal(matrix) for matrix in matrices])
    expected = [alone[w][a] * (alone[w][b] / totals[w]) for w in (0, 1)]
    tested = np.minimum(*expected) >= LEAST_MEETINGS
    a, b = a[tested], b[tested]
    met = np.stack([matrix[a, b] for matrix in matrices])
    ratio = odds_ratio(met[0], having + others, met.sum(axis=0), having)
    sides = [odds_ratio(met[w], totals[w], alone[w][a], alone[w][b]) for w in (0, 1)]
    interaction = sides[0].log_odds - sides[1].log_odds
    error = np.sqrt(sides[0].error ** 2 + sides[1].error ** 2)
    # Both must hold, so the weaker evidence counts (an intersection-union test, Berger 1982): two
    # adjustments whose findings are intersected would bound neither share of false ones.
    meets_more = upper_tail(met[0], having + others, met.sum(axis=0), having)
    q = adjust(np.maximum(meets_more, special.ndtr(-interaction / error)))
    found = q <= rate
    certain = np.where(found, interaction / error, 0)
    kept = np.argsort(-certain, kind="stable")[: min(most, int(found.sum()))]
    return _FoundPairs(
        control,
        stream,
        chosen[a[kept]],
        chosen[b[kept]],
        met[:, kept],
        (having, others),
        ratio.log_odds[kept],
        q[kept],
        interaction[kept],
        NORMAL_95 * error[kept],
    )


def _pairs(
    parts: Parts, found: Sequence[_FoundPairs], examples: Examples, names: Names
) -> pa.Table:
    sharers: dict[tuple[str, int, int], list[str]] = {}
    for each in found:
        for pair in zip(each.first.tolist(), each.second.tolist(), strict=True):
            sharers.setdefault((each.control, *pair), []).append(parts.streams[each.stream])
    rows = []
    for each in found:
        stream = parts.streams[each.stream]
        for i, (first, second) in enumerate(
            zip(each.first.tolist(), each.second.tolist(), strict=True)
        ):
            shown = examples[each.stream][i] if each.control == "none" else []
            rows.append(
                {
                    "mode": parts.code_set.mode,
                    "control": each.control,
                    "stream": stream,
                    "first_latent": first,
                    "second_latent": second,
                    "first_names": names.get((stream, first), []),
                    "second_names": names.get((stream, second), []),
                    "pictures_with": int(each.meetings[0, i]),
                    "pictures_without": int(each.meetings[1, i]),
                    "frequency_with": int(each.meetings[0, i]) / each.totals[0],
                    "frequency_without": int(each.meetings[1, i]) / each.totals[1],
                    "log_odds": float(each.log_odds[i]),
                    "q": float(each.q[i]),
                    "interaction": float(each.interaction[i]),
                    "interaction_low": float(each.interaction[i] - each.margin[i]),
                    "interaction_high": float(each.interaction[i] + each.margin[i]),
                    "streams": sharers[each.control, first, second],
                    "example_rows": [row for _, row in shown],
                }
            )
    return pa.Table.from_pylist(rows, schema=PAIRS_SCHEMA)
