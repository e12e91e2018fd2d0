"""What is explained: a number that says how much of a latent, or of a text, a feature holds.

With h the logits of a normalized feature in the image's stream and z a code (REPORT.md): a
latent l is h_l; a text is the sum of h_l over its latents, weighted by its code; the similarity is
the cosine of the image's code with the text's, the image's selection being held fixed.
This module must not know images or encoders.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from sparc.analyze.localize.config import ModeName, TargetName
from sparc.common.text import shorten
from sparc.extract.encoders.tower import NothingInCommonError
from sparc.train.model.network import Codes, Sparc

Objective = Callable[[Tensor], Tensor]
"""From features of one stream, (rows, dim), to the number that is explained, (rows,)."""


class TextFeature(NamedTuple):
    """A text as its stream's encoder sees it.

    Attributes:
        text: The text.
        stream: The stream that read it.
        feature: (1, dim).
    """

    text: str
    stream: str
    feature: Tensor


def latents_objective(model: Sparc, stream: str, latents: Tensor, weights: Tensor) -> Objective:
    """The weighted sum of some latents' logits.

    Args:
        model: The model.
        stream: Whose features are given to the objective.
        latents: (n,) int64.
        weights: (n,).
    """
    direction = weights @ model.encoder[stream][latents]
    offset = weights @ model.latent_bias[stream][latents] - direction @ model.pre_bias[stream]

    def weighted(features: Tensor) -> Tensor:
        found: Tensor = normalized(model, features) @ direction + offset
        return found

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
    """What is explained of a text in a stream.

    Args:
        model: The model.
        stream: The stream in which it is looked for.
        text: The text.
        image: The image's features by stream, (1, dim) each.
        target: `latents`: weighted by the text's code; `similarity`: of the codes.
        mode: `independent`: the text selects its latents alone, the image's streams theirs;
            `joint`: all of them together.

    Raises:
        NothingInCommonError: The text has no latent that is active, or none that the image
            shares.
    """
    codes = model.encode({**image, text.stream: text.feature}, mode)
    latents, values = _active(codes[text.stream])
    if not len(latents):
        raise NothingInCommonError(
            f"the text '{shorten(text.text, 60)}' activates no latent of stream {text.stream} "
            f"({mode} selection): there is nothing to look for; try another text"
        )
    weights = values / values.norm()
    if target == "latents":
        return latents_objective(model, stream, latents, weights)
    own = codes[stream].indices[0]
    shared = weights.new_zeros(model.config.latents).index_put((latents,), weights)[own]
    if not bool((shared * codes[stream].values[0]).any()):
        raise NothingInCommonError(
            f"the text '{shorten(text.text, 60)}' shares no active latent with the image in "
            f"stream {stream} ({mode} selection): use the target latents instead"
        )

    def similarity(features: Tensor) -> Tensor:
        centred = normalized(model, features) - model.pre_bias[stream]
        code = (centred @ model.encoder[stream][own].T + model.latent_bias[stream][own]).relu()
        found: Tensor = (code @ shared) / code.norm(dim=1).clamp(min=1e-12)
        return found

    return similarity


def raw_objective(text: Tensor) -> Objective:
    """The cosine with a text's own feature, where both have one space; (dim,)."""
    direction = text / text.norm()
    return lambda features: _unit(features) @ direction


def active_latents(codes: Codes) -> list[Tensor]:
    """The latents that are active in each row of some codes: (number of them,) int64 each."""
    return [
        latents[values > 0] for latents, values in zip(codes.indices, codes.values, strict=True)
    ]


def _active(codes: Codes) -> tuple[Tensor, Tensor]:
    active = codes.values[0] > 0
    return codes.indices[0][active], codes.values[0][active]


def normalized(model: Sparc, features: Tensor) -> Tensor:
    """Raw features at the scale that the model reads; a zero feature stays zero."""
    return _unit(features) if model.config.normalize == "unit" else features


def _unit(features: Tensor) -> Tensor:
    # A place may have no feature at all, behind a ReLU.
    norms: Tensor = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return features / norms.clamp(min=1e-12)
