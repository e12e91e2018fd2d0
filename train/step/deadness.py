"""Which latents are dead: for how long each has had no value, counted stream by stream.

Counters move only in `DeadLatents.count`, which a training step calls; measuring never does. The
default recipe counts rows, so that the meaning of "dead" does not change with the batch size; the
published one counts batches, a firing latent starting again at one.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sparc.train.config import Recipe

ACTIVE_ABOVE = 1e-3
"""A latent was active in a row when its value is above this."""


class DeadLatents:
    """The counters of all streams.

    Args:
        streams: Names of the streams, in order.
        latents: Size of the dictionary.
        recipe: `default` counts rows, `published` counts batches.
        threshold: A latent is dead after this many rows without a value above `ACTIVE_ABOVE`, or,
            in the published recipe, after more than this many batches.
        device: Where the counters lie.

    Attributes:
        since_active: By stream, what has passed since a latent was active, (latents,) int64.
    """

    def __init__(
        self,
        streams: Sequence[str],
        latents: int,
        *,
        recipe: Recipe,
        threshold: int,
        device: torch.device,
    ) -> None:
        self.since_active = {
            name: torch.zeros(latents, dtype=torch.int64, device=device) for name in streams
        }
        self._counts_rows = recipe == "default"
        self._first_dead = threshold if self._counts_rows else threshold + 1
        self._all_alive_until = self._first_dead
        self._now = 0

    def count(self, indices: Tensor, values: Tensor) -> None:
        """Count a batch on the device; `pass_by` is the host's part.

        Args:
            indices: Latents selected, (rows, 1 or streams, k).
            values: Their values, (rows, streams, k).
        """
        passed = len(values) if self._counts_rows else 1
        after_firing = 0 if self._counts_rows else 1
        active = (values > ACTIVE_ABOVE).to(torch.int64)
        shared = indices.shape[1] == 1
        for position, counter in enumerate(self.since_active.values()):
            fired = torch.zeros_like(counter).scatter_reduce_(
                0,
                indices[:, 0 if shared else position].reshape(-1),
                active[:, position].reshape(-1),
                "amax",
            )
            counter.add_(passed)
            counter.masked_fill_(fired.bool(), after_firing)

    def pass_by(self, rows: int) -> None:
        """Note on the host that a batch was counted.

        Args:
            rows: Of the batch.
        """
        self._now += rows if self._counts_rows else 1

    def dead(self, stream: str) -> Tensor:
        """The stream's dead latents, ascending, (dead,) int64."""
        return self.are_dead(stream).nonzero().squeeze(1)

    def are_dead(self, stream: str) -> Tensor:
        """Which of the stream's latents are dead, (latents,) bool."""
        return self.since_active[stream] >= self._first_dead

    def none_can_be_dead(self, *, after: int = 0) -> bool:
        """Whether surely no latent of any stream is dead; asks the device only when it must.

        A counter grows by what passes and no faster, so one look at the largest says for how long
        no latent can die: a GPU is not waited for until then.

        Args:
            after: Not now, but when so many more rows (or batches, as counted) have passed.
        """
        if self._now + after < self._all_alive_until:
            return True
        largest = max(int(counter.max()) for counter in self.since_active.values())
        self._all_alive_until = self._now + self._first_dead - largest
        return self._now + after < self._all_alive_until

    def forget(self, stream: str, latents: Tensor) -> None:
        """Start counting anew for some latents."""
        self.since_active[stream][latents] = 0

    def restore(self, stream: str, since_active: Tensor) -> None:
        """Take over a counter, as after loading a checkpoint."""
        self.since_active[stream].copy_(since_active)
        self._all_alive_until = self._now
