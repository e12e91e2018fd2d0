"""The sparse mathematics in plain PyTorch: the implementation for CPUs, and for anything else.

Everything is an `embedding_bag`, which gathers, scales and adds rows in one pass; a tensor of shape
(R, V, k, dim) never exists (gathering into one first takes 18 times as long). Only where a weight
has few rows (a small model, or the dead latents that AuxK tries) is a dense product faster.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from sparc.train.kernels.adam import AdamStep, Moments, move
from sparc.train.kernels.interface import (
    Bags,
    Compared,
    InverseIndex,
    WeightGradient,
    gradient_rows,
    latent_sums,
)
from sparc.train.kernels.screening.low_logits import Screen
from sparc.train.model.topk import largest, sum_in_order

_BLOCK_BYTES = 6 << 20
"""Gradient that is summed at once, to be applied while it is still in a cache."""
_BATCH_ROWS = 128
"""Rows whose logits and decoder rows stay in a cache while they are worked on."""
_DENSE_DECODE_FACTOR = 4
"""Up to this many times k rows, a dense product decodes as fast as a sparse one."""
_DENSE_FACTOR = 16
"""A dense product multiplies this many times faster than rows are gathered, at least."""


class TorchKernels:
    """Implements `sparc.train.kernels.interface.Kernels`."""

    name = "torch"
    screen: Screen | None = None

    def select(
        self, products: Sequence[Tensor], biases: Sequence[Tensor], k: int
    ) -> tuple[Tensor, Tensor]:
        total, bias = sum_in_order(products), sum_in_order(biases)
        total = total + bias if len(products) == 1 else total.add_(bias)
        indices = largest(total, k)
        values = [
            product.gather(1, indices) + bias[indices]
            for product, bias in zip(products, biases, strict=True)
        ]
        return indices, torch.stack(values, dim=1).relu_()

    def compare(
        self, indices: Tensor, values: Tensor, weight: Tensor, targets: Tensor, scales: Tensor
    ) -> Compared:
        errors = self._errors(indices, values, weight, targets)
        square_errors = torch.linalg.vector_norm(errors, dim=2).square_()
        residuals = errors.mul_(scales.unsqueeze(2))
        return Compared(square_errors, residuals, self.value_gradients(indices, residuals, weight))

    def square_errors(
        self, indices: Tensor, values: Tensor, weight: Tensor, targets: Tensor
    ) -> Tensor:
        errors = self._errors(indices, values, weight, targets)
        norms: Tensor = torch.linalg.vector_norm(errors, dim=2)
        return norms.square_()

    def _errors(self, indices: Tensor, values: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        decoded = self.decode(indices, values, weight)
        rows, dim = targets.shape
        decoded.view(rows, -1, dim).sub_(targets.unsqueeze(1))
        return decoded

    def decode(self, indices: Tensor, values: Tensor, weight: Tensor) -> Tensor:
        rows, vectors, k = values.shape
        if _is_small(weight, k):
            codes = values.new_zeros(rows, vectors, len(weight))
            codes.scatter_add_(2, indices.unsqueeze(1).expand(rows, vectors, k), values)
            return codes @ weight
        sums = F.embedding_bag(
            _for_each_vector(indices, vectors),
            weight.detach(),  # else more is computed, as if for a backward pass
            per_sample_weights=values.reshape(-1, k),
            mode="sum",
        )
        return sums.view(rows, vectors, -1)

    def value_gradients(self, indices: Tensor, vectors: Tensor, weight: Tensor) -> Tensor:
        rows, count, dim = vectors.shape
        k = indices.shape[1]
        if _is_small(weight, k):
            return (vectors @ weight.T).gather(2, indices.unsqueeze(1).expand(rows, count, k))
        bags = torch.arange(rows * count, device=indices.device)
        # The derivative of `decode` with respect to its values, as autograd itself computes it.
        products: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            vectors.reshape(-1, dim),
            weight,
            _for_each_vector(indices, count).reshape(-1).contiguous(),  # reshape may keep stride 0
            bags * k,
            bags.repeat_interleave(k),
            0,  # mode: sum
        )
        return products.view(rows, count, k)

    def weight_gradient(self, bags: Bags, vectors: Tensor, first: int, last: int) -> Tensor:
        rows, values, offsets = bags
        latents, table = len(offsets) - 1, vectors.reshape(-1, vectors.shape[2])
        # A row of vectors has k terms for each of them.
        if latents * len(table) <= _DENSE_FACTOR * len(rows):
            latent_of = torch.arange(latents, device=rows.device)
            latent_of = latent_of.repeat_interleave(offsets.diff(), output_size=len(rows))
            codes = values.new_zeros(latents * len(table))
            codes.index_add_(0, latent_of * len(table) + rows, values)
            return codes.view(latents, -1)[first:last] @ table
        if (first, last) != (0, len(offsets) - 1):
            begin, end = int(offsets[first]), int(offsets[last])
            offsets = offsets[first : last + 1] - begin
            rows, values = rows[begin:end], values[begin:end]
        return F.embedding_bag(
            rows,
            table,
            offsets,
            per_sample_weights=values,
            mode="sum",
            include_last_offset=True,
        )

    def latent_sums(self, inverse: InverseIndex, values: Tensor) -> Tensor:
        return latent_sums(inverse, values)

    def update(
        self,
        weight: Tensor,
        moments: Moments,
        gradient: WeightGradient,
        rows: slice,
        step: AdamStep,
        *,
        scale: Tensor | None,
        unit_rows: bool,
    ) -> None:
        dense = gradient_rows(self, weight, gradient, rows.start, rows.stop)
        if scale is not None:
            dense.mul_(scale)
        moved = weight.detach()[rows]
        move(moved, dense, Moments(moments.first[rows], moments.second[rows]), step)
        if unit_rows:
            moved.div_(torch.linalg.vector_norm(moved, dim=1, keepdim=True))

    def block_rows(self, weight: Tensor) -> int:
        if weight.device.type != "cpu":
            return len(weight)  # where a block begins in the bags is known to the device only
        return max(64, _BLOCK_BYTES // (weight.shape[1] * weight.element_size()))

    def is_dense(self, latents: int, k: int) -> bool:
        return latents <= _DENSE_FACTOR * k

    def batch_rows(self, batch: Tensor) -> int:
        return _BATCH_ROWS if batch.device.type == "cpu" else len(batch)


def _is_small(weight: Tensor, k: int) -> bool:
    return len(weight) <= _DENSE_DECODE_FACTOR * k


def _for_each_vector(indices: Tensor, vectors: int) -> Tensor:
    """Index rows repeated for every vector they carry: bags in the order (row, vector)."""
    if vectors == 1:
        return indices
    rows, k = indices.shape
    return indices.unsqueeze(1).expand(rows, vectors, k).reshape(rows * vectors, k)
