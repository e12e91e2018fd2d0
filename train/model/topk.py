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
    """The k largest of every row, in no particular order.

    Of equal ones a CPU takes the first, so that what is chosen does not depend on how latents are
    divided before they are compared; a GPU takes the same ones every time.

    Args:
        logits: (rows, latents).
        k: How many, at most all.

    Returns:
        (rows, k) int64.
    """
    if logits.device.type != "cpu" or k >= logits.shape[1]:
        return _partition(logits, k)
    logits = logits.detach()
    maxima = _group_maxima(logits, k)
    if maxima is None:
        chosen = _partition(logits, k)
        least = logits.gather(1, chosen).amin(1, keepdim=True)
        tied = (logits >= least).sum(1) > k
    else:
        # The k largest numbers lie in the k groups with the largest maxima.
        groups = _few_largest(maxima, k)
        chosen, candidates = _in_groups(logits, groups, k)
        least = logits.gather(1, chosen).amin(1, keepdim=True)
        tied = (maxima >= least).sum(1) > k
        tied |= (candidates >= least).sum(1) > k
    if tied.any():
        chosen[tied] = _first_of_equals(logits[tied], least[tied], k)
    return chosen


def _few_largest(logits: Tensor, k: int) -> Tensor:
    """As `largest` on a CPU, any of equal ones.

    Where they are few among many, they are found several times faster by looking at maxima of
    groups first.
    """
    maxima = _group_maxima(logits, k)
    if maxima is None:
        return _partition(logits, k)
    return _in_groups(logits, _few_largest(maxima, k), k)[0]


def _group_maxima(logits: Tensor, k: int) -> Tensor | None:
    """Maxima of groups of latents, (rows, groups); None where groups do not pay.

    A group takes latents at a stride, not neighbours: maxima of whole rows are fast.
    """
    rows, latents = logits.shape
    groups = latents // _GROUP
    if latents % _GROUP or groups < 8 * k:
        return None
    return logits.view(rows, _GROUP, groups).amax(1)


def _in_groups(logits: Tensor, groups: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of every row in k groups, (rows, k); and all numbers there."""
    rows, latents = logits.shape
    grouped = logits.view(rows, _GROUP, latents // _GROUP)
    candidates = grouped.gather(2, groups.unsqueeze(1).expand(rows, _GROUP, k)).view(rows, -1)
    best = _partition(candidates, k)
    return groups.gather(1, best % k) + best // k * grouped.shape[2], candidates


def _first_of_equals(logits: Tensor, least: Tensor, k: int) -> Tensor:
    """The k largest of rows in which more than k are at least as large as the smallest of them.

    Args:
        logits: (rows, latents).
        least: The smallest of the k largest, (rows, 1).
        k: How many.

    Returns:
        (rows, k) int64, ascending.
    """
    larger, equal = logits > least, logits == least
    wanted = k - larger.sum(1, keepdim=True)
    chosen = larger | (equal & (equal.cumsum(1) <= wanted))
    return chosen.nonzero()[:, 1].view(-1, k)


def _partition(numbers: Tensor, k: int) -> Tensor:
    """The k largest of every row, any of equal ones."""
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
