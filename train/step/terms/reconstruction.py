"""Self- and cross-reconstruction (arXiv 2507.06265, section 3).

err is the paper's NMSE, or with `--error variance` |r - x|^2 over the variance of the stream of x.
"""

import torch
from torch import Tensor

from sparc.train.step.terms.term import PairTerm


class SelfReconstruction(PairTerm):
    """Every stream reconstructs itself: mean_s err(r_s<-s, x_s), with weight 1."""

    @property
    def weight(self) -> float:
        """1; other weights are relative to it."""
        return 1.0

    def pairs(self, streams: int) -> Tensor:
        """Each stream with itself."""
        return torch.eye(streams, dtype=torch.bool)


class CrossReconstruction(PairTerm):
    """Every stream reconstructs the others: mean_{s != t} err(r_t<-s, x_t)."""

    @property
    def weight(self) -> float:
        """`--cross-weight`."""
        return self.settings.cross_weight

    def pairs(self, streams: int) -> Tensor:
        """Each stream with every other one."""
        return ~torch.eye(streams, dtype=torch.bool)
