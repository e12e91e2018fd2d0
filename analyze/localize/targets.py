"""Objectives: how strongly a feature holds a latent or a text. Methods explain their value.

With h the logits of a normalized feature in the image's stream and z a code (REPORT.md), the
objective of a latent l is h_l. That of a text is the sum of h_l over its latents, weighted by its
code, or the cosine of the image's code with the text's, the image's selection held fixed. This
module must not know images or encoders.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from sparc.analyze.localize.config import ModeName, TargetName
from sparc.common.text import shorten
from sparc.extract.encoders.tower import NothingInCommonError
from sparc.train.model.codes import Codes
from sparc.train.model.network import Sparc

Objective = Callable[[Tensor], Tensor]
"""From features of one stream, (rows, dim), to the value that is explained, (rows,)."""


class TextFeature(NamedTuple):
    """A text and its feature.

    Attributes:
        text: The text.
        stream: The text stream that encoded it.
        feature: (1, dim).
    """

    text: str
    stream: str
    feature: Tensor


Query = int | TextFeature
"""What is located: a latent, or an encoded text."""


def latents_objective(model: Sparc, stream: str, latents: Tensor, weights: Tensor) -> Objective:
    """The weighted sum of some latents' logits.

    Args:
        model: The model.
        stream: The stream of the features.
        latents: (n,) int64.
        weights: (n,).
    """
    direction = weights @ model.encoder[stream][latents]
    offset = weights @ model.latent_bias[stream][latents] - direction @ model.pre_bias[stream]

    def weighted(features: Tensor) -> Tensor:
        value: Tensor = normalized(model, features) @ direction + offset
        return value

    return weighted


def text_objective(
    model: Sparc,
    stream: str,
    text: TextFeature,
    image: Mapping[str, Tensor],
    *,
    target: TargetName,
    mode: ModeName,
) -> Objective:
    """The objective of a text in a stream.

    Args:
        model: The model.
        stream: The stream of the features.
        text: The text.
        image: The image's features by stream, (1, dim) each.
        target: `latents`: weighted by the text's code; `similarity`: of the codes.
        mode: `independent`: every stream selects its own latents; `joint`: text and image select
            the same.

    Raises:
        NothingInCommonError: The text activates no latent, or none that the image shares.
    """
    codes = model.encode({**image, text.stream: text.feature}, mode)
    latents, values = _active(codes[text.stream])
    if not len(latents):
        raise NothingInCommonError(
            f"the text '{shorten(text.text, 60)}' activates no latent of stream {text.stream} "
            f"({mode} selection): try another text"
        )
    weights = values / values.norm()
    if target == "latents":
        return latents_objective(model, stream, latents, weights)
    selected = _selected(model, codes, stream)
    own = codes[stream].indices[0, selected]
    shared = weights.new_zeros(model.config.latents).index_put((latents,), weights)[own]
    if not bool((shared * codes[stream].values[0, selected]).any()):
        raise NothingInCommonError(
            f"the text '{shorten(text.text, 60)}' shares no active latent with the image in "
            f"stream {stream} ({mode} selection): use the target latents instead"
        )

    def similarity(features: Tensor) -> Tensor:
        centred = normalized(model, features) - model.pre_bias[stream]
        code = (centred @ model.encoder[stream][own].T + model.latent_bias[stream][own]).relu()
        cosine: Tensor = (code @ shared) / code.norm(dim=1).clamp(min=1e-12)
        return cosine

    return similarity


def raw_objective(text: Tensor) -> Objective:
    """The cosine with a text's own feature, (dim,), where image and text share a space."""
    direction = text / text.norm()
    return lambda features: _unit(features) @ direction


def active_latents(codes: Codes) -> list[Tensor]:
    """The latents that are active in each row of some codes, int64."""
    return [
        latents[values > 0] for latents, values in zip(codes.indices, codes.values, strict=True)
    ]


def _selected(model: Sparc, codes: Mapping[str, Codes], stream: str) -> Tensor:
    """Which columns of a row's code are selected, active or not, rather than padding, (width,)."""
    indices = codes[stream].indices
    if not model.selector.leaves_out:
        return torch.ones_like(indices[0], dtype=torch.bool)
    sharing = [other for other in codes.values() if other.indices is indices]
    return torch.stack([other.values[0] > 0 for other in sharing]).any(0)


def _active(codes: Codes) -> tuple[Tensor, Tensor]:
    active = codes.values[0] > 0
    return codes.indices[0][active], codes.values[0][active]


def normalized(model: Sparc, features: Tensor) -> Tensor:
    """Raw features normalized as the model does; a zero feature stays zero."""
    return _unit(features) if model.config.normalize == "unit" else features


def _unit(features: Tensor) -> Tensor:
    # After a ReLU, a place may have no feature at all.
    norms: Tensor = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return features / norms.clamp(min=1e-12)
