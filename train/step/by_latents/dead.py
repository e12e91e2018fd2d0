"""AuxK with shared latents: owners offer their best dead latents, homes take the best of all."""

import torch
from torch import Tensor

from sparc.train.kernels.interface import Kernels
from sparc.train.step.by_latents.peers import Peers, sum_at_homes, to_homes, to_owners
from sparc.train.step.deadness import Candidates
from sparc.train.step.row_terms import AuxiliaryCode
from sparc.train.step.selection.logits import of_latents


class SharedDead:
    """A stream's dead latents, of which each process has its own.

    Args:
        peers: The processes.
        candidates: Those of this process.
        size: How many there are in all processes.
        products: `AllLogits.all_products` of the stream, (all rows, own latents).
        kernels: The implementation of the sparse mathematics.
    """

    any_dead = None

    def __init__(
        self,
        peers: Peers,
        candidates: Candidates,
        size: int,
        products: Tensor,
        kernels: Kernels,
    ) -> None:
        self.peers = peers
        self.candidates = candidates
        self.size = size
        self.products = of_latents(products, candidates.latents)
        self.kernels = kernels

    def code(self, k: int) -> "SharedDeadCode":
        """The code of the k dead latents with the largest logits; all processes have to call it."""
        rows, own = self.products.shape
        latents, _, biases, _ = self.candidates
        indices = latents.new_zeros(rows, min(k, own))
        scores = biases.new_full((rows, k), -torch.inf)  # an owner may have fewer than k
        if indices.shape[1]:
            indices, _ = self.kernels.select([self.products], [biases], indices.shape[1])
            indices = indices.sort(dim=1).values  # of equal scores the first is taken
            scores[:, : indices.shape[1]] = self.products.gather(1, indices) + biases[indices]
        taken = torch.zeros_like(scores, dtype=torch.bool)
        if k:
            offered = to_homes(self.peers, scores)
            best = offered.sort(dim=1, descending=True, stable=True).indices[:, :k]
            at_home = torch.zeros_like(offered, dtype=torch.bool).scatter_(1, best, True)
            taken = to_owners(self.peers, at_home)
        own_taken = taken[:, : indices.shape[1]]
        values = scores[:, : indices.shape[1]].relu().where(own_taken, 0)
        return SharedDeadCode(self, indices, values)


class SharedDeadCode:
    """The code of all rows over the dead latents of this process.

    Args:
        dictionary: The dead latents.
        indices: The latents of all rows, as positions among those of this process, (all rows, n).
        values: Their values, zero for those that were not taken, (all rows, n).
    """

    def __init__(self, dictionary: SharedDead, indices: Tensor, values: Tensor) -> None:
        # Rows in whose code an owner has little are as short as the longest.
        width = max(1, int((values > 0).sum(1).max())) if values.shape[1] else 0
        order = (values <= 0).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
        self._dictionary = dictionary
        self._indices = indices.gather(1, order)
        self._values = values.gather(1, order)

    @property
    def decoded(self) -> Tensor:
        """What the stream's decoder makes of it, of the home's rows, (rows, dim)."""
        directions, kernels = self._dictionary.candidates.directions, self._dictionary.kernels
        partial = directions.new_zeros(len(self._indices), directions.shape[1])
        if self._indices.shape[1]:
            values = self._values.unsqueeze(1)
            partial = kernels.decode(self._indices, values, directions).squeeze(1)
        return sum_at_homes(self._dictionary.peers, partial)

    def differentiate(self, residuals: Tensor) -> AuxiliaryCode:
        """The code of all rows with its derivatives, from the residuals of the home's."""
        latents, directions, _, _ = self._dictionary.candidates
        every = self._dictionary.peers.gather(residuals)
        if not self._indices.shape[1]:
            return AuxiliaryCode(latents, self._indices, self._values, self._values, every)
        kernels = self._dictionary.kernels
        gradients = kernels.value_gradients(self._indices, every.unsqueeze(1), directions)
        by_values = gradients.squeeze(1) * (self._values > 0)
        return AuxiliaryCode(latents, self._indices, self._values, by_values, every)
