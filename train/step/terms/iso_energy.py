"""Iso-energy: a latent has the same energy in every stream."""

import torch
from torch import Tensor

from sparc.train.reference import Forward
from sparc.train.step.terms.term import LossTerm


class IsoEnergy(LossTerm):
    """iso_energy = mean over latents l and pairs s < t of |E_sl - E_tl| / (E_sl + E_tl).

    E_sl is the mean of z_sl^2 over the rows of the batch. A latent without energy in both streams
    counts as 0, one with energy in one of them as 1. It needs no pairs of features, only batches.

    Source: the Iso-Energy assumption of arXiv 2602.06218, with the relative difference that its
    code has (there without | |, which only rewards energy in the second stream). The paper's own
    SAE maximizes the cosine of paired codes instead.

    Energies are of a whole batch, not of a row, so there are no derivatives by hand.
    """

    def dense(self, forward: Forward) -> Tensor:
        """The formula: a scalar; 0 for a single stream."""
        energies = [z.square().mean(0) for z in forward.codes.values()]
        differences = [
            torch.where(total > 0, (one - other).abs() / torch.where(total > 0, total, 1), 0)
            for place, one in enumerate(energies)
            for other in energies[place + 1 :]
            for total in [one + other]
        ]
        if not differences:
            return energies[0].new_zeros(())
        return torch.stack(differences).mean()
