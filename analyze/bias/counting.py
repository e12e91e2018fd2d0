"""The images on which latents, and pairs of them, are active with an attribute, part by part.

Everything is counted on whole images: a latent is active on an image if it is active on one of its
rows. An image with more rows has more chances of that, so images are counted by stratum: those of
one stratum have the same number of analysed rows. This module must not know what is tested.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparc.analyze.bias.attribute import Attribute
from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.parts import Parts
from sparc.analyze.maths.packing import Packed, pack
from sparc.analyze.rows import top_rows
from sparc.analyze.rows.active_images import active_images, whole_images
from sparc.analyze.rows.images import Images
from sparc.analyze.rows.top_rows import TopRows

Names = Mapping[tuple[str, int], list[str]]
"""The words that name a latent, by stream and latent; those without a name are left out."""


Integers = npt.NDArray[np.int64]


Flags = npt.NDArray[np.bool_]


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


class BiasInputs(NamedTuple):
    """What a part is counted with.

    Attributes:
        parts: The codes.
        images: The images of the cache's rows.
        attribute: The attribute.
        shuffled: The images that have it after it was shuffled, (images,).
        strata: The stratum of each image, (images,).
        number: How many strata there are.
        examples: Example rows of a finding.
        chosen: The latents whose pairs are counted.
        pairs: By stream, (pairs, 2): those whose example rows are listed.
    """

    parts: Parts
    images: Images
    attribute: Attribute
    shuffled: Flags
    strata: Integers
    number: int
    examples: int
    chosen: Integers
    pairs: tuple[Integers, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        # Packed, since other processes may be far away.
        empty = np.zeros(0, np.int64)
        others = self._replace(shuffled=empty > 0, strata=empty)
        return _unpacked, (tuple(others), pack(self.shuffled), pack(self.strata))


def _unpacked(others: tuple[Any, ...], shuffled: Packed, strata: Packed) -> BiasInputs:
    return BiasInputs(*others)._replace(shuffled=shuffled.array, strata=strata.array)


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


def count_images(strata: Integers, flags: Flags) -> Integers:
    """Images that are flagged, (strata,)."""
    return np.bincount(strata[flags], minlength=int(strata.max()) + 1)


def _groups(inputs: BiasInputs) -> tuple[Flags, Flags, Flags]:
    """The images that are counted: those known, those with the attribute, the same shuffled."""
    return inputs.attribute.known, inputs.attribute.held, inputs.shuffled


def count_latents(inputs: BiasInputs, part: int) -> BiasCounts:
    """The images of a part on which each latent is active."""
    codes = whole_images(inputs.parts, inputs.images, part)
    latents, attribute = inputs.parts.latents, inputs.attribute
    groups, strata = _groups(inputs), inputs.number
    counts = np.zeros((len(groups), len(codes.streams), strata, latents), np.int64)
    for s, stream in enumerate(codes.streams):
        active, numbers = active_images(codes, stream, latents, inputs.images)
        entries = np.diff(active.indptr)
        places = np.repeat(inputs.strata[numbers], entries) * latents + active.indices
        for group, flags in zip(counts, groups, strict=True):
            counted = places[np.repeat(flags[numbers], entries)]
            group[s] = np.bincount(counted, minlength=strata * latents).reshape(strata, latents)
    of_row = inputs.images.of_row[codes.rows]
    held = codes.take(np.flatnonzero(attribute.held[of_row]))
    others = codes.take(np.flatnonzero((attribute.known & ~attribute.held)[of_row]))
    return BiasCounts(
        counts[0],
        counts[1],
        counts[2],
        tuple(_strongest(inputs, held, stream) for stream in codes.streams),
        tuple(_strongest(inputs, others, stream) for stream in codes.streams),
    )


def _strongest(inputs: BiasInputs, codes: CodeRows, stream: str) -> TopRows:
    """The rows of whole images on which each latent is strongest, one per image."""
    of_row = inputs.images.of_row
    lists = top_rows.strongest(codes, stream, inputs.examples * _most_rows(inputs, codes))
    return top_rows.cut(top_rows.one_per_image(lists, of_row), inputs.examples)


def _most_rows(inputs: BiasInputs, codes: CodeRows) -> int:
    """The largest number of rows of one image."""
    numbers = np.unique(inputs.images.of_row[codes.rows], return_counts=True)[1]
    return int(numbers.max(initial=1))


def merge_counts(examples: int, counts: Sequence[BiasCounts]) -> BiasCounts:
    """The counts of several parts as one."""

    def merged(lists: Sequence[tuple[TopRows, ...]]) -> tuple[TopRows, ...]:
        return tuple(top_rows.merge(of_stream, examples) for of_stream in zip(*lists, strict=True))

    return BiasCounts(
        known=add([part.known for part in counts]),
        held=add([part.held for part in counts]),
        shuffled=add([part.shuffled for part in counts]),
        top_held=merged([part.top_held for part in counts]),
        top_others=merged([part.top_others for part in counts]),
    )


def most_frequent(counts: BiasCounts, number: int) -> Integers:
    """The latents active on most images with the attribute, all streams together; ascending."""
    total = counts.held.sum(axis=(0, 1))
    order = np.argsort(-total, kind="stable")[:number]
    return np.sort(order[total[order] > 0])


def count_meetings(inputs: BiasInputs, part: int) -> npt.NDArray[np.int32]:
    """The images of a part on which two of the chosen latents are active.

    Returns:
        (streams, groups, strata, latents, latents) int32; the groups are those of `_groups`.
    """
    codes = whole_images(inputs.parts, inputs.images, part)
    chosen, groups = inputs.chosen, _groups(inputs)
    strata = inputs.number
    shape = len(codes.streams), len(groups), strata, len(chosen), len(chosen)
    result = np.zeros(shape, np.int32)
    for s, stream in enumerate(codes.streams):
        active, numbers = active_images(codes, stream, inputs.parts.latents, inputs.images)
        active = active[:, chosen].tocsr()
        for g, stratum in product(range(len(groups)), np.unique(inputs.strata[numbers])):
            counted = groups[g][numbers] & (inputs.strata[numbers] == stratum)
            some = active[np.flatnonzero(counted)]
            result[s, g, stratum] = (some.T @ some).toarray()
    return result


def add(counts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """The sum of the counts of parts."""
    return sum(counts[1:], start=counts[0])


Examples = list[dict[int, list[tuple[float, int]]]]
"""By stream and number of the pair, (-value, row): value is that of the weaker latent."""


def list_examples(inputs: BiasInputs, part: int) -> Examples:
    """The rows of a part on which the weaker latent of each pair is strongest."""
    codes = whole_images(inputs.parts, inputs.images, part)
    held = inputs.attribute.held[inputs.images.of_row[codes.rows]]
    codes = codes.take(np.flatnonzero(held))
    of_row = inputs.images.of_row[codes.rows]
    enough = inputs.examples * _most_rows(inputs, codes)
    result: Examples = []
    for stream, pairs in zip(codes.streams, inputs.pairs, strict=True):
        wanted, places = np.unique(pairs, return_inverse=True)
        values = codes.matrix(stream, inputs.parts.latents)[:, wanted].toarray()
        first, second = places.reshape(pairs.shape).T
        weaker = np.minimum(values[:, first], values[:, second])
        strongest = np.argsort(-weaker, axis=0, kind="stable")[:enough]
        listed = {}
        for pair, rows in enumerate(strongest.T):
            # One row per image, the strongest, which comes first.
            best: dict[int, tuple[float, int]] = {}
            for row in rows[weaker[rows, pair] > 0]:
                entry = -float(weaker[row, pair]), int(codes.rows[row])
                best.setdefault(int(of_row[row]), entry)
            listed[pair] = list(best.values())[: inputs.examples]
        result.append(listed)
    return result


def merge_examples(number: int, examples: Sequence[Examples]) -> Examples:
    """The first rows of several parts, by stream and pair."""
    return [
        {pair: sorted(row for part in parts for row in part[pair])[:number] for pair in parts[0]}
        for parts in zip(*examples, strict=True)
    ]
