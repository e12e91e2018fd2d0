"""A model and its encoders, ready to locate queries in images.

It joins what the other modules of this package do: towers, objectives, methods, and placement on
the original image.
"""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from sparc.analyze.codes.subject import Subject, choose_streams, open_subject
from sparc.analyze.localize.config import LocalizeConfig, MethodName
from sparc.analyze.localize.methods import choose, localize
from sparc.analyze.localize.placement import Placement, find_placement
from sparc.analyze.localize.presence import (
    Comparison,
    Presence,
    ReferenceImages,
    absence,
    read_reference,
)
from sparc.analyze.localize.rebuild import build, needed_specs
from sparc.analyze.localize.targets import (
    Objective,
    Query,
    TextFeature,
    latents_objective,
    raw_objective,
    text_objective,
)
from sparc.analyze.localize.towers import open_tower
from sparc.analyze.localize.words import WordWeight, word_weights
from sparc.common.cache.reader import ActivationCache
from sparc.common.devices import choose_device
from sparc.common.images.files import open_image_file
from sparc.common.progress import say
from sparc.common.text import printable
from sparc.extract.encoders.encoder import Encoders, ImageEncoder
from sparc.extract.encoders.tower import LocalizeError, NothingInCommonError, Tower
from sparc.train.model.network import Sparc

_PLACEMENTS = 256
"""Placements kept in memory."""


class EncodedImage(NamedTuple):
    """An image, prepared and encoded by every image stream.

    Attributes:
        size: Width and height of the original image.
        pixels: By image stream, (1, 3, height, width), on the device.
        features: By image stream, (1, dim).
    """

    size: tuple[int, int]
    pixels: Mapping[str, Tensor]
    features: Mapping[str, Tensor]


class Located(NamedTuple):
    """Where a query is in an image, in one stream.

    Attributes:
        map: (height, width) float32 over the upright image: larger where the query is, not
            comparable between streams. NaN where the encoder sees nothing; 0 everywhere without an
            objective.
        presence: Whether the query is in the image at all.
    """

    map: npt.NDArray[np.float32]
    presence: Presence

    def __repr__(self) -> str:
        height, width = self.map.shape
        return f"Located(map {width} x {height}, {self.presence})"


class Localizer:
    """Locates queries in images.

    `Localizer.open` makes one from a run; `text` and `latent` then locate queries in image files.

    Args:
        model: The dictionary.
        encoders: Of the streams that are shown, and of text streams.
        config: The settings.
        device: Where the model runs.
        reference: Images that a query is compared with; None compares a text with random words.

    Attributes:
        model: The dictionary, on the device.
        towers: By image stream, its encoder as a tower.
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
        wanted = config.source
        if wanted and wanted not in self._texts:
            known = ", ".join(self._texts) or "none"
            raise LocalizeError(f"there is no text stream {wanted!r}; text streams: {known}")
        self.text_stream = wanted or next(iter(self._texts), None)
        self._comparison = Comparison(self.model, self._features_of, config, reference)

    @classmethod
    def open(cls, run: str | os.PathLike[str], config: LocalizeConfig | None = None) -> "Localizer":
        """A localizer of a run, with the encoders that the run recorded.

        Args:
            run: A run, saved model or hub repository.
            config: The settings, as on the command line; queries are compared with the images of
                `cache` if it is given.

        Raises:
            SparcError: The run or the cache does not exist, an encoder cannot be built, or no
                stream can be shown.
        """
        return cls.from_subject(open_subject(os.fspath(run)), config or LocalizeConfig())

    @classmethod
    def from_subject(cls, subject: Subject, config: LocalizeConfig) -> "Localizer":
        """A localizer of an opened model; prints which streams cannot be shown.

        Raises:
            LocalizeError: An encoder cannot be built, or no stream can be shown.
            CacheError: The cache of the reference does not exist, or comes from other encoders.
        """
        specs = needed_specs(subject, config)
        device = choose_device(config.device)
        reference = None
        if config.cache:
            cache = ActivationCache(config.cache)
            images = [name for name, spec in specs.items() if spec.modality == "image"]
            shown = tuple(name for name in images if name in cache.stream_names) or tuple(images)
            choose_streams(subject, cache, shown)
            reference = read_reference(cache, shown, config.seed, device)
        encoders = build(subject, specs, config, device)
        localizer = cls(subject.model, encoders, config, device, reference)
        for stream, reason in localizer.left_out.items():
            say(f"stream {stream} is left out: {printable(reason)}")
        return localizer

    def text(self, image: str | os.PathLike[str], text: str) -> dict[str, Located]:
        """Where a text is in an image file, by image stream.

        Raises:
            ImageError: The image cannot be read.
            LocalizeError: The model has no text stream, or an encoder does not allow the method.
        """
        return self._locate(image, self.read(text))

    def latent(self, image: str | os.PathLike[str], latent: int) -> dict[str, Located]:
        """Where a latent is in an image file, by image stream.

        Raises:
            ImageError: The image cannot be read.
            LocalizeError: There is no such latent, or an encoder does not allow the method.
        """
        return self._locate(image, latent)

    def _locate(self, image: str | os.PathLike[str], query: Query) -> dict[str, Located]:
        encoded = self.encode(open_image_file(image))
        located = {}
        for stream in self.towers:
            presence = self.presence(stream, query, encoded)
            grid = self.grid(stream, query, encoded)
            placed = self.placement(stream, encoded.size).on_image(grid)
            located[stream] = Located(placed, presence)
        return located

    def grid(self, stream: str, query: Query, image: EncodedImage) -> npt.NDArray[np.float32]:
        """The map of a query over the grid of a stream's encoder.

        (rows, columns) float32; a single zero where a text has nothing to explain.

        Raises:
            LocalizeError: There is no such latent, or the encoder does not allow the method.
        """
        try:
            objective = self.objective(stream, query, image)
        except NothingInCommonError:
            return np.zeros((1, 1), np.float32)
        grid: npt.NDArray[np.float32] = self.maps(stream, image, [objective])[0]
        return grid

    @property
    def compared_with(self) -> str:
        """What `Presence.share` is a share of, in words."""
        return self._comparison.source

    def presence(self, stream: str, query: Query, image: EncodedImage) -> Presence:
        """Whether a query is in an image at all, in an image stream.

        Raises:
            LocalizeError: There is no such latent.
        """
        absent = absence(self.model, stream, query, image.features, self._config.mode)
        try:
            objective = self.objective(stream, query, image)
        except NothingInCommonError:
            return Presence(None, None, absent or "shares no latent")
        strength = float(objective(image.features[stream]))
        share = self._comparison.share_below(strength, stream, query, image.features)
        return Presence(strength, share, absent)

    def read(self, text: str) -> TextFeature:
        """A text, as a query.

        Raises:
            LocalizeError: The model has no text stream.
        """
        if self.text_stream is None:
            raise LocalizeError(
                "the model has no text stream, so it cannot locate a text: give a latent instead"
            )
        return TextFeature(text, self.text_stream, self._features_of(self.text_stream, [text]))

    def _features_of(self, stream: str, texts: Sequence[str]) -> Tensor:
        return self._texts[stream].encode(texts).features.clone()

    def encode(self, image: Image.Image) -> EncodedImage:
        """Prepare and encode an RGB image in every image stream.

        Raises:
            LocalizeError: An encoder cannot prepare an image of this size.
        """
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
        return EncodedImage(image.size, pixels, features)

    def objective(self, stream: str, query: Query, image: EncodedImage) -> Objective:
        """The objective that explains a query in a stream, image or text.

        Raises:
            NothingInCommonError: A text activates no latent, or none that the image shares.
            LocalizeError: There is no such latent.
        """
        if isinstance(query, TextFeature):
            return text_objective(
                self.model,
                stream,
                query,
                image.features,
                target=self._config.target,
                mode=self._config.mode,
            )
        latents = self.model.config.latents
        if not 0 <= query < latents:
            raise LocalizeError(f"there is no latent {query}: the model has 0 to {latents - 1}")
        index = torch.tensor([query], device=self._device)
        return latents_objective(self.model, stream, index, torch.ones(1, device=self._device))

    def raw_objective(self, stream: str, text: TextFeature) -> Objective | None:
        """The similarity of the encoders' own features, if both belong to one model."""
        ours = getattr(self._images[stream], "model", None)
        theirs = getattr(self._texts[text.stream], "model", None)
        if ours is None or ours is not theirs:
            return None
        return raw_objective(text.feature[0])

    def maps(
        self, stream: str, image: EncodedImage, objectives: Sequence[Objective]
    ) -> npt.NDArray[np.float32]:
        """Maps over the grid of an image stream's encoder: (objectives, rows, columns).

        Raises:
            LocalizeError: The encoder does not allow the method.
        """
        pixels, tower = image.pixels[stream], self.towers[stream]
        try:
            maps = localize(
                tower,
                pixels,
                objectives,
                method=self.method(stream, pixels),
                layers=self._config.layers,
            )
        except LocalizeError as error:
            raise LocalizeError(f"stream {stream}: {error}") from error
        return maps.cpu().numpy()

    def method(self, stream: str, pixels: Tensor) -> MethodName:
        """The method that is used in a stream."""
        if self._config.method != "auto":
            return self._config.method
        if stream not in self._methods:
            self._methods[stream] = choose(self.towers[stream], pixels)
        return self._methods[stream]

    def placement(self, stream: str, size: tuple[int, int]) -> Placement:
        """Where a stream's encoder sees images of some width and height."""
        key = (stream, size)
        if key not in self._placements:
            if len(self._placements) >= _PLACEMENTS:
                self._placements.clear()
            self._placements[key] = find_placement(self._images[stream].prepare, size)
        return self._placements[key]

    def words(self, caption: str, query: Query, image: EncodedImage) -> list[WordWeight]:
        """The weights of a caption's words; empty without a text stream or an objective."""
        if self.text_stream is None:
            return []
        try:
            objective = self.objective(self.text_stream, query, image)
        except NothingInCommonError:
            return []
        return word_weights(self._texts[self.text_stream], caption, objective)
