"""A folder that timm saved, or somebody downloaded from a hub: `config.json` beside the weights.

timm hands what the file says on to the model's constructor and to its own loader, which may fetch
and read other files. Here only what is known to be harmless passes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sparc.common.text import shorten
from sparc.extract.encoders.folders import weights_in, without_config
from sparc.extract.encoders.foreign import (
    MOST_LAYERS,
    ModelRefusedError,
    check_folder,
    read_document,
)

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")

_PREPARATION = (
    *("num_classes", "input_size", "test_input_size", "min_input_size", "fixed_input_size"),
    *("interpolation", "crop_pct", "test_crop_pct", "crop_mode", "mean", "std"),
    *("pool_size", "classifier", "first_conv"),
)
"""What is taken from `pretrained_cfg`: how images are prepared and where the classifier is."""

_LARGEST = 100_000
"""No size or count of a model's settings is larger."""


class Known(NamedTuple):
    """What is known of a model before it is built.

    Attributes:
        weights: Where its weights are and which input they expect.
        architecture: The name of its architecture, without a tag.
        arguments: What a folder or the repository of a hub changes in it.
    """

    weights: dict[str, Any]
    architecture: str
    arguments: dict[str, Any]


def known_of_folder(folder: Path) -> Known:
    """What the `config.json` of a folder says.

    Raises:
        ModelRefusedError: There is no such folder or file, it is of another library, or it sets
            what is not known to be harmless.
    """
    if not folder.is_dir():
        raise ModelRefusedError(f"there is no folder {shorten(str(folder), 300)}")
    check_folder(folder)
    if not (folder / "config.json").is_file():
        raise without_config(folder, "config.json", "image")
    config = read_document(folder / "config.json")
    architecture = config.get("architecture")
    if not isinstance(architecture, str):
        raise without_config(folder, "config.json of timm", "image")
    settings = config.get("pretrained_cfg", config)
    if not isinstance(settings, Mapping):
        raise ModelRefusedError("its config.json: pretrained_cfg is not an object")
    arguments = config.get("model_args") or {}
    if not isinstance(arguments, Mapping):
        raise ModelRefusedError("its config.json: model_args is not an object")
    _check_arguments(arguments)
    weights = {name: settings[name] for name in _PREPARATION if settings.get(name) is not None}
    if isinstance(config.get("num_classes"), int):
        weights["num_classes"] = config["num_classes"]
    _fit_input(weights, arguments)
    return Known(
        {"file": str(weights_in(folder, _WEIGHTS)), **weights},
        architecture.partition(".")[0],
        dict(arguments),
    )


def _fit_input(weights: dict[str, Any], arguments: Mapping[str, Any]) -> None:
    """Correct the input size that is recorded by that of the model's arguments, as timm does."""
    if arguments.get("dynamic_img_size") or arguments.get("strict_img_size") is False:
        weights["fixed_input_size"] = False
    size = arguments.get("img_size")
    if size is not None and weights.get("fixed_input_size"):
        weights["input_size"] = (3, *((size, size) if isinstance(size, int) else size))


def _check_arguments(value: Any, name: str = "model_args") -> None:
    """Refuse arguments that name files, or ask for a model of any size."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_arguments(inner, str(key))
    elif isinstance(value, list):
        for inner in value:
            _check_arguments(inner, name)
    elif isinstance(value, str):
        if {"/", "\\", ":"} & {*value}:
            raise ModelRefusedError(
                f"its config.json sets {shorten(name, 40)} to {shorten(value, 80)}, which may be "
                "the name of a file"
            )
    elif isinstance(value, int | float):
        most = MOST_LAYERS if "depth" in name or "layers" in name else _LARGEST
        if value > most:
            raise ModelRefusedError(f"its config.json asks for {shorten(name, 40)} {value:,}")
