"""Gradients of the parameters, as sums over the rows of a batch.

Must not know what is done with them: that is `sparc.train.step.update`.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sparc.common.workers import Workers
from sparc.train.kernels.interface import (
    InverseIndex,
    Kernels,
    WeightGradient,
    fill_bags,
    invert,
)
from sparc.train.model.network import Sparc
from sparc.train.step.reconstruct import codes_for
from sparc.train.step.row_terms import AuxiliaryCode, GlobalTerms


@dataclasses.dataclass(frozen=True)
class StreamGradients:
    """The gradients of one stream's parameters.

    Attributes:
        encoder: Computed some rows at a time, when the weight is updated.
        decoder: Likewise.
        parallel: Dot product of each decoder row and its gradient, (latents,).
        pre_bias: (dim,).
        latent_bias: (latents,).
    """

    encoder: WeightGradient
    decoder: WeightGradient
    parallel: Tensor
    pre_bias: Tensor
    latent_bias: Tensor


def sum_is_whole(values: Tensor) -> Tensor:
    """The sum over all latents, where all are here."""
    return values


def stream_gradients(
    model: Sparc,
    terms: GlobalTerms,
    kernels: Kernels,
    workers: Workers,
    *,
    frozen: Collection[str] = (),
    over_latents: Callable[[Tensor], Tensor] = sum_is_whole,
) -> dict[str, StreamGradients]:
    """Gradients of the mean loss of the rows, by stream.

    Args:
        model: The model, or its latents that this process owns.
        terms: The row terms of all processes; the number of latents stands for no latent.
        kernels: The implementation of the sparse mathematics.
        workers: Threads; each takes a stream.
        frozen: Streams that need none.
        over_latents: Turns a sum over the latents of `model` into that over all.
    """
    rows, streams, k = terms.values.shape
    latents = model.config.latents
    cross = terms.residuals[0].shape[1] == streams
    values, value_gradients = terms.values / rows, terms.value_gradients / rows

    # Streams that share their latents share one inverse index, and decoders that decode the same
    # codes share their bags.
    by_set = [invert(indices, latents) for indices in terms.indices.unbind(1)]
    encoder_inverses = by_set * streams if len(by_set) == 1 else by_set
    if cross:
        indices, codes = codes_for(terms.indices, values, 0, cross=True)
        joint = by_set[0] if len(by_set) == 1 else invert(indices, latents)
        decoder_inverses, decoder_bags = [joint] * streams, [fill_bags(joint, codes)] * streams
    else:
        decoder_inverses = encoder_inverses
        decoder_bags = [
            fill_bags(inverse, values[:, position : position + 1])
            for position, inverse in enumerate(encoder_inverses)
        ]
    # Sources that share the latents of an index row count only as their sum.
    index_rows = rows * len(by_set) if cross else rows
    of_rows = [parallel.reshape(index_rows, -1, k).sum(1) / rows for parallel in terms.parallels]
    encoder_gradients = list(value_gradients.unbind(1))
    if any(terms.further):
        encoder_inverses = []
        for position, further in enumerate(terms.further):
            own = terms.indices[:, 0 if len(by_set) == 1 else position]
            every = torch.cat((own, *(logits.indices for logits in further)), dim=1)
            added = (logits.gradients / rows for logits in further)
            encoder_inverses.append(invert(every, latents))
            encoder_gradients[position] = torch.cat((encoder_gradients[position], *added), dim=1)
    latent_biases = _sums_by_stream(kernels, encoder_inverses, encoder_gradients)
    parallels = _sums_by_stream(kernels, decoder_inverses, of_rows)

    def of_stream(position: int) -> tuple[StreamGradients, Tensor]:
        inverse, own = encoder_inverses[position], encoder_gradients[position]
        read, residual = terms.read[position], terms.residuals[position]
        latent_bias, parallel = latent_biases[position], parallels[position]
        pre_bias = residual.sum((0, 1)) / rows
        auxiliary = []
        for code in terms.auxiliary[position]:
            pre_bias += code.residuals.sum(0) / rows
            if len(code.latents):
                auxiliary.append(_auxiliary_gradients(code, read, rows, kernels))
        for added in auxiliary:
            latent_bias = latent_bias.index_add(0, added.latents, added.latent_bias)
            parallel = parallel.index_add(0, added.latents, added.parallel)
        encoder = WeightGradient(fill_bags(inverse, own.unsqueeze(1)), read.unsqueeze(1))
        decoder = WeightGradient(
            decoder_bags[position], residual.reshape(index_rows, -1, residual.shape[2])
        )
        for added in auxiliary:
            encoder = _with_rows(encoder, added.latents, added.encoder)
            decoder = _with_rows(decoder, added.latents, added.decoder)
        gradients = StreamGradients(encoder, decoder, parallel, pre_bias, latent_bias)
        # What the encoder reads is the feature minus the pre-bias.
        return gradients, latent_bias @ model.encoder[model.config.names[position]]

    learning = {name: i for i, name in enumerate(model.config.names) if name not in frozen}
    results = workers.map(of_stream, learning.values())
    for gradients, through_encoder in results:
        gradients.pre_bias.sub_(over_latents(through_encoder))
    return dict(zip(learning, (gradients for gradients, _ in results), strict=True))


def _sums_by_stream(
    kernels: Kernels, inverses: Sequence[InverseIndex], values: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """By stream, its (R, k) values summed by latent, (latents,); one pass if latents are shared."""
    if all(inverse is inverses[0] for inverse in inverses):
        return kernels.latent_sums(inverses[0], torch.stack(list(values), dim=1)).unbind()
    return tuple(
        kernels.latent_sums(inverse, of_stream.unsqueeze(1)).squeeze(0)
        for inverse, of_stream in zip(inverses, values, strict=True)
    )


def add_dense(
    model: Sparc, gradients: Mapping[str, StreamGradients], dense: Mapping[str, Tensor]
) -> dict[str, StreamGradients]:
    """Gradients by stream with dense ones added, by name of parameter."""
    result = {}
    for stream, gradient in gradients.items():
        encoder, decoder = dense[f"encoder.{stream}"], dense[f"decoder.{stream}"]
        every = torch.arange(len(encoder), device=encoder.device)
        result[stream] = StreamGradients(
            _with_rows(gradient.encoder, every, encoder),
            _with_rows(gradient.decoder, every, decoder),
            gradient.parallel + (decoder * model.decoder[stream]).sum(1),
            gradient.pre_bias + dense[f"pre_bias.{stream}"],
            gradient.latent_bias + dense[f"latent_bias.{stream}"],
        )
    return result


def _with_rows(gradient: WeightGradient, latents: Tensor, rows: Tensor) -> WeightGradient:
    """A gradient with rows added for some latents, which are ascending."""
    if gradient.added_latents is None or gradient.added_rows is None:
        return gradient._replace(added_latents=latents, added_rows=rows)
    every = torch.arange(len(gradient.bags.offsets) - 1, device=rows.device)
    total = rows.new_zeros(len(every), rows.shape[1])
    total.index_add_(0, gradient.added_latents, gradient.added_rows).index_add_(0, latents, rows)
    return gradient._replace(added_latents=every, added_rows=total)


class _AuxiliaryGradients(NamedTuple):
    """What an auxiliary code adds to a stream's gradients, for its latents only."""

    latents: Tensor
    encoder: Tensor
    decoder: Tensor
    parallel: Tensor
    latent_bias: Tensor


def _auxiliary_gradients(
    code: AuxiliaryCode, read: Tensor, rows: int, kernels: Kernels
) -> _AuxiliaryGradients:
    latents = len(code.latents)
    values, value_gradients = code.values / rows, code.value_gradients / rows
    parallels = values * code.value_gradients
    if kernels.is_dense(latents, code.indices.shape[1]):
        codes = torch.zeros(3, len(values), latents, dtype=values.dtype, device=values.device)
        sparse = torch.stack((value_gradients, values, parallels))
        codes.scatter_(2, code.indices.expand(sparse.shape), sparse)
        return _AuxiliaryGradients(
            code.latents,
            codes[0].T @ read,
            codes[1].T @ code.residuals,
            codes[2].sum(0),
            codes[0].sum(0),
        )
    indices = code.indices
    if indices.device.type != "cpu":
        # With few dead latents TopK also selects others, with value zero: they need no bags.
        indices = torch.where(values > 0, indices, latents)
    inverse = invert(indices, latents)
    value_bags = fill_bags(inverse, values.unsqueeze(1))
    gradient_bags = fill_bags(inverse, value_gradients.unsqueeze(1))
    return _AuxiliaryGradients(
        code.latents,
        kernels.weight_gradient(gradient_bags, read.unsqueeze(1), 0, latents),
        kernels.weight_gradient(value_bags, code.residuals.unsqueeze(1), 0, latents),
        *kernels.latent_sums(inverse, torch.stack((parallels, value_gradients), dim=1)),
    )
