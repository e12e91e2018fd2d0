"""What processes send each other when each owns some of the latents and some of the rows.

A process *owns* latents: it has their weights, and works on all rows of the batch. It is the *home*
of rows: there their losses are computed, from what all owners know about them. Whatever travels
between the two is one exchange in which every process sends every other one an equal part.
"""

from typing import Protocol

import torch
from torch import Tensor


class Peers(Protocol):
    """Several processes that make one step, as one of them sees them."""

    @property
    def rank(self) -> int:
        """The number of this process."""
        ...

    @property
    def world(self) -> int:
        """How many there are."""
        ...

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in the order of ranks, in every process.

        Args:
            rows: (rows, …), of the same shape in every process.
        """
        ...

    def swap(self, parts: Tensor) -> Tensor:
        """Part p goes to process p.

        Args:
            parts: (processes, …), of the same shape in every process.

        Returns:
            What each process had for this one, in the order of ranks, (processes, …).
        """
        ...


def to_homes(peers: Peers, of_latents: Tensor) -> Tensor:
    """What owners know about all rows, where the rows are at home.

    Args:
        peers: The processes.
        of_latents: Of this process's latents, (all rows, width, …).

    Returns:
        Of all processes' latents, owner after owner, (rows, processes * width, …).
    """
    return peers.swap(by_home(of_latents, peers.world)).transpose(0, 1).flatten(1, 2)


def to_owners(peers: Peers, of_rows: Tensor) -> Tensor:
    """The way back: what homes say about latents, where these are owned.

    Args:
        peers: The processes.
        of_rows: Of this process's rows, (rows, processes * width, …), as from `to_homes`.

    Returns:
        Of all rows, (all rows, width, …).
    """
    rows, width, *rest = of_rows.shape
    parts = of_rows.reshape(rows, peers.world, width // peers.world, *rest).transpose(0, 1)
    return peers.swap(parts).flatten(0, 1)


def sum_at_homes(peers: Peers, of_latents: Tensor) -> Tensor:
    """Sums over the latents of all owners, where the rows are at home.

    Added in the order of ranks: the same bits every time.

    Args:
        peers: The processes.
        of_latents: Sums over this process's latents, (all rows, …).

    Returns:
        (rows, …).
    """
    return peers.swap(by_home(of_latents, peers.world)).sum(0)


def by_home(of_rows: Tensor, homes: int) -> Tensor:
    """All rows, (all rows, …), by where they are at home, (homes, rows, …)."""
    return of_rows.reshape(homes, len(of_rows) // homes, *of_rows.shape[1:])


def sum_everywhere(peers: Peers, values: Tensor) -> Tensor:
    """The sum of a small tensor over all processes, in the order of ranks, in every process."""
    return peers.gather(values.unsqueeze(0)).sum(0)


def numbers_of_all(peers: Peers, number: int, device: torch.device) -> list[int]:
    """A number of each process, in the order of ranks, in every process; waits for the device."""
    numbers: list[int] = peers.gather(torch.tensor([number], device=device)).tolist()
    return numbers
