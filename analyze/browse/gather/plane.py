"""A map of the latents: those that write similar directions into the streams lie close together."""

from typing import Any

import numpy as np
import numpy.typing as npt

from sparc.analyze.browse.contents import columns as encoded
from sparc.analyze.browse.contents.views import Map
from sparc.analyze.browse.gather.gathered import Gathered
from sparc.analyze.browse.gather.neighbours import directions

MOST_LATENTS = 10_000
"""Latents that t-SNE places, within about two minutes; of more, the most interesting ones."""

_COMPONENTS = 50  # That t-SNE begins with, as is the custom.

_PERPLEXITY = 30

_SEED = 0

Floats = npt.NDArray[np.float64]


def place_latents(gathered: Gathered) -> Map | str:
    """Place the latents that are alive; or why that is not possible, in words."""
    if isinstance(gathered.run, str):
        return gathered.run
    alive = [n for n in gathered.by_interest if not gathered.tables.dead[n]]
    if len(alive) < 3:
        return "fewer than three latents are alive"
    latents = np.sort(np.array(alive[:MOST_LATENTS]))
    model = gathered.run.subject.model
    # The mean over the streams of the cosines of two latents is the product of these.
    rows = np.concatenate(
        [directions(model, s)[latents] for s in gathered.evidence.streams], axis=1
    )
    plane, method = _place(_principal(rows.astype(np.float64)))
    if len(latents) < len(alive):
        method += f", of the {len(latents):,} most interesting of {len(alive):,} latents"
    low, span = plane.min(axis=0), np.ptp(plane, axis=0)
    x, y = ((plane - low) / np.where(span > 0, span, 1)).T
    return Map(
        method=method,
        latents=encoded.counts(latents),
        x=encoded.floats(x),
        y=encoded.floats(y),
    )


def _principal(rows: Floats) -> Floats:
    """The first principal components of some rows, each with the sign of its largest entry."""
    centred = rows - rows.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, ::-1][:, :_COMPONENTS]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    return np.asarray(centred @ (axes * np.sign(largest)))


def _place(components: Floats) -> tuple[Floats, str]:
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        return components[:, :2], (
            "the first two principal components of the decoder rows; "
            "with scikit-learn (the extra `browse`) t-SNE places them better"
        )
    perplexity = min(_PERPLEXITY, (len(components) - 1) / 3)
    placed: Any = TSNE(init="pca", perplexity=perplexity, random_state=_SEED)
    method = f"t-SNE of the decoder rows of all streams, perplexity {perplexity:.0f}, seed {_SEED}"
    return np.asarray(placed.fit_transform(components), np.float64), method
