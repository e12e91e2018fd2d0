"""Distances at every depth, against dense counts."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from sparc.analyze.maths.lifted_distances import fold_distances, sample_distances

LIFTS = [np.arange(6), np.array([0, 0, 0, 3, 3, 5]), np.zeros(6, np.int64)]
"""Six classes in the order of their tree, from the deepest depth to the root."""


def lifted(counts, lift):
    """Counts of classes, (..., classes), added up where they are lifted to the same class."""
    return np.stack([counts[..., lift == c].sum(axis=-1) for c in range(len(lift))], axis=-1)


def draw(seed, folds):
    """A - B in each fold, (folds, latents, classes)."""
    generator = np.random.default_rng(seed)
    return generator.integers(-2, 3, (folds, 4, 6)) * (generator.random((folds, 4, 6)) < 0.5)


def as_matrix(differences):
    matrix = sparse.csr_matrix(differences.reshape(-1, 6).astype(np.int32))
    matrix.sort_indices()
    return matrix


@given(seed=st.integers(0, 10_000), folds=st.integers(0, 5))
def test_distances_without_each_fold(seed, folds):
    others, in_folds = draw(seed, 1)[0], draw(seed + 1, folds)
    whole = others + in_folds.sum(axis=0)
    cases = np.concatenate([whole[None], whole - in_folds])
    matrix = as_matrix(np.concatenate([whole[None], in_folds]))
    actual = list(fold_distances(matrix, 1 + folds, LIFTS))
    assert len(actual) == len(LIFTS)
    for distances, lift in zip(actual, LIFTS, strict=True):
        assert distances.tolist() == np.abs(lifted(cases, lift)).sum(axis=-1).tolist()


@given(seed=st.integers(0, 10_000), folds=st.integers(1, 5))
def test_distances_on_samples_of_folds(seed, folds):
    in_folds = draw(seed, folds)
    members = np.random.default_rng(seed).integers(0, 2, (3, folds)).astype(np.float32)
    samples = np.einsum("sf,flc->slc", members, in_folds)
    actual = list(sample_distances(as_matrix(in_folds), members, LIFTS))
    assert len(actual) == len(LIFTS)
    for distances, lift in zip(actual, LIFTS, strict=True):
        assert distances.tolist() == np.abs(lifted(samples, lift)).sum(axis=-1).tolist()
