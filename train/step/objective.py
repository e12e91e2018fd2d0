"""The loss of a batch and its derivatives with respect to what the rows carry.

`arXiv 2507.06265`, section 3: selection, self- and cross-reconstruction, AuxK. Everything is worked
out per row and before any mean over rows, so that rows of several processes can be joined. Must not
know the optimizer: `sparc.train.step.learner` sums the row terms into gradients.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from sparc.common.workers import Workers
from sparc.train.kernels.interface import Kernels
from sparc.train.model.network import Sparc, scale

Precision = Literal["float32", "tf32", "bfloat16"]

ALONE = Workers()
_LATENTS_AT_ONCE = 2048
"""Latents that a worker multiplies a batch with at once."""


class Selected(NamedTuple):
    """A batch up to its codes. Tuples run over the streams, in order.

    Attributes:
        features: Normalized features, (rows, dim).
        square_norms: Their squared norms, (rows,).
        centred: Features minus the pre-bias, (rows, dim).
        products: Centred features times the encoders, (rows, latents): logits but for the latent
            bias, which only what is looked at gets; bfloat16 where that is the precision.
        indices: Latents selected, (rows, 1, k) where the streams share them, else
            (rows, streams, k).
        values: (rows, streams, k).
    """

    features: tuple[Tensor, ...]
    square_norms: tuple[Tensor, ...]
    centred: tuple[Tensor, ...]
    products: tuple[Tensor, ...]
    indices: Tensor
    values: Tensor

    def rows(self, rows: slice) -> "Selected":
        """Some of the rows."""
        return Selected(
            _rows_of(self.features, rows),
            _rows_of(self.square_norms, rows),
            _rows_of(self.centred, rows),
            _rows_of(self.products, rows),
            self.indices[rows],
            self.values[rows],
        )


class Dead(NamedTuple):
    """The dead latents of a stream, or all of its latents with those alive out of reach.

    The latter spares a GPU the wait for their number.

    Attributes:
        latents: Which, ascending, (dead,) int64.
        directions: Their decoder rows, (dead, dim).
        biases: Their latent biases, (dead,); minus infinity for those that are alive.
        any: Whether any is dead, a scalar, where nobody knows; AuxK is zero if not. None where the
            answer does not matter.
    """

    latents: Tensor
    directions: Tensor
    biases: Tensor
    any: Tensor | None = None


class Revival(NamedTuple):
    """AuxK in one stream: dead latents that try to explain what the reconstruction left over.

    Attributes:
        losses: aux of every row, (rows,).
        dead: `Dead.latents`, (dead,) int64; the same in every process.
        indices: Which of them each row tries, positions in `dead`, (rows, at most auxk).
        values: Their values, (rows, at most auxk).
        value_gradients: Derivative by the values, zero where a value is zero.
        residuals: Derivative by the auxiliary reconstruction, (rows, dim).
    """

    losses: Tensor
    dead: Tensor
    indices: Tensor
    values: Tensor
    value_gradients: Tensor
    residuals: Tensor


class TargetTerms(NamedTuple):
    """What the reconstructions of one target say about the rows.

    `sources` are all streams, or only the target itself where cross-reconstruction is off.

    Attributes:
        square_errors: |r - x|^2 by source, (rows, streams); NaN for pairs that were not decoded.
        scales: What r - x is multiplied by to give the residuals, (rows, sources).
        residuals: Derivative of the loss by the reconstructions, (rows, sources, dim).
        products: Derivative by the values because of this target, (rows, sources, k).
    """

    square_errors: Tensor
    scales: Tensor
    residuals: Tensor
    products: Tensor

    def own_errors(self, target: int) -> Tensor:
        """The errors r - x of the target's own code, (rows, dim).

        Args:
            target: Position of the target stream.
        """
        own = target if self.scales.shape[1] > 1 else 0
        return self.residuals[:, own] / self.scales[:, own, None]


class RowTerms(NamedTuple):
    """What rows contribute to the gradients, which are sums over rows of products of these.

    Derivatives are of the rows' losses, before any mean over rows.

    Attributes:
        centred: By stream, the encoders' inputs, (rows, dim).
        indices: As `Selected.indices`.
        values: As `Selected.values`.
        value_gradients: Derivative by the values, zero where a value is zero, (rows, streams, k).
        residuals: By target, derivative by the reconstructions, (rows, sources, dim).
        alignments: By target, value times the product of residual and decoder row,
            (rows, sources, k). Summed by latent: the product of a decoder row and its gradient.
        revivals: By stream; None where no latent takes part.
    """

    centred: tuple[Tensor, ...]
    indices: Tensor
    values: Tensor
    value_gradients: Tensor
    residuals: tuple[Tensor, ...]
    alignments: tuple[Tensor, ...]
    revivals: tuple[Revival | None, ...]


def select(
    model: Sparc,
    batch: Mapping[str, Tensor],
    *,
    precision: Precision,
    kernels: Kernels,
    workers: Workers = ALONE,
) -> Selected:
    """Normalize a batch and select its latents.

    Args:
        model: The model.
        batch: By stream, raw features, (rows, dim), none of them zero.
        precision: Arithmetic of the product with the encoders; the values of selected latents are
            worked out again at full precision.
        kernels: For those values.
        workers: Share the work.
    """
    names = model.config.names
    features = tuple(scale(batch[name], model.config) for name in names)
    centred = tuple(x - model.pre_bias[name] for name, x in zip(names, features, strict=True))
    products = _products(model, centred, precision, workers)
    pieces = share_rows(features[0], kernels, workers)

    def choose(rows: slice) -> tuple[Tensor, Tensor]:
        part_centred, part_products = _rows_of(centred, rows), _rows_of(products, rows)
        return _choose(model, part_centred, part_products, precision, kernels)

    indices, values = join_streams(workers.map(choose, pieces))
    square_norms = tuple(x.square().sum(1) for x in features)
    return Selected(features, square_norms, centred, products, indices, values)


def _choose(
    model: Sparc,
    centred: tuple[Tensor, ...],
    products: tuple[Tensor, ...],
    precision: Precision,
    kernels: Kernels,
) -> tuple[Tensor, Tensor]:
    """`Selected.indices` and `Selected.values` of some rows."""
    names, k = model.config.names, model.config.k
    biases = [model.latent_bias[name] for name in names]
    if model.config.selection == "global":
        shared, values = kernels.select(products, biases, k)
        indices = shared.unsqueeze(1)
    else:
        alone = [
            kernels.select([product], [bias], k)
            for product, bias in zip(products, biases, strict=True)
        ]
        indices = torch.stack([chosen for chosen, _ in alone], dim=1)
        values = torch.cat([picked for _, picked in alone], dim=1)
    if precision == "float32":
        return indices, values
    exact = []
    for position, name in enumerate(names):
        chosen = indices[:, 0 if indices.shape[1] == 1 else position]
        inputs = centred[position].unsqueeze(1)
        logits = kernels.value_gradients(chosen, inputs, model.encoder[name]).squeeze(1)
        exact.append(logits + biases[position][chosen])
    return indices, torch.stack(exact, dim=1).relu_()


def compare(
    model: Sparc,
    selected: Selected,
    target: int,
    weights: Tensor,
    *,
    cross: bool,
    kernels: Kernels,
) -> TargetTerms:
    """Reconstruct a target and differentiate its part of the rows' losses.

    Args:
        model: The model.
        selected: The batch.
        target: Position of the target stream.
        weights: From `pair_weights`, (targets, sources), on the batch's device.
        cross: Whether to decode all sources, or the target's own code alone.
        kernels: The implementation.
    """
    rows, streams, k = selected.values.shape
    indices, values = codes_for(selected.indices, selected.values, target, cross=cross)
    sources = slice(None) if cross else slice(target, target + 1)
    scales = 2 * weights[target, sources] / selected.square_norms[target].unsqueeze(1)
    compared = kernels.compare(
        indices,
        values,
        model.decoder[model.config.names[target]],
        selected.centred[target],  # the pre-bias stands on both sides of r - x
        scales.view(values.shape[:2]),
    )
    square_errors = compared.square_errors.view(rows, -1)
    if not cross:
        all_pairs = square_errors.new_full((rows, streams), torch.nan)
        all_pairs[:, target] = square_errors[:, 0]
        square_errors = all_pairs
    residuals = compared.residuals.view(rows, len(scales[0]), -1)
    return TargetTerms(square_errors, scales, residuals, compared.products.view(rows, -1, k))


def square_errors(model: Sparc, selected: Selected, target: int, *, kernels: Kernels) -> Tensor:
    """|r - x|^2 of a target from every source, (rows, streams), where nothing else is wanted.

    Args:
        model: The model.
        selected: The batch.
        target: Position of the target stream.
        kernels: The implementation.
    """
    indices, values = codes_for(selected.indices, selected.values, target, cross=True)
    decoder = model.decoder[model.config.names[target]]
    found = kernels.square_errors(indices, values, decoder, selected.centred[target])
    return found.view(len(selected.values), -1)


def revive(
    model: Sparc,
    selected: Selected,
    error: Tensor,
    position: int,
    dead: Dead,
    *,
    auxk: int,
    weight: float,
    kernels: Kernels,
) -> Revival:
    """AuxK of one stream (appendix of arXiv 2507.06265, after Gao et al. 2024, equation 10).

    Args:
        model: The model.
        selected: The batch.
        error: r - x of this stream's own code, (rows, dim).
        position: Position of the stream.
        dead: The stream's dead latents. With none of them the auxiliary code is empty, and the
            loss is the constant of the published recipe, which moves the pre-bias alone.
        auxk: Dead latents that a row tries; all of them where there are fewer.
        weight: Weight of this stream's aux in the loss.
        kernels: The implementation.
    """
    name = model.config.names[position]
    # The target, a constant, is x - r + b_pre; b_pre stands on both sides of the difference.
    target_norms = (model.pre_bias[name] - error).square().sum(1, keepdim=True)
    per_norm = torch.where(target_norms > 0, 1 / target_norms, 0)  # nothing is left over: no loss
    if dead.any is not None:
        per_norm = per_norm * dead.any
    latents, directions, biases, _ = dead
    products = selected.products[position]
    if len(latents) < products.shape[1]:
        products = products.gather(1, latents.expand(len(products), -1))
    if len(latents):
        indices, values = kernels.select([products], [biases], min(auxk, len(latents)))
        values = values.squeeze(1)
    else:
        losses = error.square().sum(1) * per_norm.squeeze(1)
        indices, values = latents.new_zeros(len(products), 0), error.new_zeros(len(products), 0)
        return Revival(losses, latents, indices, values, values, error * (per_norm * (2 * weight)))
    difference = kernels.decode(indices, values.unsqueeze(1), directions).squeeze(1).add_(error)
    losses = difference.square().sum(1) * per_norm.squeeze(1)
    residuals = difference.mul_(per_norm * (2 * weight))
    gradients = kernels.value_gradients(indices, residuals.unsqueeze(1), directions).squeeze(1)
    return Revival(losses, latents, indices, values, gradients * (values > 0), residuals)


def row_terms(
    selected: Selected, targets: Sequence[TargetTerms], revivals: Sequence[Revival | None]
) -> RowTerms:
    """What rows contribute to the gradients.

    Args:
        selected: The batch.
        targets: From `compare`, for every target.
        revivals: AuxK, for every stream.
    """
    values = selected.values
    value_gradients = torch.zeros_like(values)
    alignments = []
    for target, (_, _, _, products) in enumerate(targets):
        cross = products.shape[1] == values.shape[1]
        sources = slice(None) if cross else slice(target, target + 1)
        value_gradients[:, sources] += products
        alignments.append(products * values[:, sources])
    value_gradients.mul_(values > 0)
    return RowTerms(
        selected.centred,
        selected.indices,
        values,
        value_gradients,
        tuple(each.residuals for each in targets),
        tuple(alignments),
        tuple(revivals),
    )


def codes_for(
    indices: Tensor, values: Tensor, target: int, *, cross: bool
) -> tuple[Tensor, Tensor]:
    """The codes that a target decodes, in the shapes of the kernels: (R, k) and (R, V, k).

    Args:
        indices: (rows, 1 or streams, k).
        values: (rows, streams, k).
        target: Position of the target stream.
        cross: Whether it decodes all sources or only itself.
    """
    shared = indices.shape[1] == 1
    k = values.shape[2]
    if not cross:
        return indices[:, 0 if shared else target], values[:, target : target + 1]
    if shared:
        return indices[:, 0], values
    return indices.reshape(-1, k), values.reshape(-1, 1, k)


def pair_weights(streams: int, cross_weight: float) -> Tensor:
    """The weight of every pair's NMSE in the loss, (targets, sources) float64."""
    weights = torch.zeros(streams, streams, dtype=torch.float64)
    if streams > 1:
        weights.fill_(cross_weight / (streams * (streams - 1)))
    return weights.fill_diagonal_(1 / streams)


def share_rows(batch: Tensor, kernels: Kernels, workers: Workers) -> list[slice]:
    """The rows of a batch in parts: one for every worker at least, and none too large."""
    each = -(-len(batch) // workers.threads)
    return row_slices(len(batch), max(1, min(each, kernels.batch_rows(batch))))


def row_slices(rows: int, size: int) -> list[slice]:
    """Rows `size` at a time; never nothing at all."""
    return [slice(first, min(first + size, rows)) for first in range(0, max(rows, 1), size)]


def join_targets(parts: Sequence[TargetTerms]) -> TargetTerms:
    """The terms of a target from those of parts of the batch, in order."""
    return TargetTerms(*map(join_rows, zip(*parts, strict=True)))


def join_revivals(parts: Sequence[Revival | None]) -> Revival | None:
    """AuxK in one stream from that of parts of the batch, in order."""
    revivals = [part for part in parts if part is not None]
    if not revivals:
        return None
    losses, _, indices, values, gradients, residuals = map(join_rows, zip(*revivals, strict=True))
    return Revival(losses, revivals[0].dead, indices, values, gradients, residuals)


def join_streams(parts: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Several tensors with the rows of a batch, from those of its parts in order."""
    return tuple(map(join_rows, zip(*parts, strict=True)))


def join_rows(parts: Sequence[Tensor]) -> Tensor:
    """A tensor with the rows of a batch, from those of its parts in order."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _rows_of(tensors: tuple[Tensor, ...], rows: slice) -> tuple[Tensor, ...]:
    return tuple(each[rows] for each in tensors)


def _products(
    model: Sparc, centred: tuple[Tensor, ...], precision: Precision, workers: Workers
) -> tuple[Tensor, ...]:
    names = model.config.names
    if centred[0].device.type != "cpu":
        return tuple(
            _product(y, model.encoder[name], precision)
            for name, y in zip(names, centred, strict=True)
        )
    products = tuple(y.new_empty(len(y), model.config.latents) for y in centred)

    def multiply(piece: tuple[int, slice]) -> None:
        stream, latents = piece
        weight = model.encoder[names[stream]].detach()
        torch.mm(centred[stream], weight[latents].T, out=products[stream][:, latents])

    parts = row_slices(model.config.latents, _LATENTS_AT_ONCE)
    widest_first = sorted(range(len(names)), key=lambda stream: -centred[stream].shape[1])
    workers.map(multiply, [(stream, part) for stream in widest_first for part in parts])
    return products


def _product(centred: Tensor, encoder: Tensor, precision: Precision) -> Tensor:
    if precision == "bfloat16":
        return centred.bfloat16() @ encoder.bfloat16().T
    if precision == "tf32":
        with _tf32():
            return centred @ encoder.T
    return centred @ encoder.T


@contextmanager
def _tf32() -> Iterator[None]:
    """Let products of float32 matrices use TF32, for a moment."""
    settings = torch.backends.cuda.matmul
    # PyTorch 2.9 renamed the switch, and warns about the old name.
    name, wanted = (
        ("fp32_precision", "tf32") if hasattr(settings, "fp32_precision") else ("allow_tf32", True)
    )
    before = getattr(settings, name)
    setattr(settings, name, wanted)
    try:
        yield
    finally:
        setattr(settings, name, before)
