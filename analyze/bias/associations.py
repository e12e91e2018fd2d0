"""Which latents go with an attribute of images, in each stream, and which of them meet under it.

Everything is counted on whole images: a latent is active on an image if it is active on one of its
rows. An image with more rows has more chances of that, and more captions in which a word may stand:
tests compare images with the same number of analysed rows only. See `REPORT.md` for the tables.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from sparc.analyze.bias.attribute import Attribute
from sparc.analyze.codes.code_rows import CodeRows, concatenate
from sparc.analyze.codes.parts import Parts
from sparc.analyze.maths import stratified
from sparc.analyze.maths.exact_tests import NORMAL_95, OddsRatio, benjamini_hochberg
from sparc.analyze.maths.reduction import Reducer
from sparc.analyze.rows import top_rows
from sparc.analyze.rows.images import Images
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

PAIRS_SCHEMA = pa.schema(
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

LEAST_IMAGES = 5
"""A latent that is active on fewer images is not tested."""

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
    """Images on which latents are active.

    Attributes:
        known: By stream, stratum and latent, images of which the attribute is known.
        held: Those of them that have it.
        shuffled: Those that have it after it was shuffled.
        top_held: By stream, each latent's strongest rows on images that have it.
        top_others: Those on the other images of which it is known.
    """

    known: Integers
    held: Integers
    shuffled: Integers
    top_held: tuple[TopRows, ...]
    top_others: tuple[TopRows, ...]


class _Shared(NamedTuple):
    """What every part needs."""

    parts: Parts
    images: Images
    attribute: Attribute
    shuffled: Flags
    strata: Integers  # By image.
    examples: int
    chosen: Integers  # The latents whose pairs are counted.
    pairs: tuple[Integers, ...]  # By stream, (pairs, 2): those that examples are wanted of.


def find_bias(
    parts: Parts,
    images: Images,
    attribute: Attribute,
    names: Names,
    reducer: Reducer,
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
        images: The images of the cache's rows.
        attribute: The attribute; some images must have it and some not.
        names: The latents' names, to stand beside them.
        reducer: Runs the reductions.
        rate: Share of false findings that is accepted among all findings.
        examples: Example rows of a finding.
        pair_latents: Latents whose pairs are tested.
        most_pairs: Pairs reported of a stream, the most certain first.
        seed: Seed of the control, in which the attribute is shuffled within strata.
    """
    nothing = np.zeros(0, np.int64)
    strata = np.unique(analysed_rows(parts, images), return_inverse=True)[1]
    shuffled = shuffle(attribute, strata, seed)
    shared = _Shared(parts, images, attribute, shuffled, strata, examples, nothing, ())
    counts: BiasCounts = reducer.reduce(
        _count_part, partial(_merge_counts, examples), shared, len(parts)
    )
    chosen = _most_frequent(counts, pair_latents)
    shared = shared._replace(chosen=chosen)
    meetings = reducer.reduce(_meet_part, _add, shared, len(parts))
    having, known_images = (_count(strata, flags) for flags in (attribute.held, attribute.known))
    totals = np.stack([having, known_images - having])
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
        _associations(parts, counts, totals, names, rate),
        _pairs(parts, found, rows, names),
    )


def analysed_rows(parts: Parts, images: Images) -> Integers:
    """How many analysed rows each image has, (images,)."""
    analysed = np.zeros(len(images.of_row), np.bool_)
    for part in range(len(parts)):
        analysed[parts.rows(part)] = True
    return images.count_rows(analysed)


def shuffle(attribute: Attribute, strata: Integers, seed: int) -> Flags:
    """The attribute shuffled among the known images of each stratum, (images,).

    Args:
        attribute: The attribute.
        strata: The stratum of every image, (images,).
        seed: Seed of the permutations.
    """
    known = np.flatnonzero(attribute.known)
    in_order = known[np.argsort(strata[known], kind="stable")]
    # Sorted by stratum first, a random order of all is a random order within each.
    draws = np.random.default_rng(seed).random(len(known))
    result = np.zeros_like(attribute.held)
    result[in_order] = attribute.held[known[np.lexsort((draws, strata[known]))]]
    return result


def _count(strata: Integers, flags: Flags) -> Integers:
    """Images that are flagged, (strata,)."""
    return np.bincount(strata[flags], minlength=int(strata.max()) + 1)


# ---------------------------------------------------------------------- counting


def whole_images(parts: Parts, images: Images, part: int) -> CodeRows:
    """The codes of all images that begin in a part, wherever they end."""
    of_row = images.of_row
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


def active_images(
    codes: CodeRows, stream: str, latents: int, images: Images
) -> tuple[sparse.csr_matrix, Integers]:
    """On which images the latents of a stream are active.

    Returns:
        (n, latents) int32, 1 where active, canonical; and which images these are, (n,).
    """
    of_row = images.of_row[codes.rows]
    begins = np.flatnonzero(np.diff(of_row, prepend=-1))
    matrix = codes.matrix(stream, latents)
    # The rows of an image follow each other, and so do their entries: they are those of one line.
    ends = np.append(matrix.indptr[begins], matrix.nnz)
    ones = np.ones(matrix.nnz, np.int32)
    active = sparse.csr_matrix((ones, matrix.indices, ends), shape=(len(begins), latents))
    active.has_canonical_format = len(begins) == len(of_row)
    active.sum_duplicates()
    active.data[:] = 1
    return active, of_row[begins]


def _groups(shared: _Shared) -> tuple[Flags, Flags, Flags]:
    """Images that are counted: those known of, those that have it, and after shuffling."""
    return shared.attribute.known, shared.attribute.held, shared.shuffled


def _count_part(shared: _Shared, part: int) -> BiasCounts:
    codes = whole_images(shared.parts, shared.images, part)
    latents, attribute = shared.parts.latents, shared.attribute
    groups, strata = _groups(shared), int(shared.strata.max()) + 1
    counts = np.zeros((len(groups), len(codes.streams), strata, latents), np.int64)
    for s, stream in enumerate(codes.streams):
        active, found = active_images(codes, stream, latents, shared.images)
        places = np.repeat(shared.strata[found], np.diff(active.indptr)) * latents + active.indices
        for group, flags in zip(counts, groups, strict=True):
            counted = places[np.repeat(flags[found], np.diff(active.indptr))]
            group[s] = np.bincount(counted, minlength=strata * latents).reshape(strata, latents)
    of_row = shared.images.of_row[codes.rows]
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
    """The rows of whole images on which each latent is strongest, one of each image."""
    of_row = shared.images.of_row
    lists = top_rows.strongest(codes, stream, shared.examples * _most_rows(shared, codes))
    return top_rows.cut(top_rows.one_per_image(lists, of_row), shared.examples)


def _most_rows(shared: _Shared, codes: CodeRows) -> int:
    """How many of the rows an image has, at most."""
    numbers = np.unique(shared.images.of_row[codes.rows], return_counts=True)[1]
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
    """The latents active on most images with the attribute, all streams together; ascending."""
    total = counts.held.sum(axis=(0, 1))
    order = np.argsort(-total, kind="stable")[:number]
    return np.sort(order[total[order] > 0])


def _meet_part(shared: _Shared, part: int) -> npt.NDArray[np.int32]:
    """Images on which two latents are active.

    Returns:
        (streams, groups, strata, latents, latents) int32; the groups are those of `_groups`.
    """
    codes = whole_images(shared.parts, shared.images, part)
    chosen, groups = shared.chosen, _groups(shared)
    strata = int(shared.strata.max()) + 1
    shape = len(codes.streams), len(groups), strata, len(chosen), len(chosen)
    result = np.zeros(shape, np.int32)
    for s, stream in enumerate(codes.streams):
        active, found = active_images(codes, stream, shared.parts.latents, shared.images)
        active = active[:, chosen].tocsr()
        for g, stratum in product(range(len(groups)), np.unique(shared.strata[found])):
            counted = groups[g][found] & (shared.strata[found] == stratum)
            some = active[np.flatnonzero(counted)]
            result[s, g, stratum] = (some.T @ some).toarray()
    return result


def _add(found: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return sum(found[1:], start=found[0])


Examples = list[dict[int, list[tuple[float, int]]]]
"""By stream and number of the pair: (-value, row) of the rows where the weaker one is strongest."""


def _example_part(shared: _Shared, part: int) -> Examples:
    codes = whole_images(shared.parts, shared.images, part)
    held = shared.attribute.held[shared.images.of_row[codes.rows]]
    codes = codes.take(np.flatnonzero(held))
    of_row = shared.images.of_row[codes.rows]
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
            # Of an image the strongest row alone, which comes first.
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
    parts: Parts, counts: BiasCounts, totals: Integers, names: Names, rate: float
) -> pa.Table:
    having, all_known = totals[0], totals.sum(axis=0)
    known, active = counts.known.sum(axis=1), counts.known.swapaxes(1, 2)
    tested = known >= LEAST_IMAGES
    pieces = []
    for control, by_stratum in (("none", counts.held), ("shuffled", counts.shuffled)):
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
    meetings: Integers  # (2, pairs): images with the attribute and without
    totals: tuple[int, int]
    log_odds: npt.NDArray[np.float64]
    q: npt.NDArray[np.float64]
    interaction: npt.NDArray[np.float64]
    margin: npt.NDArray[np.float64]


def _test_pairs(
    control: str,
    stream: int,
    matrices: npt.NDArray[np.integer],
    chosen: Integers,
    totals: Integers,
    rate: float,
    most: int,
) -> _FoundPairs:
    """The pairs of a stream that meet more often with the attribute.

    Args:
        control: Whether the attribute is shuffled.
        stream: Which stream.
        matrices: (2, strata, latents, latents), images on which two latents are active: with the
            attribute and without.
        chosen: The latents, (latents,).
        totals: (2, strata), all images.
        rate: Share of false findings that is accepted.
        most: Pairs kept at most.
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
    worth = np.minimum(*(side.expected.sum(axis=1) for side in sides)) >= LEAST_MEETINGS
    sides, first, second = [side.take(worth) for side in sides], first[worth], second[worth]
    images, having = sides[0].total + sides[1].total, sides[0].total
    met = sides[0].met + sides[1].met
    ratio = stratified.odds_ratio(sides[0].met, images, met, having)
    odds = [stratified.odds_ratio(s.met, s.total, s.first, s.second) for s in sides]
    interaction = odds[0].log_odds - odds[1].log_odds
    error = np.sqrt(odds[0].error ** 2 + odds[1].error ** 2)
    # Both must hold, so the weaker evidence counts (an intersection-union test, Berger 1982): two
    # adjustments whose findings are intersected would bound neither share of false ones.
    p = np.ones(len(first))
    at = np.flatnonzero((ratio.log_odds > 0) & (interaction > error))  # Others count as p = 1.
    meets_more = stratified.upper_tail(sides[0].met[at].sum(axis=1), images, met[at], having)
    at, meets_more = at[meets_more <= rate], meets_more[meets_more <= rate]
    chances = stratified.larger_odds(*zip(*(side.take(at).table for side in sides), strict=True))
    p[at] = np.maximum(meets_more, chances)
    q = benjamini_hochberg(p)
    found = q <= rate
    certain = np.where(found, interaction / error, 0)
    kept = np.argsort(-certain, kind="stable")[: min(most, int(found.sum()))]
    first, second = first[kept], second[kept]
    meetings = matrices.sum(axis=1)[:, first, second]
    return _FoundPairs(
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
        total: All of them, (strata,).
        first: Those on which the first latent is active, (pairs, strata).
        second: The same of the second.
        met: The same of both.
    """

    total: Integers
    first: Integers
    second: Integers
    met: Integers

    @property
    def expected(self) -> npt.NDArray[np.float64]:
        """On how many both would be active by chance, (pairs, strata)."""
        return self.first * (self.second / self.total)

    @property
    def table(self) -> tuple[Integers, Integers, Integers, Integers]:
        """What tests of the two latents' meeting take."""
        return self.met.sum(axis=1), self.total, self.first, self.second

    def take(self, pairs: npt.NDArray[Any]) -> "_Side":
        """Some of the pairs."""
        return _Side(self.total, self.first[pairs], self.second[pairs], self.met[pairs])


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
                    "images_with": int(each.meetings[0, i]),
                    "images_without": int(each.meetings[1, i]),
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
