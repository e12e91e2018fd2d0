"""TopK: which latents of a row are the largest.

Must not know what the numbers are.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_GROUP = 8
"""Latents that are first compared by their maximum."""


def largest(logits: Tensor, k: int) -> Tensor:
    """The k largest of every row, in no particular order; ties are broken the same way every time.

    Where they are few among many, a CPU finds them several times faster by looking at maxima of
    groups first: the k largest numbers lie in the k groups with the largest maxima.

    Args:
        logits: (rows, latents).
        k: How many, at most all.

    Returns:
        (rows, k) int64.
    """
    rows, latents = logits.shape
    groups = latents // _GROUP
    if logits.device.type != "cpu" or latents % _GROUP or groups < 8 * k:
        return _partition(logits, k)
    # A group takes latents at a stride, not neighbours: maxima of whole rows are fast.
    grouped = logits.detach().view(rows, _GROUP, groups)
    chosen = largest(grouped.amax(1), k)
    candidates = grouped.gather(2, chosen.unsqueeze(1).expand(rows, _GROUP, k)).view(rows, -1)
    best = _partition(candidates, k)
    return chosen.gather(1, best % k) + best // k * groups


def _partition(numbers: Tensor, k: int) -> Tensor:
    """As `largest`, without groups."""
    if numbers.device.type == "cpu" and torch.get_num_threads() == 1 and k < numbers.shape[1]:
        # NumPy finds them with vector instructions, two to three times faster than one thread of
        # PyTorch; but several threads of PyTorch share the rows.
        parted = np.argpartition(numbers.detach().numpy(), -k, axis=1)
        return torch.from_numpy(parted[:, -k:])
    return numbers.topk(k, dim=1, sorted=False).indices


def sum_in_order(tensors: Sequence[Tensor]) -> Tensor:
    """The sum of tensors of one shape, added first to last."""
    if len(tensors) == 1:
        return tensors[0]
    total = tensors[0] + tensors[1]
    for tensor in tensors[2:]:
        total += tensor
    return total
