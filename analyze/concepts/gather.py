"""All that a report says of how streams share its latents, measured once.

What is measured here is not in the report's tables: it takes seconds from its codes.
"""

from collections.abc import Mapping
from functools import cached_property
from itertools import combinations, permutations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sparc.analyze.codes.code_sets import CodeSet, Control
from sparc.analyze.concepts.activity import Activity, read_activity
from sparc.analyze.concepts.agreement import agreement_of_latents
from sparc.analyze.concepts.evidence import Elsewhere, Figure, SameNumber, elsewhere, same_number
from sparc.analyze.concepts.names import (
    MostFrequentClass,
    Name,
    Place,
    monosemanticity,
    most_frequent_classes,
    names,
)
from sparc.analyze.maths.reduction import open_reducer
from sparc.analyze.metrics.meaning.purity import base_rates
from sparc.analyze.report.folder import Report
from sparc.analyze.report.sources import open_cache
from sparc.analyze.rows.images import Images, read_images
from sparc.analyze.rows.labels import Labels, read_labels

Pair = tuple[str, str]
Flags = npt.NDArray[np.bool_]


class Sharing(NamedTuple):
    """What pairs of streams have in common.

    Attributes:
        same: By pair, in either order: latents with the same number.
        elsewhere: By pair: what the second stream has, under any number, for latents of the first.
    """

    same: Mapping[Pair, SameNumber]
    elsewhere: Mapping[Pair, Elsewhere]

    def shared_by(self, streams: tuple[str, ...]) -> Flags:
        """The latents that every two of some streams share, (latents,)."""
        every = [self.same[pair].shared for pair in combinations(streams, 2)]
        return np.asarray(np.all(every, axis=0))


class Evidence:
    """A finished report, and what is measured on its independent codes when it is first needed.

    Args:
        report: The report.
        cache: Where its cache is if it has moved.

    Raises:
        SparcError: The cache is not there or another one, or the codes are damaged. So do the
            attributes.
    """

    def __init__(self, report: Report, cache: str = "") -> None:
        self.report = report
        self.cache = open_cache(report, cache)

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams, in the model's order."""
        return self.report.info.streams

    @cached_property
    def images(self) -> Images:
        """The images of the cache."""
        return read_images(self.cache, self.report.codes.valid)

    @cached_property
    def labels(self) -> Labels | None:
        """The labels of the cache; None if no row has any."""
        return read_labels(self.cache)

    @cached_property
    def base_rates(self) -> npt.NDArray[np.float64] | None:
        """The share of the labelled rows that carry each class, (classes,); None without labels."""
        if self.labels is None:
            return None
        return base_rates(self.labels.matrix[self.report.codes.valid])

    @cached_property
    def names(self) -> Mapping[Place, tuple[Name, ...]]:
        """The names of latents, the best first; none without captions."""
        return names(self.report)

    @cached_property
    def classes(self) -> Mapping[Place, MostFrequentClass]:
        """The most frequent class of each latent; none without labels."""
        return most_frequent_classes(self.report, self.cache)

    @cached_property
    def monosemanticity(self) -> Mapping[Place, float]:
        """How alike the images of each latent are, above chance."""
        return monosemanticity(self.report)

    @cached_property
    def activity(self) -> Activity:
        """On which images latents are active."""
        return self._read("trained", self.labels)

    @cached_property
    def sharing(self) -> Sharing:
        """What pairs of streams have in common."""
        return _sharing(self.activity, int(self.report.info.settings.get("seed", 42)))

    @cached_property
    def agreed(self) -> Mapping[Pair, Figure]:
        """By pair, in the streams' order, the agreement of every latent; empty without labels."""
        if self.activity.classes is None:
            return {}
        return agreement_of_latents(self.activity.classes)

    @cached_property
    def shared_untrained(self) -> int | None:
        """How many latents all streams share before the first step; None if not in the report."""
        if self.report.codes.missing(CodeSet("independent", "untrained")):
            return None
        active = self._read("untrained", None).active
        pairs = [same_number(active[a], active[b]).shared for a, b in combinations(active, 2)]
        return int(np.all(pairs, axis=0).sum()) if pairs else None

    def _read(self, control: Control, labels: Labels | None) -> Activity:
        code_set = CodeSet("independent", control)
        with open_reducer("threads") as reducer:
            return read_activity(self.report, self.cache, code_set, self.images, labels, reducer)


def _sharing(activity: Activity, seed: int) -> Sharing:
    active = activity.active
    same = {(a, b): same_number(active[a], active[b]) for a, b in combinations(active, 2)}
    both_ways = {**same, **{(b, a): of_pair for (a, b), of_pair in same.items()}}
    other = {
        (a, b): elsewhere(active[a], active[b], both_ways[a, b], seed=seed)
        for a, b in permutations(active, 2)
    }
    return Sharing(both_ways, other)
