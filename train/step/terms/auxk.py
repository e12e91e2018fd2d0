"""AuxK: the dead latents of a stream reconstruct what its own code leaves over."""

import torch
from torch import Tensor

from sparc.train.reference import Forward, aux
from sparc.train.step.recipes.recipe import recipe_of
from sparc.train.step.terms.dead_code import DeadDictionary
from sparc.train.step.terms.term import Contribution, SparseTerm, StreamRows


class AuxK(SparseTerm):
    """aux_s = NMSE(W_dec,s a_s + b_pre,s, stopgrad(x_s - r_s<-s + b_pre,s)).

    a_s = ReLU(h_s) on the `auxk` largest of the dead latents; 0 where none is dead.
    With `--error variance` too, it is divided by |target|^2: what is left over shrinks in training,
    and the variance of the features would turn the term off with it.
    Source: appendix of arXiv 2507.06265, after Gao et al. 2024, equation 10.
    """

    always_logged = True
    reads_offers_alone = True

    @property
    def weight(self) -> float:
        """`--aux-weight`."""
        return self.settings.aux_weight

    def dense(self, forward: Forward) -> Tensor:
        """The formula, by stream."""
        constant = recipe_of(self.settings).auxk_without_dead
        return aux(forward, self.settings.auxk, constant=constant)

    def applies(self, dead: DeadDictionary | None) -> bool:
        """In streams where a latent may be dead."""
        return dead is not None

    def sparse(self, rows: StreamRows) -> Contribution:
        """Losses and derivatives; the auxiliary code is one over the dead latents.

        Without any the code is empty, and the loss is the constant of the published recipe, which
        has a derivative by the pre-bias only.
        """
        assert rows.dead is not None
        error = rows.errors()
        bias = rows.model.pre_bias[rows.model.config.names[rows.stream]]
        # The target, a constant, is x - r + b_pre; b_pre is on both sides of the difference.
        target_norms = (bias - error).square().sum(1, keepdim=True)
        per_norm = torch.where(target_norms > 0, 1 / target_norms, 0)  # 0 if nothing is left over
        if rows.dead.any_dead is not None:
            per_norm = per_norm * rows.dead.any_dead
        code = rows.dead.code(min(self.settings.auxk, rows.dead.size))
        difference = code.decoded.add_(error)
        losses = difference.square().sum(1) * per_norm.squeeze(1)
        residuals = difference.mul_(per_norm * (2 * rows.weight))
        return Contribution(losses, auxiliary=code.differentiate(residuals))
