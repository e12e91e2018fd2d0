"""Is what is looked for in the image at all? A map alone cannot say: every map has a peak.

The number that is explained (`targets`) has another scale and offset for every text, so that the
numbers of two texts do not compare. What compares is the share of a reference in which the number
is lower: the same query in other images (with a cache), or other texts in the same image (without
one). This module must not know images or encoders.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sparc.analyze.localize.config import ModeName, TargetName
from sparc.analyze.localize.targets import TextFeature, active_latents, normalized
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.tables import same_as_before
from sparc.train.model.network import Sparc

REFERENCE_IMAGES = 500
"""Images of a cache that a query is compared with."""

_ROWS_AT_ONCE = 64


class ReferenceImages(NamedTuple):
    """Images that queries are compared with.

    Attributes:
        source: The cache that they are of.
        features: By image stream, (images, dim) float32; the same images in each.
    """

    source: str
    features: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.features.values()), ()))


def read_reference(
    cache: ActivationCache, streams: tuple[str, ...], seed: int, device: torch.device
) -> ReferenceImages:
    """Draw images of a cache; each counts once, however many captions it has.

    Args:
        cache: The cache.
        streams: Its image streams; an image is drawn if its first row is valid in all of them.
        seed: Of the draw.
        device: Where the features go.
    """
    is_first = ~same_as_before(cache.rows(["sample_id"])["sample_id"])
    rows = np.flatnonzero(is_first & cache.valid_rows(streams))
    if len(rows) > REFERENCE_IMAGES:
        chosen = np.random.default_rng(seed).choice(len(rows), REFERENCE_IMAGES, replace=False)
        rows = rows[np.sort(chosen)]
    chunks = rows // cache.info.rows_per_chunk
    found: dict[str, list[npt.NDArray[np.float32]]] = {stream: [] for stream in streams}
    for chunk in np.unique(chunks):
        places = rows[chunks == chunk] - cache.info.chunk_rows(int(chunk)).start
        for stream in streams:
            found[stream].append(cache.features(stream, int(chunk))[places].astype(np.float32))
    features = {
        stream: torch.from_numpy(np.concatenate(parts)).to(device)
        for stream, parts in found.items()
        if parts
    }
    return ReferenceImages(str(cache.folder), features)


def text_numbers(
    model: Sparc,
    stream: str,
    text: TextFeature,
    images: Mapping[str, Tensor],
    *,
    target: TargetName,
    mode: ModeName,
) -> Tensor:
    """The number of a text in each of some images: what `targets.text_objective` gives for each.

    Args:
        model: The model.
        stream: The image stream in which the text is looked for.
        text: The text; its feature may be (n, dim), a text for each image.
        images: Features by image stream, (n, dim); the same images in each.
        target: As for `text_objective`.
        mode: As for `text_objective`.

    Returns:
        (n,). 0 where the text activates nothing, or shares nothing under `similarity`.
    """
    numbers = []
    texts = text.feature.expand(len(images[stream]), -1)
    with torch.no_grad():
        for start in range(0, len(images[stream]), _ROWS_AT_ONCE):
            some = {name: value[start : start + _ROWS_AT_ONCE] for name, value in images.items()}
            some[text.stream] = texts[start : start + _ROWS_AT_ONCE]
            codes = model.encode(some, mode)
            latents, values = codes[text.stream]
            weights = values / values.norm(dim=1, keepdim=True).clamp(min=1e-12)
            if target == "latents":
                centred = normalized(model, some[stream]) - model.pre_bias[stream]
                logits = torch.einsum("nkd,nd->nk", model.encoder[stream][latents], centred)
                numbers.append((weights * (logits + model.latent_bias[stream][latents])).sum(1))
                continue
            own, found = codes[stream]
            dense = weights.new_zeros(len(own), model.config.latents).scatter(1, latents, weights)
            shared = (dense.gather(1, own) * found).sum(1)
            numbers.append(shared / found.norm(dim=1).clamp(min=1e-12))
    return torch.cat(numbers)


def latent_numbers(model: Sparc, stream: str, latent: int, features: Tensor) -> Tensor:
    """The logit of a latent in each of some images: (images,) from (images, dim)."""
    with torch.no_grad():
        centred = normalized(model, features) - model.pre_bias[stream]
        found: Tensor = centred @ model.encoder[stream][latent] + model.latent_bias[stream][latent]
    return found


def absence(
    model: Sparc,
    stream: str,
    query: int | TextFeature,
    image: Mapping[str, Tensor],
    mode: ModeName,
) -> str:
    """Why a query cannot be in an image, as far as a stream's code of it says; empty if it may be.

    Args:
        model: The model.
        stream: The image stream.
        query: A latent or a text.
        image: The image's features by stream, (1, dim) each.
        mode: How latents are selected.
    """
    if not isinstance(query, TextFeature):
        (own,) = active_latents(model.encode(image, mode)[stream])
        return "" if query in own.tolist() else "not active in the image"
    codes = model.encode({**image, query.stream: query.feature}, mode)
    (wanted,), (own,) = (active_latents(codes[name]) for name in (query.stream, stream))
    if not len(wanted):
        return "the text activates no latent"
    return "" if bool(torch.isin(wanted, own).any()) else "shares no latent"


def share_below(number: float, reference: Tensor) -> float | None:
    """The share of a reference that is lower than a number, ties counting half; None of nothing."""
    if not len(reference):
        return None
    lower = (reference < number).double() + 0.5 * (reference == number).double()
    return float(lower.mean())
