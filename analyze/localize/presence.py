"""Whether a query is in an image at all. A map alone cannot say: every map has a peak.

The strength of a query, the value of its objective (`targets`) on the whole image, has another
scale and offset for every text, so that two texts do not compare. What compares is the share of a
reference in which the strength is lower: the same query in other images (with a cache), or other
texts in the same image (without one). This module must not know encoders.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sparc.analyze.localize.config import LocalizeConfig, ModeName, TargetName
from sparc.analyze.localize.targets import Query, TextFeature, active_latents, normalized
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.tables import same_as_before
from sparc.common.text import amount
from sparc.train.model.network import Sparc

REFERENCE_IMAGES = 500
"""Images of a cache that a query is compared with."""

_ROWS_AT_ONCE = 64

_NOUNS = """
airport anchor ankle arrow bakery balcony basket battery beach bicycle blanket bottle
bridge broom bucket butterfly button cabin camera candle canyon carpet castle ceiling
chain chair cheese chimney church clock cloud coat coin compass crowd curtain desert
dinner dog drum engine envelope farmer feather fence field finger flag flower forest
fountain garage glacier glove guitar hammer harbour hat hill horse hospital island jacket
kettle ladder lake lamp letter library lion mirror mountain mouse nurse ocean onion
orchard paper parade pencil piano pillow pocket puddle queen rail ribbon river rocket roof
rope salad sand scissors shadow shelf ship shoulder smoke snow soldier spoon stairs stone
street sugar table teacher theatre thread ticket tower tractor tree tunnel umbrella valley
violin wagon wall wheel window wolf yard
"""

RANDOM_WORDS = tuple(_NOUNS.split())
"""Words that a text is compared with where there are no reference images: common nouns of many
kinds, chosen without regard to any data set."""


class Presence(NamedTuple):
    """Whether a query is in an image at all, in one stream.

    Attributes:
        strength: The value of the objective on the whole image; None where a text activates
            nothing.
        share: The share of the reference (`Comparison.source`) whose strength is lower, 0 to 1;
            None without a reference.
        absent: Why the query cannot be in the image, according to the codes; empty if it may be.
    """

    strength: float | None
    share: float | None
    absent: str


class ReferenceImages(NamedTuple):
    """Images that queries are compared with.

    Attributes:
        source: The cache that they come from.
        features: By image stream, (images, dim) float32; the same images in each.
    """

    source: str
    features: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.features.values()), ()))


def read_reference(
    cache: ActivationCache, streams: tuple[str, ...], seed: int, device: torch.device
) -> ReferenceImages:
    """Draw images of a cache at random; captions do not count.

    Args:
        cache: The cache.
        streams: Its image streams; an image is drawn if its first row is valid in all of them.
        seed: Seed of the draw.
        device: Device of the features.
    """
    is_first = ~same_as_before(cache.rows(["sample_id"])["sample_id"])
    rows = np.flatnonzero(is_first & cache.valid_rows(streams))
    if len(rows) > REFERENCE_IMAGES:
        chosen = np.random.default_rng(seed).choice(len(rows), REFERENCE_IMAGES, replace=False)
        rows = rows[np.sort(chosen)]
    chunks = rows // cache.info.rows_per_chunk
    pieces: dict[str, list[npt.NDArray[np.float32]]] = {stream: [] for stream in streams}
    for chunk in np.unique(chunks):
        places = rows[chunks == chunk] - cache.info.chunk_rows(int(chunk)).start
        for stream in streams:
            pieces[stream].append(cache.features(stream, int(chunk))[places].astype(np.float32))
    features = {
        stream: torch.from_numpy(np.concatenate(parts)).to(device)
        for stream, parts in pieces.items()
        if parts
    }
    return ReferenceImages(str(cache.folder), features)


class Comparison:
    """Compares the strength of a query in an image with a reference.

    Args:
        model: The model.
        encode: From a text stream and n texts to their features, (n, dim).
        config: The target and the mode.
        images: Images that queries are compared with; None compares a text with random words in the
            same image, and a latent with nothing.
    """

    def __init__(
        self,
        model: Sparc,
        encode: Callable[[str, Sequence[str]], Tensor],
        config: LocalizeConfig,
        images: ReferenceImages | None,
    ) -> None:
        self._model, self._encode, self._config, self._images = model, encode, config, images
        self._random_words: TextFeature | None = None
        self._strengths_in_images: dict[tuple[str, int | str], Tensor] = {}

    @property
    def source(self) -> str:
        """What queries are compared with, in words."""
        if self._images is not None:
            return f"{amount(len(self._images), 'image')} of {self._images.source}"
        return f"{len(RANDOM_WORDS)} random words in the same image"

    def share_below(
        self, strength: float, stream: str, query: Query, image: Mapping[str, Tensor]
    ) -> float | None:
        """The share of the reference whose strength is lower; None without a reference.

        Args:
            strength: The query's strength in the image.
            stream: The image stream.
            query: A latent or a text.
            image: The image's features by stream, (1, dim) each.
        """
        reference = self._reference(stream, query, image)
        return None if reference is None else share_below(strength, reference)

    def _reference(self, stream: str, query: Query, image: Mapping[str, Tensor]) -> Tensor | None:
        """The strengths that a query's own is compared with, (n,)."""
        if self._images is not None:
            if stream not in self._images.features:
                return None
            key = (stream, query.text if isinstance(query, TextFeature) else query)
            if key not in self._strengths_in_images:
                self._strengths_in_images[key] = self._strengths(
                    stream, query, self._images.features
                )
            return self._strengths_in_images[key]
        if not isinstance(query, TextFeature):
            return None
        if self._random_words is None or self._random_words.stream != query.stream:
            texts = [f"a {word}" for word in RANDOM_WORDS]
            self._random_words = TextFeature("", query.stream, self._encode(query.stream, texts))
        repeated = {name: x.expand(len(RANDOM_WORDS), -1) for name, x in image.items()}
        return self._strengths(stream, self._random_words, repeated)

    def _strengths(self, stream: str, query: Query, images: Mapping[str, Tensor]) -> Tensor:
        if not isinstance(query, TextFeature):
            return latent_strengths(self._model, stream, query, images[stream])
        target, mode = self._config.target, self._config.mode
        return text_strengths(self._model, stream, query, images, target=target, mode=mode)


def text_strengths(
    model: Sparc,
    stream: str,
    text: TextFeature,
    images: Mapping[str, Tensor],
    *,
    target: TargetName,
    mode: ModeName,
) -> Tensor:
    """The strength of a text in each of n images: what `targets.text_objective` gives for each.

    Args:
        model: The model.
        stream: The image stream.
        text: The text; its feature may be (n, dim), one text for each image.
        images: Features by image stream, (n, dim); the same images in each.
        target: As for `text_objective`.
        mode: As for `text_objective`.

    Returns:
        (n,). 0 where the text activates nothing, or shares nothing under `similarity`.
    """
    strengths = []
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
                strengths.append((weights * (logits + model.latent_bias[stream][latents])).sum(1))
                continue
            own, own_values = codes[stream]
            dense = weights.new_zeros(len(own), model.config.latents).scatter(1, latents, weights)
            shared = (dense.gather(1, own) * own_values).sum(1)
            strengths.append(shared / own_values.norm(dim=1).clamp(min=1e-12))
    return torch.cat(strengths)


def latent_strengths(model: Sparc, stream: str, latent: int, features: Tensor) -> Tensor:
    """The logit of a latent in each of n images: (n,) from (n, dim)."""
    with torch.no_grad():
        centred = normalized(model, features) - model.pre_bias[stream]
        logits: Tensor = centred @ model.encoder[stream][latent] + model.latent_bias[stream][latent]
    return logits


def absence(
    model: Sparc,
    stream: str,
    query: Query,
    image: Mapping[str, Tensor],
    mode: ModeName,
) -> str:
    """Why a query cannot be in an image, according to a stream's code; empty if it may be.

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


def share_below(strength: float, reference: Tensor) -> float | None:
    """The share of a reference that is lower, ties counting half; None if it is empty."""
    if not len(reference):
        return None
    lower = (reference < strength).double() + 0.5 * (reference == strength).double()
    return float(lower.mean())
