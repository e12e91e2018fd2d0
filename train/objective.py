"""The loss of a batch and its derivatives with respect to what the rows carry.

`arXiv 2507.06265`, section 3: selection, self- and cross-reconstruction, AuxK. Everything is worked
out per row and before any mean over rows, so that rows of several processes can be joined. Must not
know the optimizer: `sparc.train.learner` sums the row terms into gradients.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from sparc.train.kernels.interface import Kernels
from sparc.train.model import Sparc, scale, sum_in_order

Precision = Literal["float32", "tf32", "bfloat16"]


class Selected(NamedTuple):
    """A batch up to its codes. Tuples run over the streams, in order.

    Attributes:
        features: Normalized features, (rows, dim).
        square_norms: Their squared norms, (rows,).
        centred: Features minus the pre-bias, (rows, dim).
        products: Centred features times the encoders, (rows, latents): logits but for the latent
            bias, which only what is looked at gets.
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


class Reconstructed(NamedTuple):
    """What decoding the codes gave.

    Attributes:
        square_errors: (rows, targets, sources): |r - x|^2; NaN for pairs that were not decoded.
        errors: By target, r - x, (rows, sources, dim). Where cross-reconstruction is off the only
            source is the target itself.
    """

    square_errors: Tensor
    errors: tuple[Tensor, ...]


class Revival(NamedTuple):
    """AuxK in one stream: dead latents that try to explain what the reconstruction left over.

    Attributes:
        losses: aux of every row, (rows,).
        dead: The dead latents, (dead,) int64; the same in every process.
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
    model: Sparc, batch: Mapping[str, Tensor], *, precision: Precision, kernels: Kernels
) -> Selected:
    """Normalize a batch and select its latents.

    Args:
        model: The model.
        batch: By stream, raw features, (rows, dim), none of them zero.
        precision: Arithmetic of the product with the encoders; the values of selected latents are
            worked out again at full precision.
        kernels: For those values.
    """
    names, k = model.config.names, model.config.k
    features = tuple(scale(batch[name], model.config) for name in names)
    centred = tuple(x - model.pre_bias[name] for name, x in zip(names, features, strict=True))
    biases = [model.latent_bias[name] for name in names]
    products = [
        _product(y, model.encoder[name], precision) for name, y in zip(names, centred, strict=True)
    ]
    if model.config.selection == "global":
        total = sum_in_order(products)
        bias = sum_in_order(biases)
        total = total + bias if len(names) == 1 else total.add_(bias)
        shared = total.topk(k, dim=1, sorted=False).indices
        chosen = [shared] * len(names)
        indices = shared.unsqueeze(1)
    else:
        chosen = [
            (product + bias).topk(k, dim=1, sorted=False).indices
            for product, bias in zip(products, biases, strict=True)
        ]
        indices = torch.stack(chosen, dim=1)
    if precision == "float32":
        picked = [product.gather(1, index) for product, index in zip(products, chosen, strict=True)]
    else:
        picked = [
            kernels.value_gradients(index, y.unsqueeze(1), model.encoder[name]).squeeze(1)
            for name, y, index in zip(names, centred, chosen, strict=True)
        ]
    picked = [each + bias[index] for each, bias, index in zip(picked, biases, chosen, strict=True)]
    values = torch.stack(picked, dim=1).relu_()
    square_norms = tuple(x.square().sum(1) for x in features)
    return Selected(features, square_norms, centred, tuple(products), indices, values)


def reconstruct(
    model: Sparc, selected: Selected, *, cross: bool, kernels: Kernels
) -> Reconstructed:
    """Decode the codes of every source through every target's decoder.

    Args:
        model: The model.
        selected: The batch.
        cross: Whether to decode the pairs of different streams.
        kernels: The implementation.
    """
    rows, streams, _ = selected.values.shape
    square_errors = selected.values.new_full((rows, streams, streams), torch.nan)
    errors = []
    for target, name in enumerate(model.config.names):
        indices, values = codes_for(selected.indices, selected.values, target, cross=cross)
        decoded = kernels.decode(indices, values, model.decoder[name])
        decoded = decoded.view(rows, -1, decoded.shape[2])
        error = decoded.sub_((selected.features[target] - model.pre_bias[name]).unsqueeze(1))
        sources = slice(None) if cross else slice(target, target + 1)
        square_errors[:, target, sources] = error.square().sum(2)
        errors.append(error)
    return Reconstructed(square_errors, tuple(errors))


def revive(
    model: Sparc,
    selected: Selected,
    reconstructed: Reconstructed,
    position: int,
    dead: Tensor,
    *,
    auxk: int,
    weight: float,
    kernels: Kernels,
) -> Revival:
    """AuxK of one stream (appendix of arXiv 2507.06265, after Gao et al. 2024, equation 10).

    Args:
        model: The model.
        selected: The batch.
        reconstructed: Its reconstructions.
        position: Position of the stream.
        dead: The stream's dead latents. With none of them the auxiliary code is empty, and the
            loss is the constant of the published recipe, which moves the pre-bias alone.
        auxk: Dead latents that a row tries; all of them where there are fewer.
        weight: Weight of this stream's aux in the loss.
        kernels: The implementation.
    """
    name = model.config.names[position]
    own = position if reconstructed.errors[position].shape[1] > 1 else 0
    error = reconstructed.errors[position][:, own]
    # The target, a constant, is x - r + b_pre; b_pre stands on both sides of the difference.
    target_norms = (model.pre_bias[name] - error).square().sum(1, keepdim=True)
    per_norm = torch.where(target_norms > 0, 1 / target_norms, 0)  # nothing is left over: no loss
    logits = selected.products[position].index_select(1, dead) + model.latent_bias[name][dead]
    values, indices = logits.topk(min(auxk, len(dead)), dim=1, sorted=False)
    values = values.relu_()
    if not len(dead):
        losses = error.square().sum(1) * per_norm.squeeze(1)
        return Revival(losses, dead, indices, values, values, error * (per_norm * (2 * weight)))
    directions = model.decoder[name].index_select(0, dead)
    difference = kernels.decode(indices, values.unsqueeze(1), directions).squeeze(1).add_(error)
    losses = difference.square().sum(1) * per_norm.squeeze(1)
    residuals = difference.mul_(per_norm * (2 * weight))
    products = kernels.value_gradients(indices, residuals.unsqueeze(1), directions).squeeze(1)
    return Revival(losses, dead, indices, values, products * (values > 0), residuals)


def differentiate(
    model: Sparc,
    selected: Selected,
    reconstructed: Reconstructed,
    revivals: tuple[Revival | None, ...],
    weights: Tensor,
    *,
    kernels: Kernels,
) -> RowTerms:
    """Derivatives of the rows' losses by what the rows carry.

    Args:
        model: The model.
        selected: The batch.
        reconstructed: Its reconstructions; their errors are overwritten by the residuals.
        revivals: AuxK by stream.
        weights: From `pair_weights`, (targets, sources), on the batch's device.
        kernels: The implementation.
    """
    values = selected.values
    rows, streams, k = values.shape
    value_gradients = torch.zeros_like(values)
    residuals, alignments = [], []
    for target, name in enumerate(model.config.names):
        error = reconstructed.errors[target]
        cross = error.shape[1] == streams
        sources = slice(None) if cross else slice(target, target + 1)
        per_norm = 2 * weights[target, sources] / selected.square_norms[target].unsqueeze(1)
        residual = error.mul_(per_norm.unsqueeze(2))
        indices, decoded = codes_for(selected.indices, values, target, cross=cross)
        vectors = residual.view(*decoded.shape[:2], -1)
        products = kernels.value_gradients(indices, vectors, model.decoder[name])
        products = products.view(rows, -1, k)
        value_gradients[:, sources] += products
        residuals.append(residual)
        alignments.append(products.mul_(values[:, sources]))
    value_gradients.mul_(values > 0)
    return RowTerms(
        selected.centred,
        selected.indices,
        values,
        value_gradients,
        tuple(residuals),
        tuple(alignments),
        revivals,
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


def _product(centred: Tensor, encoder: Tensor, precision: Precision) -> Tensor:
    if precision == "bfloat16":
        return (centred.bfloat16() @ encoder.bfloat16().T).to(centred.dtype)
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
