"""BatchTopK: rows use k latents on average, some more and some fewer.

Bussmann et al. 2024 (arXiv 2412.06410) keep the B k largest activations of a batch of B rows. The
dictionary of SPARC is shared, so here the B k largest *sums of logits over the streams* are kept:
the counterpart of Global TopK, and the streams of a row use the same latents. Codes have a fixed
width, so a row keeps at most `ModelConfig.k_max` of them.

In use a row's code must not depend on its batch. As in the paper a threshold decides instead: the
running mean of the smallest score that training batches kept. It is learned for the sum of all
streams, and for every stream by itself; independent mode uses the latter.
"""

import torch
from torch import Tensor

from sparc.train.model.selectors.selector import Selector


class BatchTopK(Selector):
    """The largest sums of logits of a whole batch, k a row on average."""

    own_mode = "joint"
    learns_thresholds = True

    def keep(self, scores: Tensor, k: int, threshold: Tensor | None) -> Tensor:
        """Those that reach the threshold; without one the k largest of every row."""
        if threshold is None:
            threshold = scores.topk(k, dim=1).values[:, -1:]
        return (scores < threshold).logical_not()  # NaN stays, so that the loss shows it

    def batch_threshold(self, scores: Tensor, k: int) -> Tensor:
        """The B k-th largest score; where several are equal to it, more than B k are kept."""
        return torch.kthvalue(scores.flatten(), scores.numel() - len(scores) * k + 1).values
