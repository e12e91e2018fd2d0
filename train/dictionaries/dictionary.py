"""A dictionary of one stream: a linear encoder, an activation and a linear decoder.

Most programs that train sparse autoencoders train this, and a SPARC model holds one for each
stream. Rows x become codes z, and codes rows:

    z = activation(encoder (scale(x) - bias) + encoder_bias)
    x' = z decoder + bias

This module must not know how anybody stores that: see `sparc.train.dictionaries.formats`.
"""

import dataclasses

import numpy as np
import torch
from torch import Tensor

from sparc.train.config import Normalize


@dataclasses.dataclass(frozen=True)
class TopK:
    """The k largest logits of a row; what is negative among them becomes zero."""

    k: int


@dataclasses.dataclass(frozen=True)
class Threshold:
    """The positive logits of a row that reach a number, the same one for all latents.

    Attributes:
        least: The number, a float32; 0 is a plain ReLU.
        k: How many they are on average; None: unknown.
        most: The most that a row may have, the largest ones; None: there is no such bound.
    """

    least: float
    k: int | None = None
    most: int | None = None


Activation = TopK | Threshold


@dataclasses.dataclass(frozen=True, eq=False)
class Dictionary:
    """A dictionary of one stream; tensors are float32, on the CPU.

    Attributes:
        encoder: (latents, dim).
        encoder_bias: (latents,).
        decoder: (latents, dim), rows of any norm.
        bias: (dim,): subtracted before encoding, added after decoding.
        activation: From logits to codes.
        normalize: What is done to a row first: `unit` scales it to unit L2 norm, `none` nothing.
    """

    encoder: Tensor
    encoder_bias: Tensor
    decoder: Tensor
    bias: Tensor
    activation: Activation
    normalize: Normalize

    @property
    def latents(self) -> int:
        """Latents of the dictionary."""
        return self.encoder.shape[0]

    @property
    def dim(self) -> int:
        """Values of a row."""
        return self.encoder.shape[1]


def threshold_above(number: float, *, k: int | None = None) -> Threshold:
    """The threshold that keeps positive logits greater than a number, rather than equal to it."""
    if number <= 0:
        return Threshold(0.0, k=k)
    return Threshold(float(np.nextafter(np.float32(number), np.float32(np.inf))), k=k)


def bias_for_uncentred(encoder: Tensor, encoder_bias: Tensor, bias: Tensor) -> Tensor:
    """The encoder's bias, where a program does not subtract the other bias before it encodes."""
    return (encoder_bias.double() + encoder.double() @ bias.double()).float()


def with_unit_decoder(dictionary: Dictionary) -> Dictionary:
    """The dictionary of logits in units of decoder rows: these get unit norm, logits their norms.

    For programs that select and show codes so. Rows of zeros stay.
    """
    norms = torch.linalg.vector_norm(dictionary.decoder, dim=1)
    norms = torch.where(norms > 0, norms, 1)
    return dataclasses.replace(
        dictionary,
        encoder=dictionary.encoder * norms[:, None],
        encoder_bias=dictionary.encoder_bias * norms,
        decoder=dictionary.decoder / norms[:, None],
    )


def with_unit_rows(dictionary: Dictionary) -> Dictionary:
    """The same codes, of rows that were scaled to norm sqrt(dim) and now are to unit norm."""
    factor = dictionary.dim**0.5
    return dataclasses.replace(
        dictionary,
        encoder=dictionary.encoder * factor,
        decoder=dictionary.decoder / factor,
        bias=dictionary.bias / factor,
        normalize="unit",
    )
