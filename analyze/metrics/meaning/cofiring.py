"""Which latents are active on the same images more often than by chance.

See `REPORT.md` for the table.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.analyze.codes.code_rows import CodeRows, concatenate
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.codes.parts import Parts
from sparc.analyze.maths.blocks import BlockSums, ranges_of, reduce_blocks
from sparc.analyze.maths.exact_tests import benjamini_hochberg, upper_tail
from sparc.analyze.maths.packing import RowFlags
from sparc.analyze.maths.reduction import Reducer
from sparc.analyze.metrics.meaning import twins
from sparc.analyze.metrics.meaning.partners import LEAST_IMAGES, Pairs, concatenate_pairs, strongest
from sparc.analyze.metrics.meaning.twins import ANY_STREAM, Nearest, any_stream

SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("first", pa.string(), nullable=False),
        pa.field("second", pa.string(), nullable=False),
        pa.field("first_latent", pa.int32(), nullable=False),
        pa.field("second_latent", pa.int32(), nullable=False),
        pa.field("images_both", pa.int64(), nullable=False),
        pa.field("images_first", pa.int64(), nullable=False),
        pa.field("images_second", pa.int64(), nullable=False),
        pa.field("expected", pa.float64(), nullable=False),
        pa.field("lift", pa.float64(), nullable=False),
        pa.field("jaccard", pa.float64(), nullable=False),
        pa.field("phi", pa.float64(), nullable=False),
        pa.field("q", pa.float64(), nullable=False),
    ]
)

LARGEST_Q = 0.01

_BATCH = 16_384  # Images counted at a time.

_COUNTS = 2**25
"""Counts that a task holds, 128 MB of int32; further latents go to further tasks, each of which
reads all codes."""

Integers = npt.NDArray[np.int64]


class StreamPairs(NamedTuple):
    """The strongest pairs of the latents of two streams, or of one.

    Attributes:
        first: A stream.
        second: A later stream, or the same.
        images: Number of images.
        active: On how many of them each latent is active, in the first stream and in the second.
        pairs: The pairs.
    """

    first: str
    second: str
    images: int
    active: tuple[Integers, Integers]
    pairs: Pairs


class Cofired(NamedTuple):
    """What one pass over a set of codes counts of latents that are active together.

    Attributes:
        pairs: For each stream with itself and, in independent mode, with each later stream.
        twins: The nearest twins of all latents of each stream and, in joint mode, `ANY_STREAM`.
        shifted: The same where the images of the latent itself are shifted: chance.
    """

    pairs: list[StreamPairs]
    twins: list[Nearest]
    shifted: list[Nearest]


class _Task(NamedTuple):
    stream: str
    other: str
    latents: range  # Of the stream; partners are all latents of the other.
    shifted: bool = False  # Whether the images of these latents are shifted.


class _Shared(NamedTuple):
    parts: Parts
    one_per_image: RowFlags
    tasks: tuple[_Task, ...]
    seed: int


class _Counts(NamedTuple):
    """What a task counts over some parts.

    Attributes:
        images: Number of images.
        active: On how many of them each latent is active, in the task's stream and in the other.
        both: On how many each latent of the task is active with each latent, (n, L).
    """

    images: int
    active: Integers
    both: npt.NDArray[np.int32]


def count_cofiring(
    parts: Parts,
    one_per_image: npt.NDArray[np.int64],
    reducer: Reducer,
    *,
    partners: int,
    seed: int,
) -> Cofired:
    """Find the pairs that are active together more often than by chance, and the nearest twins.

    A task counts the pairs of some latents over a range of the parts, so that memory does not grow
    with the rows; see `sparc.analyze.maths.blocks`.

    Args:
        parts: A set of codes that is not permuted.
        one_per_image: A row of each image.
        reducer: Runs the tasks.
        partners: Pairs kept per latent, those of largest phi.
        seed: Decides by how much images are shifted.
    """
    flags = RowFlags.at(one_per_image, parts.cache.info.rows)
    tasks = tuple(_tasks(parts))
    sums = BlockSums(_count_task, _add, partial(_finish, tasks, parts.streams, partners), _merge)
    ranges = ranges_of(len(parts), parts.cache.info.rows)
    counted = reduce_blocks(reducer, sums, _Shared(parts, flags, tasks, seed), len(tasks), ranges)
    return _merge([counted])  # A single task has not been merged yet.


def table(stream_pairs: Sequence[StreamPairs], code_set: CodeSet) -> pa.Table:
    """The significant pairs (q <= `LARGEST_Q`), of schema `SCHEMA`."""
    pieces = [SCHEMA.empty_table()]
    for first, second, images, active, pairs in stream_pairs:
        a, b = active[0][pairs.first], active[1][pairs.second]
        tests = max(_tests(first == second, active), 1)
        q = benjamini_hochberg(upper_tail(pairs.both, images, a, b), tests)
        expected = a * (b / images)
        columns = {
            "mode": [code_set.mode] * len(a),
            "first": [first] * len(a),
            "second": [second] * len(a),
            "first_latent": pairs.first.astype(np.int32),
            "second_latent": pairs.second.astype(np.int32),
            "images_both": pairs.both,
            "images_first": a,
            "images_second": b,
            "expected": expected,
            "lift": pairs.both / expected,
            "jaccard": pairs.both / (a + b - pairs.both),
            "phi": pairs.phi,
            "q": q,
        }
        listed = pa.table(columns, schema=SCHEMA).filter(pa.array(q <= LARGEST_Q))
        pieces.append(listed.sort_by([("first_latent", "ascending"), ("phi", "descending")]))
    return pa.concat_tables(pieces)


def _tasks(parts: Parts) -> Iterator[_Task]:
    block = max(1, _COUNTS // parts.latents)
    blocks = [
        range(start, min(start + block, parts.latents)) for start in range(0, parts.latents, block)
    ]
    independent = parts.code_set.mode == "independent"
    for stream, other in product(parts.streams, repeat=2):
        # In joint mode, pairs across streams say the same as those within one.
        if stream == other or independent:
            yield from (_Task(stream, other, latents) for latents in blocks)
    for stream in parts.streams:
        yield from (_Task(stream, stream, latents, shifted=True) for latents in blocks)
    if not independent:
        for shifted in (False, True):
            yield from (_Task(ANY_STREAM, ANY_STREAM, latents, shifted) for latents in blocks)


def _count_task(shared: _Shared, number: int, of_parts: range) -> _Counts:
    """Count the pairs of a task's latents over some parts."""
    parts, task = shared.parts, shared.tasks[number]
    both = np.zeros((len(task.latents), parts.latents), np.int32)
    active = np.zeros((2, parts.latents), np.int64)
    images = 0
    for batch, codes in enumerate(_batches(shared, task, of_parts)):
        images += len(codes.rows)
        of_streams = {
            s: np.bincount(codes.indices[s][codes.values[s] > 0], minlength=parts.latents)
            for s in {task.stream, task.other}
        }
        active += [of_streams[task.stream], of_streams[task.other]]
        place = of_parts.start, batch
        offsets = _offsets(shared.seed, place, len(codes.rows), task, parts.latents)
        _count(both, codes, task, parts.latents, offsets)
    return _Counts(images, active, both)


def _add(first: _Counts, second: _Counts) -> _Counts:
    return _Counts(
        first.images + second.images, first.active + second.active, first.both + second.both
    )


def _finish(
    tasks: Sequence[_Task], streams: Sequence[str], partners: int, number: int, counts: _Counts
) -> Cofired:
    """The strongest partners and the nearest twins of a task's latents."""
    task, (images, active, both) = tasks[number], counts
    within = task.stream == task.other
    near = [twins.nearest(task.stream, both, active[0], task.latents)] if within else []
    if task.shifted:
        return Cofired([], [], near)
    if task.stream == ANY_STREAM:
        return Cofired([], near, [])
    pairs = strongest(both, images, active, task.latents, within=within, most=partners)
    stream_pairs = StreamPairs(task.stream, task.other, images, (active[0], active[1]), pairs)
    return Cofired([_in_order(stream_pairs, streams)], near, [])


def _offsets(
    seed: int, place: tuple[int, int], images: int, task: _Task, latents: int
) -> npt.NDArray[np.int64] | None:
    """By how many places the images of each latent of a shifted task move in a batch, cyclically.

    They follow from the seed, the batch (the first part of its range, and its number there) and the
    latent, whatever the blocks of latents are.
    """
    if not task.shifted:
        return None
    first, batch = place
    entropy = [seed, batch, first] if first else [seed, batch]
    drawn = np.random.default_rng(entropy).integers(1, max(images, 2), size=latents)
    return drawn[task.latents.start : task.latents.stop]


def _batches(shared: _Shared, task: _Task, of_parts: range) -> Iterator[CodeRows]:
    """The codes of one row of each image, in batches of whole parts."""
    joined = task.stream == ANY_STREAM
    streams = () if joined else tuple(dict.fromkeys((task.stream, task.other)))
    waiting: list[CodeRows] = []
    for part in of_parts:
        codes = shared.parts.codes(part, streams)
        waiting.append(codes.take(np.flatnonzero(shared.one_per_image.flags[codes.rows])))
        if part + 1 == of_parts.stop or sum(len(x.rows) for x in waiting) >= _BATCH:
            batch = concatenate(waiting)
            yield any_stream(batch) if joined else batch
            waiting = []


def _count(
    both: npt.NDArray[np.int32],
    codes: CodeRows,
    task: _Task,
    latents: int,
    offsets: npt.NDArray[np.int64] | None,
) -> None:
    """Add the latents active in the other stream on the images of each latent of the first.

    With offsets, on those that many places further on, cyclically.
    """
    # A latent that is selected but not active counts as one beyond the last. The smallest numbers
    # that hold it are gathered fastest.
    partners = codes.indices[task.other].astype(np.min_scalar_type(latents))
    partners[codes.values[task.other] <= 0] = latents
    # One latent at a time: its counts fit the processor's cache. A sparse product over all latents
    # takes several times as long.
    by_latent = codes.matrix(task.stream, latents)[
        :, task.latents.start : task.latents.stop
    ].tocsc()
    space = np.empty_like(partners)
    for line in np.flatnonzero(np.diff(by_latent.indptr)):
        images = by_latent.indices[by_latent.indptr[line] : by_latent.indptr[line + 1]]
        if offsets is not None:
            images = (images + offsets[line]) % len(partners)
        # All places are inside; with this mode NumPy writes to `out` at once.
        active = partners.take(images, axis=0, out=space[: len(images)], mode="clip")
        both[line] += np.bincount(active.ravel(), minlength=latents + 1)[:latents]


def _in_order(given: StreamPairs, streams: Sequence[str]) -> StreamPairs:
    """The same pairs with the earlier stream first, or within a stream the smaller latent."""
    first, second, both, phi = given.pairs
    if given.first == given.second:
        smaller, larger = np.minimum(first, second), np.maximum(first, second)
        return given._replace(pairs=Pairs(smaller, larger, both, phi))
    if streams.index(given.first) < streams.index(given.second):
        return given
    swapped = Pairs(second, first, both, phi)
    return StreamPairs(given.second, given.first, given.images, given.active[::-1], swapped)


def _merge(parts: Sequence[Cofired]) -> Cofired:
    """What is counted of the same streams, together."""
    return Cofired(
        _merge_pairs(chain.from_iterable(part.pairs for part in parts)),
        twins.merge(chain.from_iterable(part.twins for part in parts)),
        twins.merge(chain.from_iterable(part.shifted for part in parts)),
    )


def _merge_pairs(parts: Iterable[StreamPairs]) -> list[StreamPairs]:
    """The pairs of the same streams together; a pair that both its latents list appears once."""
    by_streams: dict[tuple[str, str], list[StreamPairs]] = {}
    for block in parts:
        by_streams.setdefault((block.first, block.second), []).append(block)
    merged = []
    for blocks in by_streams.values():
        pairs = concatenate_pairs([block.pairs for block in blocks])
        key = pairs.first * len(blocks[0].active[0]) + pairs.second
        merged.append(blocks[0]._replace(pairs=pairs.take(np.unique(key, return_index=True)[1])))
    return merged


def _tests(within: bool, active: tuple[Integers, Integers]) -> int:
    """The number of tests: pairs that could have been listed."""
    first, second = (int(np.count_nonzero(images >= LEAST_IMAGES)) for images in active)
    return first * (first - 1) // 2 if within else first * second
