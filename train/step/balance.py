"""Balance: latent biases move towards even use of the latents, beside the gradient.

With f the frequency of a latent in a stream, that is the mean of two running means, of how often
the streams select it jointly and of how often it is in the stream's own TopK,

    u = log((k / L) / (f + 1e-4))
    c += rate * clip(u - clip(u, -1, 1), -1, 1)

so only latents that are used e times more or less often than on average are moved. Distillation
rewards latents that are used already; this keeps the others. A frequency is taken over the rows
that have the stream, that of joint selection over those that have at least two; a batch without any
leaves it as it is.
"""

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor

from sparc.train.model.network import Sparc
from sparc.train.step.row_terms import Gather
from sparc.train.step.selection.select import Selected

MEMORY = 0.97
"""What a running mean keeps of its value in a batch."""

_SMALLEST = 1e-4
"""Added to a frequency: one that is smaller cannot be told from zero."""


class Use(NamedTuple):
    """Latents that rows use.

    Attributes:
        indices: (rows, width) int64.
        kept: Which of them are used, of the same shape; None: all.
    """

    indices: Tensor
    kept: Tensor | None


class Uses(NamedTuple):
    """Latents that rows use jointly, and those that they use by stream.

    Attributes:
        joint: Those that are selected jointly; None for a batch that selected independently.
        own: By stream, its own TopK where that is known, else what it uses.
        present: As `Selected.present`.
        several: As `Selected.several`.
    """

    joint: Use | None
    own: list[Use]
    present: Tensor | None
    several: Tensor | None

    @classmethod
    def of(cls, selected: Selected) -> "Uses":
        """Those of a batch."""
        streams, sets = selected.values.shape[1], selected.indices.shape[1]
        kept = [None] * sets if selected.kept is None else list(selected.kept.unbind(1))
        used = [Use(*use) for use in zip(selected.indices.unbind(1), kept, strict=True)]
        own = used * streams if sets == 1 else used
        if selected.own is not None:
            own = [Use(indices, None) for indices in selected.own.unbind(1)]
        joint = used[0] if sets == 1 else None
        return cls(joint, own, selected.present, selected.several)


class Balance:
    """Frequencies of latents, and the biases that follow from them.

    Args:
        model: The model.
        rate: What a bias is moved by in a batch, at most.
        latents: Size of the whole dictionary; `model` may have a share of it.
        frozen: Streams whose biases stay.

    Attributes:
        joint: How often the streams select a latent jointly, (latents,); none if they never do.
        own: By stream, how often a latent is in its own TopK, (latents,).
    """

    def __init__(
        self, model: Sparc, rate: float, *, latents: int, frozen: Collection[str] = ()
    ) -> None:
        config = model.config
        self._even = config.k / latents
        self._rate = rate
        self._frozen = frozenset(frozen)
        self.joint = self._new(model) if model.own_mode == "joint" else None
        self.own = {name: self._new(model) for name in config.names}

    def _new(self, model: Sparc) -> Tensor:
        bias = model.latent_bias[model.config.names[0]]
        return torch.full_like(bias.detach(), self._even)

    def count(self, uses: Uses, gather: Gather) -> None:
        """Count a batch.

        Args:
            uses: What rows use.
            gather: Joins the rows of all processes; where `uses` are of all, it returns them.
        """
        latents = len(next(iter(self.own.values())))
        joint = None if uses.joint is None else self.joint
        present, several = uses.present, uses.several
        have = [None] * len(self.own) if present is None else list(present.unbind(1))
        sets = []
        if joint is not None and uses.joint is not None:
            sets.append(_counts(uses.joint, latents, several))
        sets += [_counts(use, latents, has) for use, has in zip(uses.own, have, strict=True)]
        counts = gather(torch.stack(sets).unsqueeze(0)).sum(0)
        means = [*([] if joint is None else [joint]), *self.own.values()]
        if present is None or several is None:
            rows = gather(counts.new_full((1,), len(uses.own[0].indices))).sum()
            frequencies = counts / rows
        else:
            which = present if joint is None else torch.cat((several.unsqueeze(1), present), dim=1)
            of_sets = gather(which.sum(0, keepdim=True)).sum(0).unsqueeze(1)
            frequencies = torch.where(of_sets > 0, counts / of_sets, torch.stack(means).double())
        for mean, frequency in zip(means, frequencies, strict=True):
            mean.lerp_(frequency.to(mean.dtype), 1 - MEMORY)

    def move(self, model: Sparc) -> None:
        """Move the latent biases, in place."""
        for name, own in self.own.items():
            if name in self._frozen:
                continue
            frequency = own if self.joint is None else (own + self.joint) / 2
            lack = torch.log(self._even / (frequency + _SMALLEST))
            step = (lack - lack.clamp(-1, 1)).clamp(-1, 1)
            model.latent_bias[name].add_(step, alpha=self._rate)

    def state(self) -> dict[str, Tensor]:
        """The running means by name; a checkpoint has them."""
        state = {f"frequency.{name}": mean for name, mean in self.own.items()}
        return state if self.joint is None else {**state, "joint_frequency": self.joint}


def _counts(use: Use, latents: int, rows: Tensor | None) -> Tensor:
    """How often each latent is used in some rows, (latents,)."""
    indices, kept = use
    # Whole numbers, so that the order in which a GPU adds them makes no difference.
    weights = torch.ones_like(indices) if kept is None else kept.to(indices.dtype)
    if rows is not None:
        weights = weights * rows.unsqueeze(1)
    counts = torch.zeros(latents, dtype=indices.dtype, device=indices.device)
    return counts.scatter_add_(0, indices.reshape(-1), weights.reshape(-1)).double()
