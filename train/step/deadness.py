"""Which latents are dead in a stream: for how many rows, or steps, they have had no value.

Counters move only in `DeadLatents.count`, which a training step calls; measuring never does.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sparc.train.model.network import Sparc
from sparc.train.step.by_latents.peers import Peers, numbers_of_all

ACTIVE_ABOVE = 1e-3
"""A latent is active in a row if its value is above this."""
LOOK_EVERY = 64
"""On a GPU, steps with AuxK between two checks whether any latent is dead."""


class SparseCodes(NamedTuple):
    """Latents that rows select, and their values."""

    indices: Tensor
    """(rows, 1 or streams, k)."""
    values: Tensor
    """(rows, streams, k)."""
    present: Tensor | None = None
    """Which streams the rows have, (rows, streams) bool; None: all."""


class DeadLatents:
    """Counts rows, so that the meaning of "dead" does not change with the batch size.

    Args:
        streams: Names of the streams, in order.
        latents: Size of the dictionary.
        threshold: A latent is dead after this many rows without a value above `ACTIVE_ABOVE`; rows
            that lack the stream do not count.
        device: The device of the counters.

    Attributes:
        since_active: By stream and latent, rows since it was active, (latents,) int64.
    """

    after_firing = 0
    """The count after a batch in which a latent was active."""

    def __init__(
        self, streams: Sequence[str], latents: int, *, threshold: int, device: torch.device
    ) -> None:
        self.since_active = {
            name: torch.zeros(latents, dtype=torch.int64, device=device) for name in streams
        }
        self._first_dead = threshold
        self._all_alive_until = threshold
        self._now = 0
        self._peers: Peers | None = None

    def share(self, peers: Peers) -> None:
        """Count the latents of this process alone, beside processes that count theirs."""
        self._peers = peers

    def units(self, rows: int) -> int:
        """How much a batch of that many rows adds to a counter, if they all have the stream."""
        return rows

    def units_of(self, has: Tensor) -> Tensor:
        """The same of rows of which some have the stream, (rows,) bool; a scalar."""
        return has.sum()

    def counters(self) -> dict[str, Tensor]:
        """All counters by name; a checkpoint has them."""
        return {f"since_active.{name}": counter for name, counter in self.since_active.items()}

    def count(self, codes: SparseCodes, own: SparseCodes | None = None) -> None:  # noqa: ARG002
        """Count a batch on the device; `pass_by` counts it on the host.

        Args:
            codes: Those of the batch.
            own: Each stream's own TopK, if the batch selected jointly and anything asks for it.
        """
        self._count(self.since_active, codes)

    def _count(self, counters: Mapping[str, Tensor], codes: SparseCodes) -> None:
        indices, values, present = codes
        active = (values > ACTIVE_ABOVE).to(torch.int64)
        if present is not None:
            active *= present.unsqueeze(2)
        shared = indices.shape[1] == 1
        for position, counter in enumerate(counters.values()):
            fired = torch.zeros_like(counter).scatter_reduce_(
                0,
                indices[:, 0 if shared else position].reshape(-1),
                active[:, position].reshape(-1),
                "amax",
            )
            rows = self.units(len(values))
            counter.add_(rows if present is None else self.units_of(present[:, position]))
            counter.masked_fill_(fired.bool(), self.after_firing)

    def pass_by(self, rows: int) -> None:
        """Count a batch on the host, which thus knows an upper bound of every counter.

        Args:
            rows: Rows of the batch.
        """
        self._now += self.units(rows)

    def dead(self, stream: str) -> Tensor:
        """The stream's dead latents, ascending, (dead,) int64; waits for the device."""
        return self.are_dead(stream).nonzero().squeeze(1)

    def are_dead(self, stream: str) -> Tensor:
        """Which of the stream's latents are dead, (latents,) bool."""
        return self.since_active[stream] >= self._first_dead

    def none_can_be_dead(self, *, after: int = 0) -> bool:
        """Whether it is certain that no latent of any stream is dead, in any process.

        A counter grows by `units` a batch at most, so the largest counter says for how long no
        latent can die: until then the device is not asked, and a GPU not waited for.

        Args:
            after: How much the counters grow until the moment in question.
        """
        then = self._now + after
        if then < self._all_alive_until:
            return True
        largest = max(int(counter.max()) for counter in self.counters().values())
        if self._peers is not None:
            largest = max(numbers_of_all(self._peers, largest, self._device))
        self._all_alive_until = self._now + self._first_dead - largest
        return then < self._all_alive_until

    def share_of_dead(self, stream: str) -> tuple[slice, int]:
        """Which of the stream's dead latents of all processes are those of this one.

        Returns:
            Their places, and how many all are.
        """
        here = len(self.dead(stream))
        if self._peers is None:
            return slice(0, here), here
        counts = numbers_of_all(self._peers, here, self._device)
        before = sum(counts[: self._peers.rank])
        return slice(before, before + here), sum(counts)

    @property
    def _device(self) -> torch.device:
        return next(iter(self.since_active.values())).device

    def forget(self, stream: str, latents: Tensor) -> None:
        """Set the counters of some latents to zero."""
        self.since_active[stream][latents] = 0

    def restore(self, name: str, count: Tensor) -> None:
        """Set one of `counters` to what a checkpoint holds."""
        self.counters()[name].copy_(count)
        self._all_alive_until = self._now


class DeadLatentsOfEitherMode(DeadLatents):
    """A latent is dead where joint use is missing, and where independent use is.

    Joint use is counted in batches that select jointly; each stream's own TopK in all.

    Attributes:
        since_own: As `since_active`, of the streams' own TopK.
    """

    def __init__(
        self, streams: Sequence[str], latents: int, *, threshold: int, device: torch.device
    ) -> None:
        super().__init__(streams, latents, threshold=threshold, device=device)
        self.since_own = {
            name: torch.zeros_like(counter) for name, counter in self.since_active.items()
        }

    def counters(self) -> dict[str, Tensor]:
        """All counters by name; a checkpoint has them."""
        own = {f"since_alone.{name}": counter for name, counter in self.since_own.items()}
        return {**super().counters(), **own}

    def count(self, codes: SparseCodes, own: SparseCodes | None = None) -> None:
        """Count a batch; a single stream's own selection is the joint one.

        Of a model with several streams, a row that has only one selects nothing jointly.
        """
        if codes.indices.shape[1] == 1:
            joint = codes
            if codes.present is not None:
                streams = codes.present.shape[1]
                several = codes.present.sum(1, keepdim=True) >= min(2, streams)
                joint = codes._replace(present=codes.present & several)
            self._count(self.since_active, joint)
        self._count(self.since_own, own or codes)

    def are_dead(self, stream: str) -> Tensor:
        """Which of the stream's latents are dead, (latents,) bool."""
        return super().are_dead(stream) | (self.since_own[stream] >= self._first_dead)

    def forget(self, stream: str, latents: Tensor) -> None:
        """Set the counters of some latents to zero."""
        super().forget(stream, latents)
        self.since_own[stream][latents] = 0


class DeadLatentsByStep(DeadLatents):
    """Counts steps, as published: a latent is dead after more than `threshold` of them."""

    after_firing = 1

    def __init__(
        self, streams: Sequence[str], latents: int, *, threshold: int, device: torch.device
    ) -> None:
        super().__init__(streams, latents, threshold=threshold + 1, device=device)

    def units(self, rows: int) -> int:  # noqa: ARG002
        """One per batch."""
        return 1

    def units_of(self, has: Tensor) -> Tensor:
        """One if any row has the stream."""
        return has.any()


class Candidates(NamedTuple):
    """The latents of a stream that AuxK selects from: the dead ones.

    On a GPU they are all latents, and those alive have a bias of minus infinity: their number is
    then known without waiting for the device.

    Attributes:
        latents: Ascending, (candidates,) int64.
        directions: Their decoder rows, (candidates, dim).
        biases: Their latent biases, (candidates,); minus infinity for those that are alive.
        any_dead: Whether any is dead, a scalar on the device; if not, AuxK is zero. None if that is
            known, or does not matter.
    """

    latents: Tensor
    directions: Tensor
    biases: Tensor
    any_dead: Tensor | None = None


class DeadCandidates:
    """The dead latents of every stream, for AuxK; it waits for a GPU as rarely as possible.

    Args:
        model: The model.
        dead_latents: Its counters.
        enabled: Whether AuxK is part of the loss.
        without_dead: Whether AuxK counts where no latent is dead, too.
        frozen: Streams without AuxK.
    """

    def __init__(
        self,
        model: Sparc,
        dead_latents: DeadLatents,
        *,
        enabled: bool,
        without_dead: bool,
        frozen: Collection[str] = (),
    ) -> None:
        self._model = model
        self._dead_latents = dead_latents
        self._enabled = enabled
        self._without_dead = without_dead
        self._frozen = frozenset(frozen)
        self._until = 0

    def may_exist(self, *, rows: int, step: int) -> bool:
        """Whether AuxK may have something to do; may wait for the device.

        Args:
            rows: Rows of a batch that is still to be counted.
            step: Number of the step.
        """
        if not self._enabled:
            return False
        if self._without_dead or step < self._until:
            return True
        if self._dead_latents.none_can_be_dead(after=rows):
            return False
        if not self._on_cpu:
            # That waited for the device, which is not worth it in every step: AuxK without dead
            # latents takes time, but is zero.
            self._until = step + LOOK_EVERY
        return True

    def by_stream(self) -> tuple[Candidates | None, ...]:
        """The candidates of every stream; None if it is frozen or certainly has no dead latent."""
        return tuple(map(self._of, self._model.config.names))

    def own_by_stream(self) -> tuple[Candidates | None, ...]:
        """Those among the latents of this process, perhaps none; None if the stream is frozen.

        Waits for the device.
        """
        names = self._model.config.names
        return tuple(None if name in self._frozen else self._dead(name) for name in names)

    def _dead(self, stream: str) -> Candidates:
        decoder, bias = self._model.decoder[stream], self._model.latent_bias[stream]
        latents = self._dead_latents.dead(stream)
        return Candidates(latents, decoder.index_select(0, latents), bias[latents])

    @property
    def _on_cpu(self) -> bool:
        return next(self._model.parameters()).device.type == "cpu"

    def _of(self, stream: str) -> Candidates | None:
        if stream in self._frozen:
            return None
        decoder, bias = self._model.decoder[stream], self._model.latent_bias[stream]
        if not self._on_cpu:
            are_dead = self._dead_latents.are_dead(stream)
            latents = torch.arange(len(decoder), device=decoder.device)
            biases = bias.masked_fill(~are_dead, -torch.inf)
            any_dead = None if self._without_dead else are_dead.any()
            return Candidates(latents, decoder, biases, any_dead)
        dead = self._dead(stream)
        return dead if len(dead.latents) or self._without_dead else None
