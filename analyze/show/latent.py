"""All that a report says of one latent."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.codes.parts import Parts
from sparc.analyze.concepts.evidence import Figure
from sparc.analyze.concepts.gather import Evidence
from sparc.analyze.concepts.table import lacking, only
from sparc.analyze.rows.lines import lines_of
from sparc.analyze.show.view import (
    ClassShare,
    InPair,
    InStream,
    Latent,
    LatentImage,
    Nearest,
    Partner,
)

STRONGEST = 5
"""Images listed that a latent is strongest on, in each stream."""

QUANTILES = (0.25, 0.5, 0.75)
"""Beside these, an image at this share of all its images, from the strongest to the weakest."""

CLASSES = 3
"""Classes listed of a latent in each stream."""


def latent(evidence: Evidence, number: int) -> Latent:
    """Gather all that is known of a latent.

    Args:
        evidence: A report, opened to ask for its latents.
        number: The latent.

    Raises:
        SparcError: There is no such latent, or the report's cache is not there.
    """
    evidence.report.check_latent(number)
    streams = evidence.streams
    several = len(streams) > 1
    sharing = evidence.sharing
    return Latent(
        number,
        int(evidence.images.analysed.sum()),
        bool(several and sharing.shared_by(streams)[number]),
        tuple(s for s in streams if several and only(evidence, s)[number]),
        tuple(s for s in streams if several and lacking(evidence, s)[number]),
        _in_streams(evidence, number),
        tuple(in_pair(evidence, number, pair) for pair in combinations(streams, 2)),
        tuple(nearest(evidence, number)),
        _partners(evidence, number),
    )


def _in_streams(evidence: Evidence, number: int) -> tuple[InStream, ...]:
    active = _active_rows(evidence, number)
    of_row = evidence.images.of_row
    chosen: dict[str, tuple[list[tuple[int, int, float]], list[tuple[int, int, float]]]] = {}
    for stream, (rows, values) in active.items():
        order = np.lexsort((rows, -values))
        rows, values = rows[order], values[order]
        first = np.sort(np.unique(of_row[rows], return_index=True)[1])  # each image's strongest row
        listed = [(i + 1, int(rows[p]), float(values[p])) for i, p in enumerate(first)]
        at = [round(share * (len(listed) - 1)) for share in QUANTILES]
        further = dict.fromkeys(place for place in at if place >= STRONGEST)
        chosen[stream] = listed, [listed[place] for place in further]
    wanted = [e for listed, more in chosen.values() for e in (*listed[:STRONGEST], *more)]
    texts = _texts(evidence, sorted({row for _, row, _ in wanted}))

    def shown(entries: Sequence[tuple[int, int, float]]) -> tuple[LatentImage, ...]:
        return tuple(LatentImage(place, value, row, *texts[row]) for place, row, value in entries)

    result = []
    for stream, (listed, more) in chosen.items():
        rows, _ = active[stream]
        classes, labelled = _classes(evidence, rows)
        result.append(
            InStream(
                stream,
                len(rows),
                len(rows) / max(int(evidence.report.info.rows), 1),
                len(listed),
                evidence.names.get((stream, number), ()),
                classes,
                labelled,
                evidence.monosemanticity.get((stream, number)),
                shown(listed[:STRONGEST]),
                shown(more),
            )
        )
    return tuple(result)


def _active_rows(
    evidence: Evidence, number: int
) -> dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
    """By stream, the rows on which the latent is active, and its values there."""
    parts = Parts(evidence.report.codes, evidence.cache, CodeSet("independent"))
    by_stream: dict[str, list[Any]] = {stream: [] for stream in evidence.streams}
    for part in range(len(parts)):
        codes = parts.codes(part)
        for stream, pieces in by_stream.items():
            at = (codes.indices[stream] == number) & (codes.values[stream] > 0)
            pieces.append((codes.rows[at.any(axis=1)], codes.values[stream][at]))
    return {
        stream: (np.concatenate([p[0] for p in pieces]), np.concatenate([p[1] for p in pieces]))
        for stream, pieces in by_stream.items()
    }


def _texts(
    evidence: Evidence, rows: Sequence[int]
) -> dict[int, tuple[str, str | None, str | None]]:
    """The name, the image and the caption of some rows."""
    columns = ["sample_id", "image", "caption"]
    taken = lines_of(evidence.cache, columns, np.array(rows, np.int64)).to_pylist()
    return {
        row: (line["sample_id"], line["image"], line["caption"])
        for row, line in zip(rows, taken, strict=True)
    }


def _classes(evidence: Evidence, rows: npt.NDArray[np.int64]) -> tuple[tuple[ClassShare, ...], int]:
    labels, base = evidence.labels, evidence.base_rates
    if labels is None or base is None:
        return (), 0
    labelled = evidence.report.codes.valid & labels.labelled
    own = rows[labelled[rows]]
    if not len(own):
        return (), 0
    count = np.asarray(labels.matrix[own].sum(axis=0)).ravel()
    share = count / len(own)
    order = np.argsort(base - share, kind="stable")[:CLASSES]
    called = evidence.cache.classes()["name"].to_pylist()
    return tuple(
        ClassShare(called[labels.class_ids[c]], int(count[c]), float(share[c]), float(base[c]))
        for c in order
        if share[c] > base[c]
    ), len(own)


def in_pair(evidence: Evidence, number: int, pair: tuple[str, str]) -> InPair:
    """What a latent is in two streams, in their order."""
    same, agreed = evidence.sharing.same[pair], evidence.agreed.get(pair)
    return InPair(
        *pair,
        int(same.both[number]),
        *_figure(same.overlap, number),
        *_figure(agreed, number),
        float(same.q[number]),
        bool(same.shared[number]),
    )


def _figure(figure: Figure | None, number: int) -> tuple[float | None, float | None]:
    if figure is None:
        return None, None
    value, chance = float(figure.value[number]), float(figure.mispaired[number])
    return (None if np.isnan(value) else value), (None if np.isnan(chance) else chance)


def nearest(evidence: Evidence, number: int) -> list[Nearest]:
    """What other streams have for a latent of each stream, where it is alive and not shared."""
    result = []
    for (stream, other), of_pair in evidence.sharing.elsewhere.items():
        alive = evidence.activity.images(stream)[number] > 0
        if alive and not evidence.sharing.same[stream, other].shared[number]:
            limit, match = float(of_pair.limit[number]), int(of_pair.latent[number])
            result.append(
                Nearest(
                    stream,
                    other,
                    None if match < 0 else match,
                    float(of_pair.overlap[number]),
                    None if np.isnan(limit) else limit,
                    bool(of_pair.lacking[number]),
                )
            )
    return result


def _partners(evidence: Evidence, number: int) -> tuple[Partner, ...]:
    """Those of its own streams, the closest first in each."""
    if "cofiring" not in evidence.report.tables:
        return ()
    within = (pc.field("mode") == "independent") & (pc.field("first") == pc.field("second"))
    mine = (pc.field("first_latent") == number) | (pc.field("second_latent") == number)
    rows = evidence.report.table("cofiring").filter(within & mine).to_pylist()
    rows.sort(key=lambda row: (evidence.streams.index(row["first"]), -row["phi"]))
    result = []
    for row in rows:
        other = row["second_latent" if row["first_latent"] == number else "first_latent"]
        stream = row["first"]
        words = evidence.names.get((stream, other), ())
        counts = row["images_both"], row["lift"], row["phi"]
        result.append(Partner(stream, other, words, *counts))
    return tuple(result)
