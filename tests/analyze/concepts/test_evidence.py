"""What two streams have in common, against computations by hand and against what chance gives."""

from itertools import product

import numpy as np
import pytest
from scipy import sparse

from sparc.analyze.concepts.evidence import LEAST_IMAGES, elsewhere, same_number
from sparc.analyze.concepts.rivals import rivals, upper_of_neighbours
from sparc.analyze.maths.mispairing import partners

IMAGES, LATENTS = 400, 60


def matrix(flags):
    return sparse.csr_matrix(np.asarray(flags, np.int32))


def random_flags(seed, share=0.05, latents=LATENTS):
    return np.random.default_rng(seed).random((latents, IMAGES)) < share


def noisy(flags, seed, kept=0.6):
    """The same concepts, seen by a stream that misses some images and adds others."""
    generator = np.random.default_rng(seed)
    return (flags & (generator.random(flags.shape) < kept)) | (generator.random(flags.shape) < 0.01)


def jaccard(a, b):
    return (a & b).sum() / max((a | b).sum(), 1)


def test_overlap_and_its_chance_are_those_of_all_latents_that_a_draw_could_take():
    a, b = random_flags(1, latents=30), noisy(random_flags(1, latents=30), 2)
    b[3] = False
    same = same_number(matrix(a), matrix(b))
    by_hand = [jaccard(x, y) for x, y in zip(a, b, strict=True)]
    assert same.overlap.value == pytest.approx(np.array(by_hand))
    taken = {latent: set() for latent in range(30)}
    for seed in range(300):
        drawn = partners(a.sum(axis=1), b.sum(axis=1), seed=seed, draw=0, pair=0)
        for latent, other in enumerate(drawn):
            taken[latent].add(int(other))
    pairing = rivals(a.sum(axis=1), b.sum(axis=1))
    assert 3 not in pairing.latents
    for latent, others, known in zip(*pairing, strict=True):
        # Draws break ties at random, so that they reach a few latents more.
        assert set(others[known].tolist()) <= taken[int(latent)]
        assert int(latent) not in others[known]
    one_way = {
        int(latent): np.mean([jaccard(a[latent], b[m]) for m in others[known]])
        for latent, others, known in zip(*pairing, strict=True)
    }
    back = {
        int(latent): np.mean([jaccard(b[latent], a[m]) for m in others[known]])
        for latent, others, known in zip(*rivals(b.sum(axis=1), a.sum(axis=1)), strict=True)
    }
    for latent, mean in one_way.items():
        assert same.overlap.mispaired[latent] == pytest.approx((mean + back[latent]) / 2)
    assert np.isnan(same.overlap.mispaired[3])
    assert not same.shared[3]


def test_latents_are_shared_if_they_stand_for_the_same_and_not_by_accident():
    concepts = random_flags(3)
    same = same_number(matrix(noisy(concepts, 4)), matrix(noisy(concepts, 5)))
    assert same.shared.mean() > 0.9
    accidents = [
        same_number(matrix(random_flags(seed)), matrix(random_flags(seed + 100))).shared.sum()
        for seed in range(10, 30)
    ]
    assert sum(accidents) <= 1  # of 20 times 60


def test_classes_in_common_do_not_make_latents_shared():
    """Every latent prefers a group of images; any two of a group overlap, whatever the number."""
    generator = np.random.default_rng(6)
    group = np.arange(LATENTS) % 3
    prefers = group[:, None] == np.arange(IMAGES) % 3

    def stream():
        return generator.random((LATENTS, IMAGES)) < np.where(prefers, 0.4, 0.01)

    same = same_number(matrix(stream()), matrix(stream()))
    assert (same.q <= 0.01).mean() > 0.9  # of accidents in the images it is not one
    assert same.shared.mean() < 0.2


def test_a_duplicate_does_not_hide_that_a_latent_is_shared():
    concepts = random_flags(7)
    concepts[1::2] = concepts[::2]  # every concept twice
    same = same_number(matrix(noisy(concepts, 8)), matrix(noisy(concepts, 9)))
    assert same.shared.mean() > 0.9


def test_what_is_lacking_is_neither_under_its_number_nor_under_another():
    concepts = random_flags(10)
    first, second = noisy(concepts, 11, kept=0.9), noisy(concepts, 12, kept=0.9)
    second[:5] = random_flags(13)[:5]  # these are gone
    second[[5, 6]] = second[[6, 5]]  # these have changed places
    a, b = matrix(first), matrix(second)
    same = same_number(a, b)
    other = elsewhere(a, b, same, seed=1)
    assert np.flatnonzero(other.lacking).tolist() == [0, 1, 2, 3, 4]
    assert not same.shared[:7].any()
    assert other.latent[[5, 6]].tolist() == [6, 5]
    for latent in (0, 5, 20):
        best = max(jaccard(first[latent], second[m]) for m in range(LATENTS))
        assert other.overlap[latent] == pytest.approx(best)
    usual = np.median(same.overlap.value[same.shared])
    assert other.limit == pytest.approx(np.maximum(other.chance, usual / 2))


def test_where_nothing_can_be_said_nothing_is_said():
    few = np.zeros((LATENTS, IMAGES), bool)
    for latent in range(LATENTS):
        few[latent, np.random.default_rng(latent).permutation(IMAGES)[: LEAST_IMAGES - 1]] = True
    alike = same_number(matrix(few), matrix(few))
    assert np.all(alike.overlap.value == 1)
    assert not alike.shared.any()  # too thin
    assert not elsewhere(matrix(few), matrix(few), alike, seed=1).lacking.any()
    # Two streams that share nothing do not say what a shared latent looks like.
    a, b = matrix(random_flags(20)), matrix(random_flags(21))
    other = elsewhere(a, b, same_number(a, b), seed=1)
    assert np.isnan(other.limit).all()
    assert not other.lacking.any()


def test_one_latent_has_none_to_be_compared_with():
    flags = random_flags(22, latents=1)
    same = same_number(matrix(flags), matrix(flags))
    assert np.isnan(same.overlap.mispaired).all()
    assert not same.shared.any()


def test_a_quantile_of_neighbours_is_that_of_the_latents_next_in_rank():
    values = np.random.default_rng(23).random((9, 4))
    values[2, 1] = np.nan
    for share, around in product((0.5, 0.95), (1, 20)):
        result = upper_of_neighbours(values, share, around=around)
        for place in range(9):
            near = values[max(0, place - around) : place + around + 1].ravel()
            near = np.sort(near[~np.isnan(near)])
            assert result[place] == near[int(np.ceil(share * (len(near) - 1)))]
