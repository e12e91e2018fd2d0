"""A model and its encoders, ready to be asked where something is.

Puts together what the other modules of this package do: encoders taken apart, objectives, methods,
and the way back to the original image.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sparc.analyze.localize import placement
from sparc.analyze.localize.config import LocalizeConfig, MethodName
from sparc.analyze.localize.methods import choose, localize
from sparc.analyze.localize.placement import Placement
from sparc.analyze.localize.presence import (
    ReferenceImages,
    absence,
    latent_numbers,
    share_below,
    text_numbers,
)
from sparc.analyze.localize.random_words import RANDOM_WORDS
from sparc.analyze.localize.targets import (
    Objective,
    TextFeature,
    latents_objective,
    raw_objective,
    text_objective,
)
from sparc.analyze.localize.words import WordWeight, word_weights
from sparc.common.text import amount, shorten
from sparc.extract.datasets.images import open_image_file
from sparc.extract.encoders.encoder import Encoders, ImageEncoder
from sparc.extract.encoders.tower import LocalizeError, NothingInCommonError, Tower
from sparc.train.model.network import Sparc

Query = int | TextFeature
"""What is looked for: a latent, or a text that a text stream has read."""

_SAME_FEATURE = 0.99
"""Least cosine of a feature with itself, computed in another precision."""
_PLACEMENTS = 256
"""Sizes of images that are remembered for each stream."""


class Seen(NamedTuple):
    """An image as the encoders see it.

    Attributes:
        size: Width and height.
        pixels: By image stream, (1, 3, height, width), on the device.
        features: By image stream, (1, dim).
    """

    size: tuple[int, int]
    pixels: Mapping[str, Tensor]
    features: Mapping[str, Tensor]


class Presence(NamedTuple):
    """Whether a query is in an image at all, in one stream.

    Attributes:
        number: The number that is explained, of the whole image; None where there is none, since
            the text activates nothing.
        share: The share of the reference (`Localizer.compared_with`) whose number is lower, 0 to 1;
            None without a reference.
        absent: Why the query cannot be in the image, as far as the codes say; empty if it may be.
    """

    number: float | None
    share: float | None
    absent: str


class Located(NamedTuple):
    """Where a query is in an image, in one stream.

    Attributes:
        map: (height, width) float32 over the upright image, on a scale of the stream's own: larger
            where the query is. NaN where the encoder sees nothing; 0 where nothing is explained.
        presence: Whether the query is there at all.
    """

    map: npt.NDArray[np.float32]
    presence: Presence


class Localizer:
    """Answers where queries are.

    `Localizer.open` makes one of a run; `text` and `latent` then answer for image files.

    Args:
        model: The dictionary.
        encoders: Of the streams that are shown, and of the text stream that reads texts, if any.
        config: How to look.
        device: Where the model runs.
        reference: Images that a query is compared with; None: a text is compared with other texts.

    Attributes:
        model: The dictionary, on the device.
        towers: By image stream, its encoder taken apart.
        text_stream: The stream that reads texts; None where there is none.
        left_out: By image stream that cannot be shown, the reason.

    Raises:
        LocalizeError: No image stream can be shown, or there is no such text stream.
    """

    def __init__(
        self,
        model: Sparc,
        encoders: Encoders,
        config: LocalizeConfig,
        device: torch.device,
        reference: ReferenceImages | None = None,
    ) -> None:
        self._reference = reference
        self._random_words: TextFeature | None = None
        self._reference_numbers: dict[tuple[str, int | str], Tensor] = {}
        self.model = model.to(device).requires_grad_(False)
        self._config = config
        self._device = device
        self._images: dict[str, ImageEncoder] = {}
        self._texts = encoders.texts
        self.towers: dict[str, Tower] = {}
        self.left_out: dict[str, str] = {}
        self._placements: dict[tuple[str, tuple[int, int]], Placement] = {}
        self._methods: dict[str, MethodName] = {}
        for name, encoder in encoders.images.items():
            try:
                self.towers[name] = open_tower(encoder)
            except LocalizeError as error:
                self.left_out[name] = str(error)
            else:
                self._images[name] = encoder
        if not self.towers:
            reasons = "; ".join(f"{name}: {why}" for name, why in self.left_out.items())
            raise LocalizeError(
                f"no stream can show places in an image ({reasons or 'none reads images'})"
            )
        wanted = config.text_stream
        if wanted and wanted not in self._texts:
            known = ", ".join(self._texts) or "none"
            raise LocalizeError(f"there is no text stream {wanted!r}; text streams: {known}")
        self.text_stream = wanted or next(iter(self._texts), None)

    @classmethod
    def open(cls, run: str | os.PathLike[str], config: LocalizeConfig | None = None) -> "Localizer":
        """A localizer of a run, with the encoders that the run recorded.

        Args:
            run: A run, saved model or hub repository.
            config: How to look, as on the command line; `cache` names a cache whose images queries
                are compared with.

        Raises:
            SparcError: The run or the cache is not there, an encoder cannot be built, or no stream
                can be shown.
        """
        from sparc.analyze.codes.subject import open_subject
        from sparc.analyze.localize.opening import open_localizer

        return open_localizer(open_subject(os.fspath(run)), config or LocalizeConfig())

    def text(self, image: str | os.PathLike[str], text: str) -> dict[str, Located]:
        """Where a text is in an image file, by image stream.

        Raises:
            PictureError: The image cannot be read.
            LocalizeError: The model has no text stream, or an encoder does not allow the method.
        """
        return self._locate(image, self.read(text))

    def latent(self, image: str | os.PathLike[str], latent: int) -> dict[str, Located]:
        """Where a latent is in an image file, by image stream.

        Raises:
            PictureError: The image cannot be read.
            LocalizeError: There is no such latent, or an encoder does not allow the method.
        """
        return self._locate(image, latent)

    def _locate(self, image: str | os.PathLike[str], query: Query) -> dict[str, Located]:
        seen = self.see(open_image_file(image))
        found = {}
        for stream in self.towers:
            presence = self.presence(stream, query, seen)
            grid = self.grid(stream, query, seen)
            placed = self.placement(stream, seen.size).on_image(grid)
            found[stream] = Located(placed, presence)
        return found

    def grid(self, stream: str, query: Query, seen: Seen) -> npt.NDArray[np.float32]:
        """The map of a query over the grid of a stream's encoder; zeros where nothing is explained.

        Raises:
            LocalizeError: There is no such latent, or the encoder does not allow the method.
        """
        try:
            objective = self.objective(stream, query, seen)
        except NothingInCommonError:
            return np.zeros((1, 1), np.float32)
        grid: npt.NDArray[np.float32] = self.maps(stream, seen, [objective])[0]
        return grid

    @property
    def compared_with(self) -> str:
        """What `Presence.share` is a share of, in words."""
        if self._reference is not None:
            return f"{amount(len(self._reference), 'image')} of {self._reference.source}"
        return f"{len(RANDOM_WORDS)} random words in the same image"

    def presence(self, stream: str, query: Query, seen: Seen) -> Presence:
        """Whether a query is in an image at all, in an image stream.

        Raises:
            LocalizeError: There is no such latent.
        """
        absent = absence(self.model, stream, query, seen.features, self._config.mode)
        try:
            objective = self.objective(stream, query, seen)
        except NothingInCommonError:
            return Presence(None, None, absent or "shares no latent")
        number = float(objective(seen.features[stream]))
        reference = self._numbers(stream, query, seen)
        share = None if reference is None else share_below(number, reference)
        return Presence(number, share, absent)

    def _numbers(self, stream: str, query: Query, seen: Seen) -> Tensor | None:
        """The numbers that a query's own is compared with."""
        if self._reference is not None:
            if stream not in self._reference.features:
                return None
            key = (stream, query.text if isinstance(query, TextFeature) else query)
            if key not in self._reference_numbers:
                self._reference_numbers[key] = self._numbers_in(
                    stream, query, self._reference.features
                )
            return self._reference_numbers[key]
        if not isinstance(query, TextFeature):
            return None
        if self._random_words is None or self._random_words.stream != query.stream:
            texts = [f"a {word}" for word in RANDOM_WORDS]
            features = self._texts[query.stream].encode(texts).features
            self._random_words = TextFeature("", query.stream, features.clone())
        many = {name: value.expand(len(RANDOM_WORDS), -1) for name, value in seen.features.items()}
        return self._numbers_in(stream, self._random_words, many)

    def _numbers_in(self, stream: str, query: Query, images: Mapping[str, Tensor]) -> Tensor:
        if not isinstance(query, TextFeature):
            return latent_numbers(self.model, stream, query, images[stream])
        return text_numbers(
            self.model, stream, query, images, target=self._config.target, mode=self._config.mode
        )

    def read(self, text: str) -> TextFeature:
        """A text, as a query.

        Raises:
            LocalizeError: The model has no text stream.
        """
        if self.text_stream is None:
            raise LocalizeError(
                "the model has no text stream, so it cannot look for a text: give a --latent"
            )
        feature = self._texts[self.text_stream].encode([text]).features
        return TextFeature(text, self.text_stream, feature.clone())

    def see(self, image: Image.Image) -> Seen:
        """Show an RGB image to every image stream."""
        pixels, features = {}, {}
        for name, encoder in self._images.items():
            try:
                prepared = encoder.prepare(image)
            except ValueError as error:  # PIL's, where a side would become less than a pixel
                width, height = image.size
                raise LocalizeError(
                    f"stream {name} cannot prepare an image of {width} x {height} pixels: {error}"
                ) from error
            pixels[name] = prepared[None].to(self._device)
            features[name] = encoder.encode(pixels[name]).clone()
        return Seen(image.size, pixels, features)

    def objective(self, stream: str, query: Query, seen: Seen) -> Objective:
        """What is explained of a query in a stream, image or text.

        Raises:
            LocalizeError: A text activates nothing, or there is no such latent.
        """
        if isinstance(query, TextFeature):
            return text_objective(
                self.model,
                stream,
                query,
                seen.features,
                target=self._config.target,
                mode=self._config.mode,
            )
        latents = self.model.config.latents
        if not 0 <= query < latents:
            raise LocalizeError(f"there is no latent {query}: the model has 0 to {latents - 1}")
        index = torch.tensor([query], device=self._device)
        return latents_objective(self.model, stream, index, torch.ones(1, device=self._device))

    def raw_objective(self, stream: str, text: TextFeature) -> Objective | None:
        """The similarity of the encoders' own features, where both towers are of one model."""
        ours = getattr(self._images[stream], "model", None)
        theirs = getattr(self._texts[text.stream], "model", None)
        if ours is None or ours is not theirs:
            return None
        return raw_objective(text.feature[0])

    def maps(
        self, stream: str, seen: Seen, objectives: Sequence[Objective]
    ) -> npt.NDArray[np.float32]:
        """Maps over the grid of an image stream's encoder: (objectives, rows, columns).

        Raises:
            LocalizeError: The encoder does not allow the method.
        """
        pixels, tower = seen.pixels[stream], self.towers[stream]
        try:
            found = localize(
                tower,
                pixels,
                objectives,
                method=self.method(stream, pixels),
                layers=self._config.layers,
            )
        except LocalizeError as error:
            raise LocalizeError(f"stream {stream}: {error}") from error
        return found.cpu().numpy()

    def method(self, stream: str, pixels: Tensor) -> MethodName:
        """The method that is used in a stream."""
        if self._config.method != "auto":
            return self._config.method
        if stream not in self._methods:
            self._methods[stream] = choose(self.towers[stream], pixels)
        return self._methods[stream]

    def placement(self, stream: str, size: tuple[int, int]) -> Placement:
        """How a stream's encoder sees images of some width and height."""
        key = (stream, size)
        if key not in self._placements:
            if len(self._placements) >= _PLACEMENTS:
                self._placements.clear()
            self._placements[key] = placement.measure(self._images[stream].prepare, size)
        return self._placements[key]

    def words(self, caption: str, query: Query, seen: Seen) -> list[WordWeight]:
        """The weights of a caption's words; none without a text stream or anything to weigh."""
        if self.text_stream is None:
            return []
        try:
            objective = self.objective(self.text_stream, query, seen)
        except NothingInCommonError:
            return []
        return word_weights(self._texts[self.text_stream], caption, objective)


def open_tower(encoder: ImageEncoder) -> Tower:
    """An image encoder, taken apart where it pools.

    Raises:
        LocalizeError: It gives no features of places.
    """
    # timm and open_clip take seconds to import, and a stream needs one of them.
    library = encoder.origin.spec.partition(":")[0]
    if library == "timm":
        from sparc.extract.encoders.timm.models import TimmImageEncoder
        from sparc.extract.encoders.timm.tower import TimmTower

        assert isinstance(encoder, TimmImageEncoder)
        tower: Tower = TimmTower(encoder.model, pool=encoder.pool, block=encoder.spec.block)
    else:
        from sparc.extract.encoders.open_clip.tower import open_clip_tower

        tower = open_clip_tower(cast(Any, encoder).model)
    size = encoder.origin.input_size
    count = 3 * size[0] * size[1]
    shades = torch.linspace(-1, 1, count, device=cast(Any, encoder).device)
    pixels = shades.reshape(1, 3, *size)
    with torch.no_grad():
        places = tower.places(pixels)
        height, width = places.patches.shape[1:3]
        if height * width < 2:
            raise LocalizeError(
                f"{shorten(encoder.origin.spec, 80)} has a single place for the whole image"
            )
        # What is explained must be the feature that the dictionary reads, not another; on a GPU
        # the encoder itself computes in bfloat16.
        likeness = F.cosine_similarity(tower.pool(places).float(), encoder.encode(pixels))
        if float(likeness) < _SAME_FEATURE:
            raise LocalizeError(
                f"{shorten(encoder.origin.spec, 80)} pools its places in a way that is not known"
            )
    return tower
