"""The `open_clip_config.json` of a folder or hub repository, checked before open_clip obeys it.

open_clip passes several of its settings on: `tokenizer_kwargs` to a tokenizer's constructor,
`hf_model_name`, `hf_tokenizer_name` and `timm_model_name` to libraries that read files and
repositories of that name. This module knows which of them are harmless; it builds nothing.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip
import timm

from sparc.common.streams.places import LOCAL_FOLDER, WEIGHTS_SUFFIXES
from sparc.common.text import shorten
from sparc.extract.encoders.definition import definition_digest, effective, without_defaults
from sparc.extract.encoders.folders import without_config
from sparc.extract.encoders.foreign import (
    MOST_LAYERS,
    ModelRefusedError,
    check_folder,
    check_transformers_config,
    read_document,
)
from sparc.extract.encoders.open_clip.spec import HUB
from sparc.extract.encoders.sizes import LARGEST_OF_HUB, weights_limit

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"

TOKENIZER_SETTINGS = ("clean", "strip_sep_token", "language")
"""What `tokenizer_kwargs` may hold: what open_clip's own architectures set, and the language."""


def read_config(model: str) -> dict[str, Any]:
    """The configuration of a model's architecture, checked to be harmless.

    Args:
        model: A name that open_clip knows, `local-dir:FOLDER`, or `hf-hub:ORGANIZATION/NAME`.

    Returns:
        open_clip's `model_cfg`; whatever it names is in the folder, in the repository, or one of
        open_clip's own.

    Raises:
        ModelRefusedError: The configuration of a folder or repository is unreadable, holds a
            setting of tokenizers that is not known, or names something elsewhere.
    """
    if model.startswith(LOCAL_FOLDER):
        folder = Path(model.removeprefix(LOCAL_FOLDER))
        if not folder.is_dir():
            raise ModelRefusedError(f"there is no folder {shorten(str(folder), 300)}")
        check_folder(folder)
        if not (folder / CONFIG_FILE).is_file():
            raise without_config(folder, CONFIG_FILE, "image")
        if not any(path.suffix in WEIGHTS_SUFFIXES for path in folder.iterdir()):
            raise ModelRefusedError(
                "the folder has no weights: put open_clip_model.safetensors there"
            )
        config = _checked(_model_config(folder / CONFIG_FILE), folder, own_name="")
        _check_size(config, weights_limit(folder))
        return config
    if model.startswith(HUB):
        name = model.removeprefix(HUB)
        path = Path(huggingface_hub.hf_hub_download(name, CONFIG_FILE))
        config = _checked(_model_config(path), None, own_name=name)
        _check_size(config, LARGEST_OF_HUB)
        return config
    return dict(open_clip.get_model_config(model) or {})


def largest(model: str) -> int | None:
    """Most values that a model of `local-dir:` or `hf-hub:` may have; None for open_clip's own."""
    if model.startswith(LOCAL_FOLDER):
        return weights_limit(Path(model.removeprefix(LOCAL_FOLDER)))
    return LARGEST_OF_HUB if model.startswith(HUB) else None


def needs_hub(model: str) -> bool:
    """Whether building the model asks the hub for something besides the weights of a tag.

    Raises:
        ModelRefusedError: As `read_config`.
    """
    if model.startswith(HUB):
        return True
    name = read_config(model)["text_cfg"].get("hf_model_name")
    return name is not None and not Path(name).is_dir()


def tokenizer_is_on_hub(model: str) -> bool:
    """Whether the tokenizer comes from the hub; a folder holds its own.

    Raises:
        ModelRefusedError: As `read_config`.
    """
    if model.startswith(LOCAL_FOLDER):
        return False
    return needs_hub(model) or "hf_tokenizer_name" in read_config(model)["text_cfg"]


def image_definition(config: Mapping[str, Any], preprocessing: Mapping[str, Any]) -> str:
    """Digest of what decides, besides its weights, what an image tower computes.

    Args:
        config: As `read_config` gives it, with the activation that is used.
        preprocessing: open_clip's settings of its transform; those that a stream's origin
            describes are left out.
    """
    vision = without_defaults(config["vision_cfg"], _defaults(open_clip.CLIPVisionCfg))
    for name in ("timm_model_pretrained", "timm_drop", "timm_drop_path", "patch_dropout"):
        vision.pop(name, None)
    return definition_digest(
        library="open_clip",
        tower="image",
        **_shared(config),
        vision=vision,
        fill_color=preprocessing.get("fill_color", 0),
    )


def text_definition(config: Mapping[str, Any], tokenizer: str, model: Any) -> str:
    """Digest of what decides, besides its weights, what a text tower computes.

    Args:
        config: As `read_config` gives it, with the activation that is used.
        tokenizer: Digest of the tokenizer.
        model: The open_clip model.
    """
    text = without_defaults(config["text_cfg"], _defaults(open_clip.CLIPTextCfg))
    # Names only say where something is; the thing itself is part of the digest.
    for name in ("hf_tokenizer_name", "hf_model_name", "hf_model_pretrained", "tokenizer_kwargs"):
        text.pop(name, None)
    inner = getattr(getattr(model, "text", None), "config", None)  # of transformers, or none
    return definition_digest(
        library="open_clip",
        tower="text",
        **_shared(config),
        text=text,
        tokenizer=tokenizer,
        text_model=None if inner is None else effective(inner.to_diff_dict()),
    )


def _shared(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "embed_dim": config.get("embed_dim"),
        "quick_gelu": bool(config.get("quick_gelu")),
        "multimodal": "multimodal_cfg" in config,
    }


def _defaults(settings: Any) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(settings)}


def _model_config(path: Path) -> dict[str, Any]:
    config = read_document(path).get("model_cfg")
    if not isinstance(config, dict):
        raise ModelRefusedError(f"{shorten(str(path), 300)} has no model_cfg")
    for tower in ("text_cfg", "vision_cfg"):
        if not isinstance(config.get(tower), dict):
            raise ModelRefusedError(f"{shorten(str(path), 300)}: model_cfg has no {tower}")
    return config


def _checked(config: dict[str, Any], folder: Path | None, *, own_name: str) -> dict[str, Any]:
    text, vision = dict(config["text_cfg"]), dict(config["vision_cfg"])
    _check_tokenizer_settings(text.get("tokenizer_kwargs") or {})
    # For a folder, open_clip takes the folder's own tokenizer, whatever this name is.
    if folder is None and text.get("hf_tokenizer_name"):
        _check_name("hf_tokenizer_name", text["hf_tokenizer_name"], own_name)
    if text.get("hf_model_name"):
        inside = _folder_inside(folder, text["hf_model_name"])
        if inside is not None:
            check_folder(inside)
            check_transformers_config(read_document(inside / "config.json"))
            text["hf_model_name"] = str(inside)
        else:
            _check_name("hf_model_name", text["hf_model_name"], own_name)
        text["hf_model_pretrained"] = False
    if vision.get("timm_model_name"):
        name = vision["timm_model_name"]
        if not isinstance(name, str) or {":", "/"} & {*name} or not timm.is_model(name):
            raise ModelRefusedError(
                f"its {CONFIG_FILE} names a model that timm does not have (timm_model_name: "
                f"{shorten(str(name), 80)})"
            )
        vision["timm_model_pretrained"] = False
    return {**config, "text_cfg": text, "vision_cfg": vision}


def _check_size(config: Mapping[str, Any], limit: int) -> None:
    """Refuse a tower that is larger than its weights, before open_clip fills the memory with it.

    Args:
        config: As `read_config` gives it.
        limit: Bytes of the weights: a parameter takes at least one.
    """
    for tower in ("vision_cfg", "text_cfg", "multimodal_cfg"):
        settings = config.get(tower)
        if isinstance(settings, Mapping) and _least_parameters(tower, settings) > limit:
            raise ModelRefusedError(
                f"its {CONFIG_FILE} describes a {tower.removesuffix('_cfg')} tower that is larger "
                "than its weights"
            )


def _least_parameters(tower: str, settings: Mapping[str, Any]) -> float:
    """A lower bound of a tower's parameters; 0 for a model that timm or transformers builds."""
    if settings.get("timm_model_name") or settings.get("hf_model_name"):
        return 0
    defaults = _defaults(
        open_clip.CLIPVisionCfg if tower == "vision_cfg" else open_clip.CLIPTextCfg
    )

    def value(name: str) -> float:
        setting = settings.get(name, defaults.get(name, 0))
        numbers = setting if isinstance(setting, list | tuple) else [setting]
        if not all(isinstance(number, int | float) for number in numbers):
            raise ModelRefusedError(f"its {CONFIG_FILE}: {name} of {tower} is not a number")
        return float(sum(numbers))

    width, layers = value("width"), value("layers")
    if layers > MOST_LAYERS:
        raise ModelRefusedError(f"its {CONFIG_FILE} asks for {layers:,.0f} layers ({tower})")
    total = layers * width * width * (4 + 2 * value("mlp_ratio"))
    if tower == "vision_cfg":
        return total + 3 * value("patch_size") ** 2 * width
    return total + (value("vocab_size") + value("context_length")) * width


def _check_tokenizer_settings(settings: Any) -> None:
    names = settings if isinstance(settings, Mapping) else ("tokenizer_kwargs",)
    for name in names:
        if name not in TOKENIZER_SETTINGS or not isinstance(settings[name], str | bool):
            raise ModelRefusedError(
                f"its {CONFIG_FILE} hands a setting to its tokenizer that is not known to be "
                f"harmless ({shorten(str(name), 80)}): remove it; known are "
                f"{', '.join(TOKENIZER_SETTINGS)}"
            )


def _folder_inside(folder: Path | None, name: Any) -> Path | None:
    """The folder of that name inside a model's folder, if there is one."""
    if folder is None or not isinstance(name, str):
        return None
    here = folder.resolve()
    inside = (here / name).resolve()
    return inside if inside.is_relative_to(here) and inside.is_dir() else None


def _check_name(key: str, name: Any, own_name: str) -> None:
    if name != own_name and name not in _names_of_open_clip(key):
        raise ModelRefusedError(
            f"its {CONFIG_FILE} refers to something elsewhere ({key}: {shorten(str(name), 120)}): "
            "put a copy into a folder with the model and name that, as in "
            "open_clip:local-dir:FOLDER"
        )


def _names_of_open_clip(key: str) -> set[str]:
    """The names that open_clip's own architectures have under a key of `text_cfg`."""
    configs = (open_clip.get_model_config(name) for name in open_clip.list_models())
    return {config["text_cfg"][key] for config in configs if config["text_cfg"].get(key)}
