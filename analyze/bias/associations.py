"""Which latents go with an attribute of images, in each stream, and which of them meet under it.

`counting` counts images, part by part; `latents` and `pairs` test what was counted and make a table
each. A word of the attribute may stand in any caption of an image, and an image with more rows has
more captions: tests compare images with the same number of analysed rows only.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from sparc.analyze.bias.attribute import Attribute
from sparc.analyze.bias.counting import (
    BiasCounts,
    BiasInputs,
    Names,
    add,
    count_images,
    count_latents,
    count_meetings,
    list_examples,
    merge_counts,
    merge_examples,
    most_frequent,
    shuffle,
)
from sparc.analyze.bias.latents import associations_table
from sparc.analyze.bias.pairs import pairs_table, pairs_that_meet_more
from sparc.analyze.codes.parts import Parts
from sparc.analyze.maths.reduction import Reducer
from sparc.analyze.rows.active_images import analysed_rows
from sparc.analyze.rows.images import Images, ranks


class BiasTables(NamedTuple):
    """What goes with an attribute.

    Attributes:
        associations: Of schema `latents.SCHEMA`: each latent in each stream.
        pairs: Of schema `pairs.SCHEMA`: the pairs of latents that meet more often under it.
    """

    associations: pa.Table
    pairs: pa.Table


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
        names: The latents' names, for the tables.
        reducer: Runs the reductions.
        rate: False discovery rate that is accepted.
        examples: Example rows of a finding.
        pair_latents: Number of latents whose pairs are tested.
        most_pairs: Pairs reported per stream at most, the most certain first.
        seed: Seed of the control, in which the attribute is shuffled within strata.
    """
    none = np.zeros(0, np.int64)
    strata = ranks(analysed_rows(parts, images))
    shuffled = shuffle(attribute, strata, seed)
    number = int(strata.max()) + 1
    inputs = BiasInputs(parts, images, attribute, shuffled, strata, number, examples, none, ())
    counts: BiasCounts = reducer.reduce(
        count_latents, partial(merge_counts, examples), inputs, len(parts)
    )
    chosen = most_frequent(counts, pair_latents)
    inputs = inputs._replace(chosen=chosen)
    meetings = reducer.reduce(count_meetings, add, inputs, len(parts))
    having = count_images(strata, attribute.held)
    totals = np.stack([having, count_images(strata, attribute.known) - having])
    tested = [
        pairs_that_meet_more(
            control, stream, np.stack([held, known - held]), chosen, totals, rate, most_pairs
        )
        for group, control in ((1, "trained"), (2, "shuffled"))
        for stream, (known, held) in enumerate(meetings[:, [0, group]])
    ]
    pairs = tuple(np.stack([t.first, t.second], axis=1) for t in tested if t.control == "trained")
    inputs = inputs._replace(pairs=pairs)
    rows = reducer.reduce(list_examples, partial(merge_examples, examples), inputs, len(parts))
    return BiasTables(
        associations_table(parts, counts, totals, names, rate),
        pairs_table(parts, tested, rows, names),
    )
