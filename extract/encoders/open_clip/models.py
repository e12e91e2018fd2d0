"""Image and text encoders of open_clip. Only this module knows open_clip.

Both towers of a model are loaded once and shared by the streams that use them. Features are what
`encode_image` and `encode_text` give: projected into the common space, not normalized.
"""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
from PIL import Image
from torch import Tensor

from sparc.common.errors import EncoderError
from sparc.common.progress import say
from sparc.common.streams.origin import StreamOrigin
from sparc.common.streams.places import LOCAL_FOLDER, WEIGHTS_SUFFIXES
from sparc.common.text import printable
from sparc.extract.encoders.definition import tokenizer_digest
from sparc.extract.encoders.encoder import EncodedTexts
from sparc.extract.encoders.hub import in_use, loading
from sparc.extract.encoders.layout import placed
from sparc.extract.encoders.open_clip.config import (
    image_definition,
    largest,
    needs_hub,
    read_config,
    text_definition,
    tokenizer_is_on_hub,
)
from sparc.extract.encoders.open_clip.spec import HUB, OpenClipSpec
from sparc.extract.encoders.open_clip.tower import open_clip_tower
from sparc.extract.encoders.precision import autocast
from sparc.extract.encoders.sizes import require_no_larger
from sparc.extract.encoders.tower import Tower
from sparc.extract.encoders.weights import tensor_shapes, weights_digest

_TAG_SETTINGS = {
    "mean": "image_mean",
    "std": "image_std",
    "interpolation": "image_interpolation",
    "resize_mode": "image_resize_mode",
    "quick_gelu": "force_quick_gelu",
}
"""What open_clip's tags say about the use of their weights, and the option that sets it."""


class OpenClipModel(NamedTuple):
    """Both towers of an open_clip model.

    Attributes:
        model: Frozen, on the CPU.
        transform: open_clip's evaluation transform, from a PIL image to normalized pixels.
        digest: SHA-256 of the weights of both towers.
        config: Its architecture, as open_clip configures it.
    """

    model: Any
    transform: Any
    digest: str
    config: Mapping[str, Any]


class OpenClipImageEncoder:
    """The image tower of an open_clip model as an `ImageEncoder`.

    Args:
        spec: What to build.
        loaded: The model, from `load_open_clip`.
        device: Where it runs.

    Attributes:
        dim: Width of a feature.
        origin: What the stream's attributes record.
        model: The open_clip model, both towers, frozen, on the device.
        transform: Its evaluation transform.
        device: Where the model runs.
    """

    def __init__(self, spec: OpenClipSpec, loaded: OpenClipModel, device: torch.device) -> None:
        self.model = placed(loaded.model, device)
        self.transform = loaded.transform
        self.device = device
        config = open_clip.get_model_preprocess_cfg(self.model)
        size = _pair(config["size"])
        with loading(spec, from_hub=False):
            self.dim = int(self.encode(torch.zeros(1, 3, *size)).shape[1])
        self.origin = StreamOrigin(
            spec=str(spec),
            pooling="encode_image: the tower's own pooling and projection, not normalized",
            input_size=size,
            weights_sha256=loaded.digest,
            definition_sha256=image_definition(loaded.config, config),
            preprocessing=_preprocessing_in_words(config),
        )

    def prepare(self, image: Image.Image) -> Tensor:
        """Resize, crop and normalize an RGB image: (3, height, width) float32."""
        pixels: Tensor = self.transform(image)
        return pixels

    def encode(self, pixels: Tensor) -> Tensor:
        """Features of prepared images: (images, dim) float32, on the device."""
        with torch.inference_mode(), autocast(self.device):
            features: Tensor = self.model.encode_image(pixels.to(self.device, non_blocking=True))
        return features.float()

    def tower(self) -> Tower:
        """See `TowerEncoder.tower`."""
        return open_clip_tower(self.model)


class OpenClipTextEncoder:
    """The text tower of an open_clip model as a `TextEncoder`.

    Args:
        spec: What to build.
        loaded: The model, from `load_open_clip`.
        device: Where it runs.

    Attributes:
        dim: Width of a feature.
        origin: What the stream's attributes record.
        model: The open_clip model, both towers, frozen, on the device.
        tokenizer: Its tokenizer, from captions to (captions, context length) token ids.
        device: Where the model runs.

    Raises:
        EncoderError: The tokenizer cannot be loaded.
    """

    def __init__(self, spec: OpenClipSpec, loaded: OpenClipModel, device: torch.device) -> None:
        self.model = loaded.model.to(device)
        self.device = device
        self._spec = spec
        with loading(spec, from_hub=False):
            from_hub = tokenizer_is_on_hub(spec.model)
        with loading(spec, from_hub=from_hub):
            self.tokenizer = _tokenizer(spec.model)
            self._context = int(self.model.context_length)
            self._empty = self.tokenizer([""], context_length=self._context)[0]
            self.dim = int(self.encode([""]).features.shape[1])
        self.origin = StreamOrigin(
            spec=str(spec),
            pooling="encode_text: the tower's own pooling and projection, not normalized",
            input_size=(self._context,),
            weights_sha256=loaded.digest,
            definition_sha256=text_definition(
                loaded.config,
                tokenizer_digest(
                    _vocabulary(self.tokenizer), lambda captions: self._tokens(captions).tolist()
                ),
                self.model,
            ),
            preprocessing=f"{type(self.tokenizer).__name__} of open_clip",
        )

    def encode(self, captions: Sequence[str]) -> EncodedTexts:
        """Features of captions, cut to the tower's context."""
        with in_use(self._spec), torch.inference_mode(), autocast(self.device):
            tokens = self._tokens(captions)
            features: Tensor = self.model.encode_text(tokens.to(self.device))
            return EncodedTexts(features.float(), self._count_cut(captions, tokens))

    def count_cut(self, captions: Sequence[str]) -> int:
        """How many of the captions are longer than the context, without encoding them."""
        with in_use(self._spec):
            return self._count_cut(captions, self._tokens(captions))

    def _tokens(self, captions: Sequence[str]) -> Tensor:
        tokens: Tensor = self.tokenizer(list(captions), context_length=self._context)
        return tokens

    def _count_cut(self, captions: Sequence[str], tokens: Tensor) -> int:
        # open_clip's tokenizers do not say, so this relies on what they have in common: a full row
        # does not end like the row of the empty caption. (Two tokens are compared: some tokenizers
        # pad with the end token, others end every row with a class token.)
        full = (tokens[:, -2:] != self._empty[-2:]).any(dim=1)
        suspects = [caption for caption, is_full in zip(captions, full, strict=True) if is_full]
        if not suspects:
            return 0
        # A row that was cut has its end token where a longer context has a word.
        longer = self.tokenizer(suspects, context_length=self._context + 1)
        class_token = getattr(self.tokenizer, "tokenizer_mode", "") == "clips"
        width = self._context - 1 if class_token else self._context
        return int((longer[:, :width] != tokens[full, :width]).any(dim=1).sum())


def load_open_clip(spec: OpenClipSpec) -> OpenClipModel:
    """Build both towers of a spec's model with their weights.

    Args:
        spec: The stream's spec; its `tower` does not matter here.

    Raises:
        EncoderError: There is no such model, or its weights cannot be loaded or do not fit it.
    """
    tagged = _is_tag(spec)
    file = None if tagged or spec.weights is None else Path(spec.weights)
    if file is not None:
        tensor_shapes(file)
    options = {} if file is None else _options_of_tags(spec)
    if tagged:
        options["force_quick_gelu"] = _was_quick_gelu(spec)
    in_folder = spec.model.startswith(LOCAL_FOLDER)
    with loading(spec, from_hub=False):
        from_hub = needs_hub(spec.model) or (file is None and not in_folder)
    of_file = dataclasses.replace(spec, model=_model_of_file(spec)) if tagged else spec
    with loading(spec, from_hub=from_hub, advice=of_file.offline_advice):
        config = read_config(spec.model)
        config["quick_gelu"] = bool(config.get("quick_gelu") or options.get("force_quick_gelu"))
        if ":" in spec.model:
            options |= {tower: config[tower] for tower in ("text_cfg", "vision_cfg")}
        if (limit := largest(spec.model)) is not None:
            require_no_larger(
                lambda: open_clip.create_model(
                    spec.model, load_weights=False, device="meta", **options
                ),
                limit,
            )
        try:
            model, transform = open_clip.create_model_from_pretrained(
                spec.model, spec.weights, weights_only=True, **options
            )
        except (RuntimeError, KeyError, AttributeError, AssertionError, ValueError) as error:
            if file is None:
                raise
            detail = " ".join(str(error).split())[:120]
            raise EncoderError(
                f"{file} does not hold the weights of open_clip's {spec.model}: name the "
                f"architecture that the file was saved from ({detail}…)"
            ) from error
    model = model.eval().requires_grad_(False)
    return OpenClipModel(model, transform, weights_digest(model), config)


def _tokenizer(model: str) -> Any:
    """A model's tokenizer; `read_config` refuses settings that are not known."""
    text = read_config(model)["text_cfg"]
    # These override the model's own settings.
    ours = {"trust_remote_code": False} if text.get("hf_tokenizer_name") else {}
    return open_clip.get_tokenizer(model, **ours)


def _vocabulary(tokenizer: Any) -> Mapping[str, int]:
    """The id of every token, for any of open_clip's tokenizers."""
    inner = getattr(tokenizer, "tokenizer", None)
    vocabulary: Mapping[str, int] = tokenizer.encoder if inner is None else inner.get_vocab()
    return vocabulary


def _is_tag(spec: OpenClipSpec) -> bool:
    """Whether the weights are a tag that open_clip knows, after checking that the model exists."""
    if ":" in spec.model:
        return False
    models = open_clip.list_models()
    if spec.model not in models:
        near = difflib.get_close_matches(spec.model, models, n=1)
        advice = f"; did you mean {near[0]}?" if near else ""
        if Path(spec.model).is_dir():
            folder = spec.model if spec.weights is None else f"{spec.model}/{spec.weights}"
            advice = f"; a folder is named open_clip:{LOCAL_FOLDER}{folder}#{spec.tower}"
        elif not advice and spec.weights is not None:
            advice = (
                f"; a model of the hub is open_clip:{HUB}{spec.model}/{spec.weights}#{spec.tower}"
            )
        raise EncoderError(f"open_clip has no architecture {spec.model!r}{advice}")
    assert spec.weights is not None
    if open_clip.is_pretrained_cfg(spec.model, spec.weights):
        return True
    if Path(spec.weights).suffix in WEIGHTS_SUFFIXES or Path(spec.weights).exists():
        return False
    tags = ", ".join(open_clip.list_pretrained_tags_by_model(spec.model)) or "none"
    raise EncoderError(
        f"{spec.weights!r} is neither a weights file nor a tag of {spec.model}; its tags: {tags}"
    )


def _was_quick_gelu(spec: OpenClipSpec) -> bool:
    """Whether the tag's weights were trained with QuickGELU, as OpenAI's were."""
    config = open_clip.get_pretrained_cfg(spec.model, spec.weights)
    return bool(config.get("quick_gelu", False))


def _options_of_tags(spec: OpenClipSpec) -> dict[str, Any]:
    """How weights from a file are used: like all pretrained weights of their architecture.

    A file says neither how images are to be prepared nor whether its weights were trained with
    QuickGELU. Where the architecture's tags disagree, open_clip's defaults remain.
    """
    tags = open_clip.list_pretrained_tags_by_model(spec.model)
    configs = [open_clip.get_pretrained_cfg(spec.model, tag) for tag in tags]
    options, disputed = {}, []
    for key, option in _TAG_SETTINGS.items():
        values = [config.get(key) or None for config in configs]
        if any(value != values[0] for value in values):
            disputed.append(key)
        elif values and values[0] is not None:
            options[option] = values[0]
    if disputed:
        say(
            f"{printable(str(spec))}: the pretrained weights of {spec.model} differ in "
            f"{', '.join(disputed)}; open_clip's defaults are used for this file"
        )
    return options


def _model_of_file(spec: OpenClipSpec) -> str:
    """The architecture to name with a file of the tag's weights."""
    quick = f"{spec.model}-quickgelu"
    return quick if _was_quick_gelu(spec) and quick in open_clip.list_models() else spec.model


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _preprocessing_in_words(config: dict[str, Any]) -> str:
    def values(name: str) -> str:
        return ", ".join(f"{value:g}" for value in config[name])

    return (
        f"open_clip evaluation transform: resize {config['resize_mode']}, "
        f"{config['interpolation']}, mean ({values('mean')}), std ({values('std')})"
    )
