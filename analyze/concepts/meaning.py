"""Which latents have a meaning in a stream that can be told: a word or a class goes with them."""

from typing import Any

import numpy as np
import numpy.typing as npt

from sparc.analyze.concepts.evidence import LARGEST_Q, LEAST_IMAGES
from sparc.analyze.concepts.gather import Evidence
from sparc.analyze.maths.exact_tests import benjamini_hochberg, upper_tail

Flags = npt.NDArray[np.bool_]


def with_meaning(evidence: Evidence, stream: str) -> Flags | None:
    """The latents that have a name in a stream, or that a class goes with, (latents,).

    A name is a word that goes with the latent's strongest images, tested when the report was made;
    the class is tested here. How alike the images of a latent are is no such evidence: a few
    images out of many are always more alike than any two, and there is no saying in what.

    Returns:
        None where there are neither captions nor labels.
    """
    if evidence.labels is None and "naming" not in evidence.report.tables:
        return None
    named = np.zeros(evidence.report.info.latents, np.bool_)
    named[[latent for of, latent in evidence.names if of == stream]] = True
    return named | _with_a_class(evidence, stream)


def _with_a_class(evidence: Evidence, stream: str) -> Flags:
    """Fisher's exact test of every latent with every class, one-sided, over labelled images."""
    active: Any = evidence.activity.active[stream]
    result = np.zeros(active.shape[0], np.bool_)
    if evidence.labels is None:
        return result
    rows = evidence.activity.rows
    labels = evidence.labels.with_ancestors(rows)
    labelled = np.asarray(labels.sum(axis=1)).ravel() > 0
    active, held = active[:, labelled], labels[labelled]
    tested = np.flatnonzero(np.diff(active.indptr) >= LEAST_IMAGES)
    both = (active[tested] @ held).tocoo()
    of_latent = np.diff(active.indptr)[tested]
    of_class = np.asarray(held.sum(axis=0)).ravel()
    p = upper_tail(both.data, int(labelled.sum()), of_latent[both.row], of_class[both.col])
    q = benjamini_hochberg(p, tests=both.shape[0] * both.shape[1])
    result[tested[both.row[q <= LARGEST_Q]]] = True
    return result
