"""The second code of a stream, over its dead latents: what AuxK decodes and differentiates."""

from typing import NamedTuple, Protocol

from torch import Tensor

from sparc.train.kernels.interface import Kernels
from sparc.train.step.deadness import Candidates
from sparc.train.step.row_terms import AuxiliaryCode


class DeadCode(Protocol):
    """The code of some rows over a stream's dead latents."""

    @property
    def decoded(self) -> Tensor:
        """What the stream's decoder makes of it, without the pre-bias, new, (rows, dim)."""
        ...

    def differentiate(self, residuals: Tensor) -> AuxiliaryCode:
        """The code with its derivatives.

        Args:
            residuals: Derivative of the rows' losses by `decoded`, (rows, dim).
        """
        ...


class DeadDictionary(Protocol):
    """The dead latents of a stream, as some rows see them."""

    @property
    def size(self) -> int:
        """How many latents there are to choose from."""
        ...

    @property
    def any_dead(self) -> Tensor | None:
        """As `Candidates.any_dead`."""
        ...

    def code(self, k: int) -> DeadCode:
        """The ReLU of the logits of the k largest; k is at most `size`."""
        ...


class OwnDead(NamedTuple):
    """A `DeadDictionary` all of whose latents lie here.

    Attributes:
        candidates: The latents.
        products: Of those latents, logits without their biases, (rows, latents).
        kernels: The implementation of the sparse mathematics.
    """

    candidates: Candidates
    products: Tensor
    kernels: Kernels

    @property
    def size(self) -> int:
        """How many latents there are to choose from."""
        return len(self.candidates.latents)

    @property
    def any_dead(self) -> Tensor | None:
        """As `Candidates.any_dead`."""
        return self.candidates.any_dead

    def code(self, k: int) -> "OwnDeadCode":
        """The code of k latents; with none it is empty, and decoded to zero."""
        latents, _, biases, _ = self.candidates
        if not k:
            nothing = self.products.new_zeros(len(self.products), 0)
            return OwnDeadCode(self, latents.new_zeros(nothing.shape), nothing)
        indices, values = self.kernels.select([self.products], [biases], k)
        return OwnDeadCode(self, indices, values.squeeze(1))


class OwnDeadCode(NamedTuple):
    """A `DeadCode` all of whose latents lie here.

    Attributes:
        dictionary: The dead latents.
        indices: The latents of each row, as positions among them, (rows, k).
        values: Their values, (rows, k).
    """

    dictionary: OwnDead
    indices: Tensor
    values: Tensor

    @property
    def decoded(self) -> Tensor:
        """What the stream's decoder makes of it, without the pre-bias, (rows, dim)."""
        directions, kernels = self.dictionary.candidates.directions, self.dictionary.kernels
        if not self.indices.shape[1]:
            return directions.new_zeros(len(self.indices), directions.shape[1])
        return kernels.decode(self.indices, self.values.unsqueeze(1), directions).squeeze(1)

    def differentiate(self, residuals: Tensor) -> AuxiliaryCode:
        """The code with its derivatives."""
        latents, directions, _, _ = self.dictionary.candidates
        if not self.indices.shape[1]:
            return AuxiliaryCode(latents, self.indices, self.values, self.values, residuals)
        kernels = self.dictionary.kernels
        gradients = kernels.value_gradients(self.indices, residuals.unsqueeze(1), directions)
        by_values = gradients.squeeze(1) * (self.values > 0)
        return AuxiliaryCode(latents, self.indices, self.values, by_values, residuals)
