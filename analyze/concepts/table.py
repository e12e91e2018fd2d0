"""The table of `sparc-analyze concepts`: a row for each latent. `REPORT.md` describes it."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.analyze.concepts.evidence import LEAST_IMAGES
from sparc.analyze.concepts.gather import Evidence
from sparc.common.text import amount

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

NAMES = 3
"""Words of a name at most."""


def schema(streams: Sequence[str]) -> pa.Schema:
    """The columns: those of the latent, then those of each stream, `…_STREAM`."""
    return pa.schema(
        [
            pa.field("latent", pa.int32(), nullable=False),
            pa.field("shared", pa.bool_(), nullable=False),
            pa.field("only", pa.list_(pa.string()), nullable=False),
            pa.field("lacking", pa.list_(pa.string()), nullable=False),
            pa.field("thin", pa.string()),
            pa.field("agreement", pa.float64()),
            pa.field("agreement_mispaired", pa.float64()),
            pa.field("agreement_excess", pa.float64()),
            pa.field("overlap", pa.float64()),
            pa.field("overlap_mispaired", pa.float64()),
            pa.field("overlap_excess", pa.float64()),
            pa.field("class_overlap", pa.float64()),
            *(field for stream in streams for field in _of_stream(stream)),
        ]
    )


def _of_stream(stream: str) -> list[pa.Field]:
    return [
        pa.field(f"name_{stream}", pa.string()),
        pa.field(f"name_images_{stream}", pa.int64()),
        pa.field(f"images_{stream}", pa.int64(), nullable=False),
        pa.field(f"frequency_{stream}", pa.float64(), nullable=False),
        pa.field(f"class_{stream}", pa.string()),
        pa.field(f"class_share_{stream}", pa.float64()),
        pa.field(f"monosemanticity_{stream}", pa.float64()),
    ]


def only(evidence: Evidence, stream: str) -> Flags:
    """The latents of a stream that every other stream lacks, under any number, (latents,)."""
    others = [other for other in evidence.streams if other != stream]
    if not others:
        return np.zeros(evidence.report.info.latents, np.bool_)
    elsewhere = evidence.sharing.elsewhere
    return np.asarray(np.all([elsewhere[stream, x].lacking for x in others], axis=0))


def lacking(evidence: Evidence, stream: str) -> Flags:
    """The latents that all other streams share, two at least, and this one lacks, (latents,)."""
    others = tuple(other for other in evidence.streams if other != stream)
    if len(others) < 2:
        return np.zeros(evidence.report.info.latents, np.bool_)
    missing = [evidence.sharing.elsewhere[x, stream].lacking for x in others]
    return np.asarray(np.all([evidence.sharing.shared_by(others), *missing], axis=0))


def build(
    evidence: Evidence, asked: Sequence[str], class_overlap: Floats | None = None
) -> pa.Table:
    """All latents that are active in any stream, ascending.

    Args:
        evidence: What is known of the report's latents.
        asked: The streams in question. Agreement and overlap are those of their weakest pair; of a
            single stream, of its weakest pair with another one.
        class_overlap: By latent, how far its images are those of a class.
    """
    streams = evidence.streams
    images = {stream: evidence.activity.images(stream) for stream in streams}
    pairs = [
        pair
        for pair in combinations(streams, 2)
        if (asked[0] in pair if len(asked) == 1 else {*pair} <= {*asked})
    ]
    alive = np.flatnonzero(np.any([count > 0 for count in images.values()], axis=0))
    columns = {
        "latent": alive.astype(np.int32),
        **_kinds(evidence, alive),
        "thin": [_thin({s: int(images[s][latent]) for s in asked}) for latent in alive],
        **_weakest(evidence, pairs, alive),
        "class_overlap": _nullable(None if class_overlap is None else class_overlap[alive], alive),
        **_by_stream(evidence, images, alive),
    }
    return pa.table(columns, schema=schema(streams))


def _kinds(evidence: Evidence, alive: Any) -> dict[str, Any]:
    """The columns that say who has a latent."""
    streams = evidence.streams
    if len(streams) < 2:
        nobody: list[list[str]] = [[] for _ in alive]
        return {"shared": np.zeros(len(alive), np.bool_), "only": nobody, "lacking": nobody}
    return {
        "shared": evidence.sharing.shared_by(streams)[alive],
        "only": _listed({s: only(evidence, s)[alive] for s in streams}),
        "lacking": _listed({s: lacking(evidence, s)[alive] for s in streams}),
    }


def _listed(flags: Mapping[str, Flags]) -> list[list[str]]:
    of_latents = zip(*(flags[stream] for stream in flags), strict=True)
    return [[s for s, flag in zip(flags, line, strict=True) if flag] for line in of_latents]


def _thin(images: Mapping[str, int]) -> str | None:
    """Why a latent is not judged in some of the streams in question; None if it is in all."""
    few = [
        f"active on the first row of {amount(count, 'image')} in {stream}"
        if count
        else f"active on no image's first row in {stream}"
        for stream, count in images.items()
        if count < LEAST_IMAGES
    ]
    return f"{', '.join(few)}; {LEAST_IMAGES} are needed" if few else None


def _weakest(evidence: Evidence, pairs: Sequence[tuple[str, str]], alive: Any) -> dict[str, Any]:
    """Agreement and overlap of the pair of streams with the smallest excess."""
    figures = {
        "agreement": {p: evidence.agreed[p] for p in pairs if p in evidence.agreed},
        "overlap": {p: evidence.sharing.same[p].overlap for p in pairs},
    }
    columns: dict[str, Any] = {}
    for name, of_pairs in figures.items():
        values = {
            "": [figure.value for figure in of_pairs.values()],
            "_mispaired": [figure.mispaired for figure in of_pairs.values()],
            "_excess": [figure.excess for figure in of_pairs.values()],
        }
        if not of_pairs:
            columns |= {f"{name}{which}": _nullable(None, alive) for which in values}
            continue
        excess = np.stack(values["_excess"])[:, alive]
        weakest = np.where(np.isnan(excess), -np.inf, excess).argmin(axis=0)
        for which, arrays in values.items():
            chosen = np.take_along_axis(np.stack(arrays)[:, alive], weakest[None], axis=0)[0]
            columns[f"{name}{which}"] = _nullable(chosen, alive)
    return columns


def _by_stream(evidence: Evidence, images: Mapping[str, Any], alive: Any) -> dict[str, Any]:
    called, classes, alike = evidence.names, evidence.classes, evidence.monosemanticity
    columns: dict[str, Any] = {}
    for stream in evidence.streams:
        own = [called.get((stream, latent), ())[:NAMES] for latent in alive]
        top = [classes.get((stream, latent)) for latent in alive]
        count = images[stream][alive]
        columns |= {
            f"name_{stream}": [", ".join(n.word for n in words) or None for words in own],
            f"name_images_{stream}": [words[0].images if words else None for words in own],
            f"images_{stream}": count,
            f"frequency_{stream}": count / len(evidence.activity.rows),
            f"class_{stream}": [c.name if c else None for c in top],
            f"class_share_{stream}": [c.share if c else None for c in top],
            f"monosemanticity_{stream}": [alike.get((stream, latent)) for latent in alive],
        }
    return columns


def _nullable(values: Floats | None, alive: Any) -> pa.Array:
    if values is None:
        return pa.nulls(len(alive), pa.float64())
    return pa.array(values, pa.float64(), mask=np.isnan(values))
