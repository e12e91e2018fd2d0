"""Image encoders of timm. Only this module knows timm.

A timm model is built with timm's own code, weights and preprocessing; see `TimmImageEncoder` for
what `size`, `pool` and `block` of a spec mean.
"""

import difflib
import math
from pathlib import Path
from typing import Any, Literal, NamedTuple

import timm
import timm.data
import torch
from PIL import Image
from torch import Tensor, nn

from sparc.common.errors import EncoderError
from sparc.common.streams.origin import StreamOrigin
from sparc.common.streams.places import LOCAL_FOLDER
from sparc.common.text import printable
from sparc.extract.encoders.definition import definition_digest
from sparc.extract.encoders.folders import in_snapshot
from sparc.extract.encoders.foreign import ModelRefusedError
from sparc.extract.encoders.hub import loading
from sparc.extract.encoders.layout import placed
from sparc.extract.encoders.precision import autocast
from sparc.extract.encoders.sizes import require_no_larger, weights_limit
from sparc.extract.encoders.timm.folder import Known, known_of_folder
from sparc.extract.encoders.timm.spec import TimmSpec
from sparc.extract.encoders.timm.tower import TimmTower, gives_prefix_tokens
from sparc.extract.encoders.weights import tensor_shapes, weights_digest

_POSITIONS = ("pos_embed", "relative_position", "rel_pos")
_HEADS = ("head", "fc", "classifier", "head.fc")


class TimmModel(NamedTuple):
    """A loaded timm model, which several streams may share.

    Attributes:
        model: Frozen, without its classifier, on the CPU.
        digest: SHA-256 of its weights. Position embeddings are left out: timm resamples them to
            the input size, and the last bits of that differ between machines.
        definition: Digest of its architecture.
    """

    model: Any
    digest: str
    definition: str


class TimmImageEncoder:
    """A timm model as an `ImageEncoder`.

    What becomes the feature of an image:

    - `pool=default`: what the model itself gives to its classifier
      (`forward_head(…, pre_logits=True)`).
    - `pool=cls`: the class token after the final norm, as with timm's `global_pool="token"`.
    - `pool=mean`: the mean of the patch tokens, without class and register tokens, after the
      final norm, as with `global_pool="avg"`; in a convolutional network, the mean of the
      last feature map. Refused where timm does not say which tokens are those of patches.
    - `block=i`: tokens after block i, counted from 0, as `forward_intermediates` gives them:
      before the final norm. `pool=default` then takes the class token where the model itself
      pools by it, else the mean. Networks that timm counts in stages count stages.

    Args:
        spec: What to build.
        loaded: The model, from `load_timm`.
        device: Where it runs.

    Attributes:
        dim: Width of a feature.
        origin: What the stream's attributes record.
        spec: What it was built from.
        pool: `default`, `cls` or `mean`: what `pool` of the spec comes to in this model.
        model: The timm model, frozen, on the device.
        transform: timm's evaluation transform, from a PIL image to normalized pixels.
        device: Where the model runs.

    Raises:
        EncoderError: The model has no class token or no such block, timm does not say which tokens
            are its patches, or it cannot take that size.
    """

    def __init__(self, spec: TimmSpec, loaded: TimmModel, device: torch.device) -> None:
        self.model = placed(loaded.model, device)
        self.device = device
        self.spec = spec
        self.pool: Literal["default", "cls", "mean"] = self._resolve_pool()
        _check_size(spec, self.model)
        config = _data_config(self.model, spec.size)
        self.transform = timm.data.create_transform(**config, is_training=False)
        with loading(spec, from_hub=False):
            self.dim = int(self.encode(torch.zeros(1, *config["input_size"])).shape[1])
        self.origin = StreamOrigin(
            spec=str(spec),
            pooling=self._pooling_in_words(),
            input_size=tuple(config["input_size"][1:]),
            weights_sha256=loaded.digest,
            definition_sha256=loaded.definition,
            preprocessing=_preprocessing_in_words(config),
        )

    def prepare(self, image: Image.Image) -> Tensor:
        """Resize, crop and normalize an RGB image: (3, height, width) float32."""
        pixels: Tensor = self.transform(image)
        return pixels

    def encode(self, pixels: Tensor) -> Tensor:
        """Features of prepared images: (images, dim) float32, on the device."""
        with torch.inference_mode(), autocast(self.device):
            features = self._features(pixels.to(self.device, non_blocking=True))
        if features.ndim != 2:
            raise EncoderError(
                f"{self.spec}: the model does not pool its features: add pool=mean or pool=cls"
            )
        return features.float()

    def tower(self) -> TimmTower:
        """See `TowerEncoder.tower`."""
        return TimmTower(self.model, pool=self.pool, block=self.spec.block)

    def _features(self, pixels: Tensor) -> Tensor:
        if self.spec.block is not None:
            return self._block_features(pixels, self.spec.block)
        features: Tensor = self.model.forward_features(pixels)
        if self.pool == "default":
            pooled: Tensor = self.model.forward_head(features, pre_logits=True)
            return pooled
        if not isinstance(features, Tensor):
            raise EncoderError(
                f"{self.spec}: {self.spec.model} gives several tensors of tokens: use pool=default"
            )
        if features.ndim == 4:
            channels_last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
            return features.mean((1, 2) if channels_last else (2, 3))
        if self.pool == "cls":
            token = features[:, 0]
        else:
            token = self._patch_tokens(features, pixels).mean(1)
        # In models that normalize after pooling, this is the final norm.
        normed: Tensor = getattr(self.model, "fc_norm", nn.Identity())(token)
        return normed

    def _patch_tokens(self, tokens: Tensor, pixels: Tensor) -> Tensor:
        """The tokens of patches; not for every model timm knows which those are."""
        patches = tokens[:, getattr(self.model, "num_prefix_tokens", 0) :]
        if patches.shape[1] != _grid_size(self.model, pixels):
            has_class_token = getattr(self.model, "cls_token", None) is not None
            raise EncoderError(
                f"{self.spec}: which tokens of {self.spec.model} are its patches is not known: use "
                + ("pool=cls or pool=default" if has_class_token else "pool=default")
            )
        return patches

    def _block_features(self, pixels: Tensor, block: int) -> Tensor:
        has_prefix = gives_prefix_tokens(self.model)
        options = {"return_prefix_tokens": True} if has_prefix else {}
        (output,) = self.model.forward_intermediates(
            pixels, indices=[block], stop_early=True, intermediates_only=True, **options
        )
        # (rows, channels, height, width), and the class and register tokens, if there are any.
        patches, prefix = output if has_prefix else (output, output)
        features: Tensor = prefix[:, 0] if self.pool == "cls" else patches.mean((2, 3))
        return features

    def _resolve_pool(self) -> Literal["default", "cls", "mean"]:
        has_class_token = getattr(self.model, "cls_token", None) is not None
        if self.spec.pool == "cls" and not has_class_token:
            raise EncoderError(
                f"{self.spec}: {self.spec.model} has no class token: use pool=mean or pool=default"
            )
        if self.spec.block is None:
            return self.spec.pool
        if not hasattr(self.model, "forward_intermediates"):
            raise EncoderError(f"{self.spec}: timm gives no features inside this model")
        blocks = getattr(self.model, "blocks", None)
        if has_class_token and blocks is not None and self.spec.block >= len(blocks):
            raise EncoderError(f"{self.spec}: the model's blocks are 0 to {len(blocks) - 1}")
        reaches_class_token = has_class_token and gives_prefix_tokens(self.model)
        if self.spec.pool == "cls" and not reaches_class_token:
            raise EncoderError(
                f"{self.spec}: the model's blocks have no class token: use pool=mean"
            )
        if self.spec.pool == "default":
            own = getattr(self.model, "global_pool", "")
            return "cls" if reaches_class_token and own == "token" else "mean"
        return self.spec.pool

    def _pooling_in_words(self) -> str:
        words = {
            "default": "the model's own output before its classifier",
            "cls": "class token",
            "mean": "mean of the patch tokens or of the feature map",
        }[self.pool]
        if self.spec.block is not None:
            return f"{words}, after block {self.spec.block}, before the final norm"
        return words


def load_timm(spec: TimmSpec) -> TimmModel:
    """Build the model of a spec with its weights.

    Args:
        spec: The stream's spec; its `pool` and `block` do not matter here.

    Raises:
        EncoderError: There is no such model, or its weights cannot be loaded or do not fit it.
    """
    path = None if spec.weights is None else Path(spec.weights)
    shapes = None if path is None else tensor_shapes(path)
    in_folder = spec.model.startswith(LOCAL_FOLDER)
    from_hub = (path is None or spec.model.startswith("hf-hub:")) and not in_folder
    with loading(spec, from_hub=from_hub):
        known = _known_of(spec.model)
        config, architecture, arguments = known
        # A model of fixed input size is built at the size asked for, so that its position
        # embeddings are resampled once, as the weights are loaded.
        fixed = spec.size is not None and config.get("fixed_input_size", False)
        options = {"img_size": spec.size} if fixed else {}
        if in_folder:
            model = _create_from_folder(spec, known, options)
        elif shapes is None:
            if not any(config.get(key) for key in ("url", "hf_hub_id", "file")):
                raise EncoderError(
                    f"timm has no weights for {spec.model}: add @FILE with your own to the spec"
                )
            model = timm.create_model(spec.model, pretrained=True, num_classes=0, **options)
        else:
            model = _create_from_file(spec, path, spec.model, known, shapes, options)
    model = model.eval().requires_grad_(False)
    definition = definition_digest(
        library="timm",
        architecture=architecture,
        arguments=arguments,
        pool=str(getattr(model, "global_pool", "")),
    )
    return TimmModel(model, weights_digest(model, without=_is_position), definition)


def _create_from_folder(spec: TimmSpec, known: Known, options: dict[str, Any]) -> Any:
    """The model of a folder, if it is no larger than the weights beside it."""
    path = Path(known.weights["file"])
    own = {"pretrained_cfg": known.weights, **known.arguments, **options}
    own.pop("num_classes", None)  # those of the file
    require_no_larger(
        lambda: timm.create_model(known.architecture, pretrained=False, num_classes=0, **own),
        weights_limit(path.parent),
    )
    return _create_from_file(spec, path, known.architecture, known, tensor_shapes(path), own)


def _create_from_file(
    spec: TimmSpec,
    path: Path | None,
    model_name: str,
    known: Known,
    shapes: dict[str, tuple[int, ...]],
    options: dict[str, Any],
) -> Any:
    # With the file's own number of classes timm loads strictly: a missing tensor would otherwise
    # silently keep its random initial values.
    classes = _classes_in_file(known.weights, shapes)
    # The registry's file of some models is one of JAX: timm before 1.0.31 takes any file for one.
    source = {"file": str(path), "source": "", "custom_load": False}
    source |= {"num_classes": classes, "label_offset": 0}
    try:
        model = timm.create_model(
            model_name,
            pretrained=True,
            pretrained_cfg_overlay=source,
            num_classes=classes,
            **options,
        )
    except (RuntimeError, KeyError, AttributeError, AssertionError, ValueError) as error:
        at_size = "" if spec.size is None else f" at size={spec.size}, if it allows that size"
        raise EncoderError(
            f"{path} does not hold the weights of timm's {model_name}{at_size}: name the "
            f"model that the file was saved from ({_first_misfit(error)})"
        ) from error
    model.reset_classifier(0)
    return model


def _classes_in_file(config: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> int:
    own = config.get("classifier") or ()
    names = ((own,) if isinstance(own, str) else tuple(own)) + _HEADS
    clean = timm.models.clean_state_dict(shapes)  # without the prefixes of training programs
    return next((clean[f"{n}.weight"][0] for n in names if f"{n}.weight" in clean), 0)


def _known_of(model: str) -> Known:
    if model.startswith(LOCAL_FOLDER):
        known = known_of_folder(Path(in_snapshot(model.removeprefix(LOCAL_FOLDER))))
        if not timm.is_model(known.architecture):
            raise ModelRefusedError(
                f"its config.json names {printable(known.architecture)}, which timm "
                f"{timm.__version__} does not have"
            )
        return known
    source, _, identifier = model.rpartition(":")
    if source == "hf-hub":
        return Known(*timm.models.load_model_config_from_hf(identifier))
    if source:
        raise EncoderError(
            f"cannot read {model!r} as a timm model: use timm:MODEL, timm:MODEL@FILE, "
            "timm:local-dir:FOLDER or timm:hf-hub:ORGANIZATION/NAME"
        )
    if not timm.is_model(model):
        near = difflib.get_close_matches(model.partition(".")[0], timm.list_models(), n=1)
        advice = f"; did you mean {near[0]}?" if near else ""
        if "/" in model:
            is_folder = Path(model).is_dir()
            advice = (
                f"; a folder is named timm:{LOCAL_FOLDER}{model}"
                if is_folder
                else f"; a model of the hub is timm:hf-hub:{model}"
            )
        raise EncoderError(f"timm {timm.__version__} has no model {model!r}{advice}")
    registered = timm.models.get_pretrained_cfg(model).to_dict()
    return Known(registered, model.partition(".")[0], {})


def _data_config(model: Any, size: int | None) -> dict[str, Any]:
    """Preprocessing; at the model's own test size, with the crop that belongs to it."""
    own = model.pretrained_cfg.get("test_input_size")
    config: dict[str, Any] = timm.data.resolve_model_data_config(
        model,
        args={} if size is None else {"img_size": size},
        use_test_size=size is not None and own is not None and own[-1] == size,
    )
    return config


def _grid_size(model: Any, pixels: Tensor) -> int | None:
    """How many patches the model's last grid has over these pixels; None if timm does not say."""
    stages = getattr(model, "feature_info", None)
    if not stages:
        return None
    reduction: int = stages[-1]["reduction"]
    if not reduction:  # as convit's in timm before 1.0.31
        return None
    return math.prod(math.ceil(side / reduction) for side in pixels.shape[2:])


def _check_size(spec: TimmSpec, model: Any) -> None:
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if spec.size is None or patch is None:
        return
    side = patch if isinstance(patch, int) else max(patch)
    if spec.size % side:  # timm would leave out the rest of the image
        raise EncoderError(f"{spec}: size must be a multiple of {side}, the size of a patch")


def _preprocessing_in_words(config: dict[str, Any]) -> str:
    def values(name: str) -> str:
        return ", ".join(f"{value:g}" for value in config[name])

    return (
        f"timm evaluation transform: crop_pct {config['crop_pct']:g}, {config['crop_mode']} crop, "
        f"{config['interpolation']}, mean ({values('mean')}), std ({values('std')})"
    )


def _is_position(name: str) -> bool:
    return any(part in name for part in _POSITIONS)


def _first_misfit(error: Exception) -> str:
    """The first thing that PyTorch says about weights that do not fit."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    detail = lines[1] if len(lines) > 1 else (lines[0] if lines else type(error).__name__)
    return detail if len(detail) <= 120 else detail[:119] + "…"
