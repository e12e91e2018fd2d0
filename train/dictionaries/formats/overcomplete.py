"""State dicts of overcomplete (github.com/KempnerInstitute/overcomplete), whose encoder is linear.

z = activation(BatchNorm(W x + b)) and x' = z D, where BatchNorm may be missing, in use scales by
numbers that it has learned, and W may be tied to D. The file does not say k: the user does, and it
is read as a TopKSAE. A BatchTopKSAE keeps its threshold outside of its `state_dict`.

Rows of D are scaled to unit norm when overcomplete loads them, by default, if that is how they were
trained: so are rows here whose norms are close to 1.
"""

import torch
from torch import Tensor

from sparc.common.errors import DictionaryError, setting
from sparc.train.dictionaries.dictionary import Dictionary, TopK
from sparc.train.dictionaries.formats.format import Format
from sparc.train.dictionaries.formats.given import Given, Tensors

_ROWS = "dictionary._weights"
_SCALE = "dictionary.multiplier"
_LINEAR = "encoder.final_block.0"
_NORM = "encoder.final_block.1"
_UNTIED = "encoder.weight"
_TIED = "encoder.tied_to"
_EPSILON = 1e-5
"""Of PyTorch's BatchNorm1d, where nobody says otherwise."""
_CLOSE = 0.05
"""Norms that differ from 1 by less: those of a decoder that is scaled after every step."""


class Overcomplete(Format):
    """overcomplete: a TopKSAE, its default or a tied encoder."""

    def recognizes(self, given: Given) -> bool:
        """By the dictionary's tensors."""
        return _ROWS in given.tensors()

    def read(self, given: Given, k: int) -> Dictionary:
        """Read a state dict."""
        if not k:
            raise DictionaryError(
                f"{given}: a state_dict of overcomplete does not say how many latents a row uses: "
                f"give the top_k of its TopKSAE with {setting('--k')}"
            )
        tensors = given.tensors()
        decoder = _decoder(tensors)
        latents, dim = decoder.shape
        if _LINEAR + ".weight" in tensors:
            encoder = tensors.take(f"{_LINEAR}.weight", latents, dim)
            encoder_bias = tensors.take(f"{_LINEAR}.bias", latents)
            encoder, encoder_bias = _batch_normed(tensors, encoder, encoder_bias)
        else:
            encoder, encoder_bias = _tieable(tensors, decoder)
        tensors.done(without=(f"{_TIED}._weights", f"{_TIED}.multiplier"))
        return Dictionary(
            encoder=encoder,
            encoder_bias=encoder_bias,
            decoder=decoder,
            bias=torch.zeros(dim),
            activation=TopK(k),
            normalize="none",
        )


def _decoder(tensors: Tensors) -> Tensor:
    rows = tensors.take(_ROWS, None, None)
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    if bool(((norms - 1).abs() < _CLOSE).all()):
        rows = rows / (norms + 1e-8)
    scale = tensors.take(_SCALE) if _SCALE in tensors else torch.zeros(())
    return rows * scale.exp()


def _batch_normed(tensors: Tensors, encoder: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The linear encoder that one with BatchNorm is in use."""
    if f"{_NORM}.running_var" not in tensors:
        return encoder, bias  # tensors that are left, such as LayerNorm's, are refused by name
    latents = len(bias)
    mean, variance, scale, shift = (
        tensors.take(f"{_NORM}.{name}", latents).double()
        for name in ("running_mean", "running_var", "weight", "bias")
    )
    tensors.take(f"{_NORM}.num_batches_tracked")
    factor = scale / (variance + _EPSILON).sqrt()
    return (
        (encoder.double() * factor[:, None]).float(),
        ((bias.double() - mean) * factor + shift).float(),
    )


def _tieable(tensors: Tensors, decoder: Tensor) -> tuple[Tensor, Tensor]:
    latents, dim = decoder.shape
    tied = _UNTIED not in tensors
    encoder = decoder.clone() if tied else tensors.take(_UNTIED, latents, dim)
    has_bias = "encoder.bias" in tensors
    bias = tensors.take("encoder.bias", latents) if has_bias else torch.zeros(latents)
    return encoder, bias
