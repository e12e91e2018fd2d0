"""How images are prepared for a model of transformers: as its `preprocessor_config.json` says."""

from collections.abc import Mapping
from typing import Any

from PIL import Image
from torch import Tensor

from sparc.extract.encoders.foreign import ModelRefusedError
from sparc.extract.encoders.transformers.loading import read_model_json

_FILES = ("preprocessor_config.json", "processor_config.json")
"""Where the settings are; transformers 5 has those of all inputs in the second."""

_LARGEST_SIDE = 8192
"""Pixels; no vision model reads images of half that side."""

_SIZES = ("size", "crop_size", "pad_size")


class ImageProcessor:
    """A model's own image processor.

    Args:
        model: The model's folder or repository.

    Raises:
        ModelRefusedError: The model has none, or one that makes images huge.
    """

    def __init__(self, model: str) -> None:
        from transformers import AutoImageProcessor

        for settings in (read_model_json(model, name) for name in _FILES):
            if settings is not None:
                _check_sizes(settings)
                break
        else:
            raise ModelRefusedError(
                "it lacks preprocessor_config.json, which says how images are prepared: put that "
                "of the model (what processor.save_pretrained(FOLDER) writes) beside its "
                "config.json"
            )
        self._processor = AutoImageProcessor.from_pretrained(model, trust_remote_code=False)

    def __call__(self, image: Image.Image) -> Tensor:
        """An RGB image as the model's input, usually (3, height, width).

        Raises:
            ModelRefusedError: The model takes more than pixels.
        """
        prepared = self._processor(images=image, return_tensors="pt")
        if set(prepared) - {"pixel_values", "pixel_mask"}:
            others = ", ".join(sorted(set(prepared) - {"pixel_values"}))
            raise ModelRefusedError(
                f"its images are prepared with {others} beside their pixels, so that they have "
                "different sizes: use a model of one size"
            )
        pixels: Tensor = prepared["pixel_values"][0]
        return pixels

    def __str__(self) -> str:
        """The settings in words, which do not depend on the version of transformers."""
        settings = self._processor.to_dict()
        parts = []
        if settings.get("do_resize"):
            resample = Image.Resampling(int(settings.get("resample", 2))).name.lower()
            parts.append(f"resize {_in_words(settings.get('size'))}, {resample}")
        if settings.get("crop_pct") is not None:  # of ConvNeXt
            parts.append(f"crop_pct {settings['crop_pct']:g}")
        if settings.get("do_center_crop"):
            parts.append(f"center crop {_in_words(settings.get('crop_size'))}")
        if settings.get("do_rescale"):
            parts.append(f"rescale {settings.get('rescale_factor'):g}")
        if settings.get("do_normalize"):
            for short, name in (("mean", "image_mean"), ("std", "image_std")):
                parts.append(f"{short} ({_in_words(settings.get(name))})")
        return f"image processor of transformers: {', '.join(parts)}"


def _in_words(value: Any) -> str:
    """A size, or a number for every channel."""
    if isinstance(value, Mapping):
        known = {key: side for key, side in value.items() if side is not None}
        return " ".join(f"{key} {side:g}" for key, side in sorted(known.items()))
    if isinstance(value, list | tuple):
        return ", ".join(f"{number:g}" for number in value)
    return str(value)


def _check_sizes(settings: Any, *, inside: bool = False) -> None:
    """Refuse sizes that no model has, before an image is made that large."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            _check_sizes(value, inside=inside or key in _SIZES)
    elif isinstance(settings, list):
        for value in settings:
            _check_sizes(value, inside=inside)
    elif inside and isinstance(settings, int | float) and settings > _LARGEST_SIDE:
        raise ModelRefusedError(f"its images would be {settings:,.0f} pixels large")
