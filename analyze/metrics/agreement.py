"""Whether a latent stands for the same classes in every stream.

The definition is that of arXiv 2507.06265, section 4, in the form that `REPORT.md` gives. Beside it
stands what latents paired at random have, and by how much it exceeds that. Every figure is computed
on all rows and without each fold of rows, for its interval: an index or axis of length 1 + folds
says which, 0 being all rows.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse
from scipy.special import stdtrit

from sparc.analyze.codes.store import CodeRows, CodeSet
from sparc.analyze.maths import half_samples
from sparc.analyze.maths.mispairing import DRAWS, drawn, partners
from sparc.analyze.maths.statistics import Interval, jackknife, nullable, with_interval
from sparc.analyze.rows import top_rows
from sparc.analyze.rows.folds import Folds, active_by_fold
from sparc.analyze.rows.labels import Labels
from sparc.analyze.rows.top_rows import TopRows

SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("control", pa.string(), nullable=False),
        pa.field("depth", pa.int32(), nullable=False),
        pa.field("first", pa.string()),
        pa.field("second", pa.string()),
        pa.field("restriction", pa.string(), nullable=False),
        pa.field("averaged_over", pa.string(), nullable=False),
        pa.field("latents", pa.int32(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("value_low", pa.float64()),
        pa.field("value_high", pa.float64()),
        pa.field("mispaired", pa.float64()),
        pa.field("mispaired_sd", pa.float64()),
        pa.field("excess", pa.float64()),
        pa.field("excess_low", pa.float64()),
        pa.field("excess_high", pa.float64()),
    ]
)

_CELLS = 1 << 18  # Latents times pairs of streams times classes that are looked at at a time.


class ClassCounts(NamedTuple):
    """What each latent stands for, counted on labelled rows.

    Attributes:
        streams: The streams, in order.
        counts: By stream, A: on how many rows a latent is active that carry a class,
            (classes, latents) integers.
    """

    streams: tuple[str, ...]
    counts: tuple[sparse.csc_matrix, ...]

    @property
    def latents(self) -> int:
        """L."""
        latents: int = self.counts[0].shape[1]
        return latents


def count_classes(codes: CodeRows, labels: Labels, latents: int) -> ClassCounts:
    """Count over some rows.

    Args:
        codes: The rows.
        labels: The labels of all rows of the cache.
        latents: L.
    """
    classes = labels.matrix[codes.rows]
    labelled = codes.take(np.flatnonzero(np.diff(classes.indptr)))
    classes = classes[np.flatnonzero(np.diff(classes.indptr))]
    return ClassCounts(
        codes.streams,
        tuple(_count(labelled.matrix(s, latents), classes) for s in codes.streams),
    )


def merge(parts: Sequence[ClassCounts]) -> ClassCounts:
    """The counts over the rows of all parts."""
    return ClassCounts(
        parts[0].streams,
        tuple(_sum(matrices) for matrices in zip(*(part.counts for part in parts), strict=True)),
    )


def table(
    counts: ClassCounts,
    lists: Sequence[TopRows],
    labels: Labels,
    code_set: CodeSet,
    *,
    top: int,
    folds: Folds,
    fold_codes: CodeRows,
    seed: int,
) -> pa.Table:
    """Mean agreement by depth, pair, restriction and the latents averaged over, of `SCHEMA`.

    Args:
        counts: Counts over all rows.
        lists: By stream, the labelled rows on which each latent is strongest, with some to spare.
        labels: The labels that they were counted with.
        code_set: Which codes these are.
        top: Rows in a list of strongest rows.
        folds: The rows that are left out in turn.
        fold_codes: The codes of all rows that are in a fold.
        seed: Decides which latents are paired at random.
    """
    rows: list[dict[str, Any]] = []
    if len(counts.streams) > 1:
        pairings = [_as_they_are(counts), *(_at_random(counts, seed, n) for n in range(DRAWS))]
        # Of latents that are seldom active the strongest rows are all rows.
        lengths = [np.bincount(each.latents, minlength=counts.latents) for each in lists]
        cut = np.max(lengths, axis=0) > top
        listed = np.any([pairing.beside(cut) for pairing in pairings], axis=0)
        leave_out = partial(_leave_out, labels, folds, fold_codes)
        leave_out_of_top = partial(_leave_out_of_top, labels, folds, top, listed)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            everywhere_later = pool.map(leave_out, counts.streams, counts.counts)
            strongest = list(pool.map(leave_out_of_top, lists))
            everywhere = list(everywhere_later)
            add_up = partial(_sums_of_both, labels, everywhere, strongest, cut, pool)
            paired, *mispaired = map(add_up, pairings)
            samples = {"all_rows": _of_samples(labels, everywhere, folds, pairings[0], pool)}
        for restriction, sums in paired.items():
            by_chance = np.stack([draw[restriction] for draw in mispaired])
            of_samples = samples.get(restriction)
            for line in _averages(sums, by_chance, of_samples, counts, labels, folds):
                rows.append(
                    {
                        "mode": code_set.mode,
                        "control": code_set.control,
                        "restriction": restriction,
                        **line,
                    }
                )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _count(active: sparse.csr_matrix, classes: sparse.csr_matrix) -> sparse.csc_matrix:
    ones = sparse.csr_matrix(
        (np.ones(active.nnz, np.int32), active.indices, active.indptr), shape=active.shape
    )
    return (classes.T.tocsr() @ ones).tocsc()  # Class by class: the order that is faster.


def _sum(matrices: Sequence[sparse.csc_matrix]) -> sparse.csc_matrix:
    total = matrices[0]
    for matrix in matrices[1:]:
        total = total + matrix
    return total


# ---------------------------------------------------------------------- leaving folds out


def _leave_out(
    labels: Labels, folds: Folds, fold_codes: CodeRows, stream: str, counts: sparse.csc_matrix
) -> sparse.csr_matrix:
    """A stream's counts of all rows and then of each fold, ((1 + folds) * latents, classes)."""
    classes = labels.matrix[fold_codes.rows]
    lost = active_by_fold(fold_codes, stream, counts.shape[1], folds).tocsc().T @ classes
    lost.sort_indices()
    return _canonical(sparse.vstack([counts.T, lost], format="csr"))


def _leave_out_of_top(
    labels: Labels, folds: Folds, top: int, latents: npt.NDArray[np.bool_], lists: TopRows
) -> sparse.csr_matrix:
    """The same of a stream's strongest rows, of those that are among the `latents`, (latents,).

    Of a fold, it is what all lists have more than those without it: such counts may be negative.
    """
    some = lists.take(latents[lists.latents])
    shape = len(latents), labels.matrix.shape[0]
    listed = top_rows.changes(some, top, folds, shape) @ labels.matrix
    listed.sort_indices()
    return _canonical(listed)


def _canonical(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """The same matrix; SciPy need not look whether its indices ascend and are unique."""
    matrix.has_canonical_format = True
    return matrix


# ---------------------------------------------------------------------- pairing latents


class _Pair(NamedTuple):
    """Which latents of two streams are held against each other.

    Attributes:
        first: The position of the first stream.
        second: That of the second.
        partners: For each latent of the first stream, one of the second, (latents,).
        known: Whether there are such partners; if not, they do not matter.
    """

    first: int
    second: int
    partners: npt.NDArray[np.int64]
    known: bool = True


class _Pairing(NamedTuple):
    """Which latents of all streams are held against each other.

    Attributes:
        latents: Latents of the first stream of each pair, ascending, (n,).
        pairs: What they are held against.
    """

    latents: npt.NDArray[np.int64]
    pairs: Sequence[_Pair]

    def touched(self, cut: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which of `latents` are cut, or held against one that is, (n,)."""
        partners = [self.latents, *(pair.partners[self.latents] for pair in self.pairs)]
        result: npt.NDArray[np.bool_] = np.any(cut[np.stack(partners)], axis=0)
        return result

    def beside(self, cut: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which latents are cut or, in some pair of streams, beside one that is, (latents,)."""
        result, some = cut.copy(), self.latents[self.touched(cut)]
        result[some] = True
        for pair in self.pairs:
            result[pair.partners[some]] = True
        return result


def _as_they_are(counts: ClassCounts) -> _Pairing:
    """Each latent beside itself."""
    every = np.arange(counts.latents)
    pairs = combinations(range(len(counts.streams)), 2)
    return _Pairing(every, [_Pair(a, b, every) for a, b in pairs])


def _at_random(counts: ClassCounts, seed: int, draw: int) -> _Pairing:
    """Some latents, each beside another one of like frequency."""
    totals = np.stack([np.asarray(each.sum(axis=0)).ravel() for each in counts.counts])
    pairs = []
    for number, (a, b, same, _) in enumerate(_as_they_are(counts).pairs):
        found = partners(totals[a], totals[b], seed=seed, draw=draw, pair=number)
        pairs.append(_Pair(a, b, same, known=False) if found is None else _Pair(a, b, found))
    return _Pairing(drawn((totals > 0).sum(axis=0) > 1, seed=seed, draw=draw), pairs)


# ---------------------------------------------------------------------- averaging


def _sums_of_both(
    labels: Labels,
    everywhere: Sequence[sparse.csr_matrix],
    strongest: Sequence[sparse.csr_matrix],
    cut: npt.NDArray[np.bool_],
    pool: Executor,
    pairing: _Pairing,
) -> dict[str, npt.NDArray[np.float64]]:
    """By restriction, the sums that averages are made of: `_sums`.

    Args:
        labels: The labels that they were counted with.
        everywhere: By stream, counts of all rows and of each fold.
        strongest: The same of the strongest rows, of latents beside one that is cut.
        cut: Which latents are active on more rows than a list of the strongest has, (latents,).
        pool: Takes a block of latents in each thread.
        pairing: Which latents are held against each other.
    """
    touched = pairing.touched(cut)
    add_up = partial(_sums, labels, len(cut), pairing.pairs, pool)
    both = add_up(everywhere, pairing.latents[~touched])
    found = {
        restriction: both + add_up(matrices, pairing.latents[touched])
        for restriction, matrices in (("all_rows", everywhere), ("top_rows", strongest))
    }
    for number, pair in enumerate(pairing.pairs, start=1):
        if not pair.known:  # Nor is then what the pair is a part of.
            for sums in found.values():
                sums[:, 0, [0, number]] = np.nan
    return found


def _sums(
    labels: Labels,
    latents: int,
    pairs: Sequence[_Pair],
    pool: Executor,
    matrices: Sequence[sparse.csr_matrix],
    some: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """The sums over some latents that averages are made of.

    Args:
        labels: The labels that they were counted with.
        latents: L.
        pairs: Which latents are held against each other.
        pool: Takes a block of latents in each thread.
        matrices: By stream, counts of all rows and of each fold.
        some: Which latents.

    Returns:
        (depths from the deepest, 2, 1 + pairs, 1 + folds): agreement, and how many are alive; over
        all pairs and for each of them.
    """
    each, classes = matrices[0].shape[0] // latents, matrices[0].shape[1]
    lifts = [labels.lifts[depth] for depth in sorted(labels.lifts, reverse=True)]

    def of(stream: int, block: npt.NDArray[np.int64]) -> sparse.csr_matrix:
        return matrices[stream][(np.arange(each)[:, None] * latents + block).ravel()]

    def of_block(block: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        whose = [((p.first, block), (p.second, p.partners[block])) for p in pairs]
        # A stream takes part in several pairs, mostly with the same latents.
        found = {(s, which.tobytes()): of(s, which) for both in whose for s, which in both}
        counts = [tuple(found[s, which.tobytes()] for s, which in both) for both in whose]
        return _sums_of_block(counts, each, lifts)

    step = max(1, _CELLS // classes)
    blocks = [some[start : start + step] for start in range(0, len(some), step)]
    result = np.zeros((len(lifts), 2, 1 + len(pairs), each))
    # In the order of the blocks, whichever comes first: sums depend on their order.
    for sums in pool.map(of_block, blocks):
        result += sums
    return result


def _sums_of_block(
    pairs: Sequence[tuple[sparse.csr_matrix, ...]],
    each: int,
    lifts: Sequence[npt.NDArray[np.int64]],
) -> npt.NDArray[np.float64]:
    """`_sums` of the counts of some latents, (each * latents, classes).

    Args:
        pairs: Of both streams of a pair, counts of all rows and of each fold.
        each: 1 + folds.
        lifts: From the deepest.
    """
    added = (
        (_totals(first, each), _totals(second, each), _distances(first - second, each, lifts))
        for first, second in pairs
    )
    return _sums_of_pairs(added, len(pairs), len(lifts), (each, pairs[0][0].shape[0] // each))


def _sums_of_pairs(
    pairs: Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any], Iterable[npt.NDArray[Any]]]],
    number: int,
    depths: int,
    shape: tuple[int, ...],
) -> npt.NDArray[np.float64]:
    """The sums over some latents that averages are made of, in some cases.

    Args:
        pairs: Of each pair of streams, the counts over all classes of the one and the other, and at
            each depth the distance of their counts, (cases, latents) each.
        number: How many pairs.
        depths: How many depths.
        shape: Cases and latents.

    Returns:
        (depths, 2, 1 + pairs, cases): agreement, and how many are alive; over all pairs and for
        each of them.
    """
    result = np.zeros((depths, 2, 1 + number, shape[0]))
    agreement, alive = np.zeros((depths, *shape)), np.zeros(shape, np.int64)
    for pair, (a, b, distances) in enumerate(pairs, start=1):
        total, both = a + b, (a > 0) & (b > 0)
        alive += both
        result[:, 1, pair] += both.sum(axis=1)
        for sums, values, distance in zip(result, agreement, distances, strict=True):
            value = np.where(both, (total - distance) / np.maximum(total + distance, 1), 0)
            values += value
            sums[0, pair] += value.sum(axis=1)
    result[:, 0, 0] += (agreement / np.maximum(alive, 1)).sum(axis=2)
    result[:, 1, 0] += (alive > 0).sum(axis=1)
    return result


def _totals(counts: sparse.csr_matrix, each: int) -> npt.NDArray[np.int64]:
    """The counts over all classes, (each, latents): on all rows, and without each fold."""
    total: npt.NDArray[np.int64] = np.asarray(counts.sum(axis=1, dtype=np.int64)).reshape(each, -1)
    total[1:] = total[0] - total[1:]
    return total


def _distances(
    difference: sparse.csr_matrix, each: int, lifts: Sequence[npt.NDArray[np.int64]]
) -> Iterator[npt.NDArray[np.int64]]:
    """At each depth, how far the counts of two streams are apart: the sum over classes of |A - B|.

    Agreement follows from it: A + B is min + max and |A - B| is max - min, so

        sum of min / sum of max = (sum of A + B - distance) / (sum of A + B + distance).

    A fold has few of the counts. With E the difference A - B on all rows and F what it is less
    without the fold,

        sum of |E - F| = sum of |E| + sum, where F is not zero, of |E - F| - |E|.

    Args:
        difference: E, and below it the F of each fold, (each * latents, classes), canonical; it is
            lifted in place.
        each: 1 + folds.
        lifts: From the deepest.

    Returns:
        (each, latents): on all rows, and without each fold.
    """
    latents, classes = difference.shape[0] // each, difference.shape[1]
    table = np.zeros(latents * classes, difference.dtype)
    lines = np.tile(np.arange(0, len(table), classes), each)
    # NumPy looks up places of this type, SciPy wants one type for both.
    difference.indptr = difference.indptr.astype(np.int64)
    for position, lift in enumerate(lifts):
        if position > 0:  # At the deepest nothing is lifted.
            # What was lifted to the next deeper depth is lifted on from there. The classes are in
            # the order of the tree, so those that are lifted together stand together.
            difference.indices = lift.take(difference.indices)
            difference.has_canonical_format = False
            difference.sum_duplicates()
        values, begins = difference.data, difference.indptr
        places = np.repeat(lines, np.diff(begins)) + difference.indices
        of_all = slice(begins[latents])
        table[places[of_all]] = values[of_all]
        found = table.take(places)
        table[places[of_all]] = 0
        changes = np.append(0, np.cumsum(np.abs(found - values) - np.abs(found)))
        change = np.diff(changes[begins]).reshape(each, latents)
        # Without all rows nothing is left: that changes the distance to zero.
        change[0] *= -1
        change[1:] += change[0]
        yield change


def _of_samples(
    labels: Labels,
    everywhere: Sequence[sparse.csr_matrix],
    folds: Folds,
    pairing: _Pairing,
    pool: Executor,
) -> npt.NDArray[np.float64] | None:
    """The sums of `_sums` over all latents, on samples of the images: (..., samples).

    Args:
        labels: The labels that they were counted with.
        everywhere: By stream, counts of all rows and of each fold.
        folds: The folds; None is returned if they are too few for the samples.
        pairing: Each latent beside itself.
        pool: Takes a block of latents in each thread.
    """
    if folds.number < half_samples.FOLDS:
        return None
    latents, classes = len(pairing.latents), everywhere[0].shape[1]
    lifts = [labels.lifts[depth] for depth in sorted(labels.lifts, reverse=True)]
    members = half_samples.design()

    def of_block(block: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        lines = (np.arange(1, 1 + half_samples.FOLDS)[:, None] * latents + block).ravel()
        counts = [matrix[lines] for matrix in everywhere]
        shape = half_samples.FOLDS, len(block)
        totals = [
            np.asarray(members @ np.asarray(each.sum(axis=1)).reshape(shape), np.float64)
            for each in counts
        ]
        pairs = (
            (totals[a], totals[b], _distances_of_samples(counts[a] - counts[b], members, lifts))
            for a, b, *_ in pairing.pairs
        )
        return _sums_of_pairs(pairs, len(pairing.pairs), len(lifts), totals[0].shape)

    step = max(1, _CELLS // classes)
    blocks = [pairing.latents[start : start + step] for start in range(0, latents, step)]
    # In the order of the blocks, whichever comes first: sums depend on their order.
    return sum(pool.map(of_block, blocks), start=np.zeros(()))


def _distances_of_samples(
    difference: sparse.csr_matrix,
    members: npt.NDArray[np.float32],
    lifts: Sequence[npt.NDArray[np.int64]],
) -> Iterator[npt.NDArray[np.float32]]:
    """`_distances` on samples of the images.

    A fold has few of the counts, a sample has many: it is faster to add folds up in a dense table
    of the cells that any of them has, a line for each.

    Args:
        difference: What the counts of two streams differ by in each fold,
            (folds * latents, classes).
        members: Which folds each sample has, (samples, folds).
        lifts: From the deepest.

    Returns:
        (samples, latents); whole numbers, exact below 2^24.
    """
    folds, classes = members.shape[1], difference.shape[1]
    latents = difference.shape[0] // folds
    lines = np.repeat(np.arange(difference.shape[0]), np.diff(difference.indptr))
    fold, latent = np.divmod(lines, latents)
    cell = latent * classes + difference.indices
    used = np.zeros(latents * classes, np.bool_)
    used[cell] = True
    owner, class_of = np.divmod(np.flatnonzero(used), classes)
    counts = np.zeros((len(owner), folds), np.float32)
    counts[np.cumsum(used)[cell] - 1, fold] = difference.data
    for position, lift in enumerate(lifts):
        if position > 0 and len(owner):
            # Classes are in the order of the tree: those that are lifted together stand together.
            class_of = lift[class_of]
            changed = (np.diff(owner) != 0) | (np.diff(class_of) != 0)
            begins = np.append(0, 1 + np.flatnonzero(changed))
            counts = _sums_from(begins, counts)
            owner, class_of = owner[begins], class_of[begins]
        result = np.zeros((latents, len(members)), np.float32)
        if len(owner):
            begins = np.append(0, 1 + np.flatnonzero(np.diff(owner)))
            distances = counts @ members.T
            result[owner[begins]] = _sums_from(begins, np.abs(distances, out=distances))
        yield np.ascontiguousarray(result.T)


def _sums_from(
    begins: npt.NDArray[np.int64], lines: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """The sum of the lines from each of some on, up to the next one: `np.add.reduceat`, faster."""
    ends, every = np.append(begins, len(lines)), np.arange(len(lines))
    ones = sparse.csr_matrix((np.ones(len(lines), np.float32), every, ends))
    sums: npt.NDArray[np.float32] = ones @ lines
    return sums


def _averages(
    sums: npt.NDArray[np.float64],
    by_chance: npt.NDArray[np.float64],
    of_samples: npt.NDArray[np.float64] | None,
    counts: ClassCounts,
    labels: Labels,
    folds: Folds,
) -> Iterator[dict[str, Any]]:
    """Every average of one restriction: the columns of `SCHEMA` from depth on.

    Args:
        sums: Of latents as they are, as `_sums` gives them.
        by_chance: Of latents paired at random, (draws, ...).
        of_samples: As `sums`, of latents as they are on samples of the images instead of folds.
        counts: Counts over all rows.
        labels: The labels that they were counted with.
        folds: The rows that are left out in turn.
    """
    names = [(None, None), *combinations(counts.streams, 2)]
    for number, depth in enumerate(sorted(labels.lifts, reverse=True)):
        for pair, (first, second) in enumerate(names):
            total, alive = sums[number, :, pair]
            chance, chance_alive = np.moveaxis(by_chance[:, number, :, pair], 1, 0)
            with np.errstate(divide="ignore", invalid="ignore"):
                agreement, draws = total / alive, chance / chance_alive
                # If agreement is chance, it varies as a draw does that pairs as many latents.
                errors = np.sqrt(chance_alive[:, 0].mean() / alive[0] + 1 / DRAWS)
            # Over all latents, those that are not alive in both count as 0 in either figure.
            for kind, share in (("all", alive / counts.latents), ("alive", np.ones_like(alive))):
                means, by_draw = (np.where(share > 0, x * share, 0) for x in (agreement, draws))
                mispaired, spread = by_draw.mean(axis=0), by_draw[:, 0].std(ddof=1)
                narrowing: Any = 1
                if of_samples is not None:
                    over = counts.latents if kind == "all" else of_samples[number, 1, pair]
                    with np.errstate(divide="ignore", invalid="ignore"):
                        figures = of_samples[number, 0, pair] / over
                    without = means[1 : 1 + half_samples.FOLDS]
                    narrowing = half_samples.narrowing(figures, without, folds.share)
                interval = jackknife(means, folds.share, narrowing=narrowing, least=0, most=1)
                yield {
                    "depth": depth,
                    "first": first,
                    "second": second,
                    "averaged_over": kind,
                    "latents": counts.latents if kind == "all" else int(alive[0]),
                    **with_interval("value", means[0], interval),
                    "mispaired": nullable(mispaired[0]),
                    "mispaired_sd": nullable(spread),
                    **_excess(means, mispaired, spread * errors, folds.share, narrowing),
                }


def _excess(
    figure: npt.NDArray[np.float64],
    chance: npt.NDArray[np.float64],
    error: float,
    share: float,
    narrowing: Any,
) -> dict[str, float | None]:
    """How much of the way from chance to 1 a figure has gone; null where chance is 1.

    Its interval is wide enough for other images and for other pairings. The latents are given, and
    few latents that are paired at random may agree more than others would, however many rows there
    are: an interval over images alone, on many rows, would not hold 0 where a latent of one stream
    says nothing of that of the other.

    Args:
        figure: On all rows and without each fold, (1 + folds,).
        chance: Its chance, likewise.
        error: The standard error over pairings of their difference.
        share: The share of the images that one fold has.
        narrowing: What the standard error of the figure over images is multiplied by.
    """
    room = np.where(chance < 1, 1 - chance, np.nan)
    excess = (figure - chance) / room
    of_images = jackknife(excess, share, narrowing=narrowing).high - excess[0]
    margin = np.hypot(of_images, stdtrit(DRAWS - 1, 0.975) * error / room[0])
    interval = Interval(excess[0] - margin, np.minimum(excess[0] + margin, 1))
    return with_interval("excess", excess[0], interval)
