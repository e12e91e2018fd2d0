"""Loading a model of transformers: its weights, checked; what reads text or images comes later.

Needs the extra `transformers`. No code that comes with a model is ever run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sparc.common.errors import EncoderError
from sparc.extract.encoders.folders import without_config
from sparc.extract.encoders.foreign import (
    ModelRefusedError,
    check_folder,
    check_transformers_config,
    read_document,
    read_json,
)
from sparc.extract.encoders.hub import loading
from sparc.extract.encoders.sizes import LARGEST_OF_HUB, require_no_larger, weights_limit
from sparc.extract.encoders.transformers.spec import TransformersSpec
from sparc.extract.encoders.weights import weights_digest

_WITH_PROJECTION = ("CLIPTextModelWithProjection", "CLIPVisionModelWithProjection")
"""Architectures that `AutoModel` would build without the last layer that they were trained with."""


class TransformersModel(NamedTuple):
    """A loaded model.

    Attributes:
        model: Frozen, on the CPU; the encoder of an encoder-decoder.
        digest: SHA-256 of the model's weights, without those that are missing.
        config: Its `config.json`.
        missing: Tensors of the model that the weights lack, by name: they are random.
    """

    model: Any
    digest: str
    config: Mapping[str, Any]
    missing: tuple[str, ...]


def load_transformers(spec: TransformersSpec) -> TransformersModel:
    """Load the model of a spec.

    Args:
        spec: The stream's spec; its `pool` and `tower` do not matter here.

    Raises:
        EncoderError: transformers is not installed, or the model cannot be loaded.
    """
    try:
        from transformers import AutoConfig, PretrainedConfig
    except ImportError as error:
        raise EncoderError(f"{spec} needs transformers: pip install transformers") from error
    is_folder = Path(spec.model).is_dir()
    if not is_folder and spec.model.startswith(("/", ".", "~")):
        raise EncoderError(f"{spec}: there is no folder {spec.model}")
    with loading(spec, from_hub=not is_folder):
        if is_folder:
            check_folder(Path(spec.model))
            if not (Path(spec.model) / "config.json").is_file():
                raise without_config(Path(spec.model), "config.json", spec.tower)
            if "model_type" not in read_document(Path(spec.model) / "config.json"):
                raise without_config(Path(spec.model), "config.json of transformers", spec.tower)
            if (Path(spec.model) / "adapter_config.json").exists():
                raise ModelRefusedError("the folder holds an adapter: merge it into its model")
        config = PretrainedConfig.get_config_dict(spec.model)[0]
        check_transformers_config(config)
        architecture = _architecture(config)
        require_no_larger(
            lambda: architecture.from_config(
                AutoConfig.from_pretrained(spec.model, trust_remote_code=False)
            ),
            weights_limit(Path(spec.model)) if is_folder else LARGEST_OF_HUB,
        )
        model, report = architecture.from_pretrained(spec.model)
        for name, in_file, in_model in sorted(report["mismatched_keys"]):
            raise ModelRefusedError(
                f"its weights do not fit its config.json: {name} is {tuple(in_file)} in the file, "
                f"{tuple(in_model)} by config.json"
            )
        missing = sorted(report["missing_keys"])
        # A T5 saved without its decoder says that it is no encoder-decoder, and is built as one.
        if hasattr(model, "encoder") and hasattr(model, "decoder"):
            model = model.get_encoder()
            missing = [name for name in missing if not name.startswith("decoder.")]
    model = model.float().eval().requires_grad_(False)
    digest = weights_digest(model, without=set(missing).__contains__)
    return TransformersModel(model, digest, config, tuple(missing))


def read_model_json(model: str, name: str) -> Any:
    """A JSON file of a model's folder or repository; None if there is none."""
    from transformers.utils.hub import cached_file

    path = cached_file(model, name, _raise_exceptions_for_missing_entries=False)
    return None if path is None else read_json(Path(path))


class _Architecture(NamedTuple):
    """What builds the model of a `config.json`: `AutoModel`, or a class of transformers.

    Attributes:
        own: The class; None: `AutoModel` chooses.
    """

    own: Any

    def from_config(self, config: Any) -> Any:
        """The model with random weights."""
        from transformers import AutoModel

        if self.own is not None:
            return self.own(config)
        return AutoModel.from_config(config, trust_remote_code=False)

    def from_pretrained(self, model: str) -> Any:
        """The model with its weights, and what transformers says of them."""
        from transformers import AutoModel

        # A class of transformers itself has no code that comes with a model.
        trust = {} if self.own is not None else {"trust_remote_code": False}
        return (self.own or AutoModel).from_pretrained(
            model,
            **trust,
            weights_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused here, by name
        )


def _architecture(config: Mapping[str, Any]) -> _Architecture:
    import transformers

    named = config.get("architectures")
    name = named[0] if isinstance(named, list) and len(named) == 1 else None
    return _Architecture(getattr(transformers, name) if name in _WITH_PROJECTION else None)
