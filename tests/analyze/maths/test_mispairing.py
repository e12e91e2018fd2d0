"""Pairings of latents; that draws are those that REPORT.md defines is tested with agreement."""

import numpy as np

from sparc.analyze.maths.mispairing import mispaired, same_latents


def test_latents_are_mispaired_with_others_of_like_frequency():
    counts = np.random.default_rng(0).permuted(np.tile(np.arange(60), (3, 1)), axis=1)
    pairing = mispaired(counts, seed=1, draw=0)
    assert [(p.first, p.second) for p in pairing.pairs] == [(0, 1), (0, 2), (1, 2)]
    for pair in pairing.pairs:
        alive = np.flatnonzero((counts[pair.first] > 0) & (counts[pair.second] > 0))
        partners = pair.partners[alive]
        assert (partners != alive).all()
        frequency = counts[pair.second]
        assert (np.abs(frequency[partners] - frequency[alive]) <= 7).all()  # 5 ranks, 2 dead
    other = mispaired(counts, seed=1, draw=1)
    assert (other.pairs[0].partners != pairing.pairs[0].partners).any()


def test_a_flag_involves_latents_and_their_partners():
    flagged = np.array([True, False, False, False])
    same = same_latents(2, 4)
    assert same.involves(flagged).tolist() == flagged.tolist()
    assert same.with_partners(flagged).tolist() == flagged.tolist()
    swapped = same._replace(pairs=[same.pairs[0]._replace(partners=np.array([1, 0, 3, 2]))])
    assert swapped.involves(flagged).tolist() == [True, True, False, False]
    assert swapped.with_partners(flagged).tolist() == [True, True, False, False]
