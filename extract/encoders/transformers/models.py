"""Text encoders of Hugging Face transformers. Only this module knows transformers.

Needs the extra `transformers`. No code that comes with a model is ever run.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sparc.common.errors import EncoderError
from sparc.common.progress import say
from sparc.common.streams.origin import StreamOrigin
from sparc.common.text import amount
from sparc.extract.encoders.definition import definition_digest, effective, tokenizer_digest
from sparc.extract.encoders.encoder import EncodedTexts, autocast
from sparc.extract.encoders.foreign import (
    ModelRefusedError,
    check_folder,
    check_transformers_config,
    read_json,
)
from sparc.extract.encoders.hub import in_use, loading
from sparc.extract.encoders.sizes import LARGEST_OF_HUB, require_no_larger, weights_limit
from sparc.extract.encoders.transformers.fit import is_causal, require_own_tokenizer
from sparc.extract.encoders.transformers.pooling import IN_WORDS, OwnPooling, own_pooling, pooled
from sparc.extract.encoders.transformers.spec import TextPool, TransformersSpec
from sparc.extract.encoders.weights import weights_digest

_NO_LIMIT = 1_000_000
"""Tokenizers without a limit of length say 10**30; no text model reads this many tokens."""


class TransformersModel(NamedTuple):
    """A loaded text model.

    Attributes:
        model: Frozen, on the CPU.
        tokenizer: Pads on the right.
        digest: SHA-256 of the model's weights.
        config: Its `config.json`.
        own: The pooling that its files name; None if they name none.
        missing: Tensors of the model that the weights lack, by name: they are random.
    """

    model: Any
    tokenizer: Any
    digest: str
    config: Mapping[str, Any]
    own: OwnPooling | None
    missing: tuple[str, ...]


class TransformersTextEncoder:
    """A transformers model as a `TextEncoder`.

    What becomes the feature of a caption: `pool=mean`, the mean of the last hidden state over all
    tokens but the padding; `pool=cls`, the first token; `pool=last`, the last one; `pool=default`,
    the model's own `pooler_output`. Without `pool`: what the files of sentence-transformers say,
    the model's own output of a text tower such as CLIP's, and the mean of all other models.

    Args:
        spec: What to build.
        loaded: The model, from `load_transformers`.
        device: Where it runs.

    Attributes:
        dim: Width of a feature.
        origin: What the stream's attributes record.
        model: The model, frozen, on the device; the encoder of an encoder-decoder.
        tokenizer: Its tokenizer.
        device: Where the model runs.

    Raises:
        EncoderError: Weights are missing, the tokenizer is that of another model, or the model does
            not take text alone, has no pooled output, or a first token that has seen no other.
    """

    def __init__(
        self, spec: TransformersSpec, loaded: TransformersModel, device: torch.device
    ) -> None:
        self.pool = _choose_pool(spec, loaded)
        _refuse_missing(spec, self.pool, loaded.missing)
        self.model = loaded.model.to(device)
        self.tokenizer = loaded.tokenizer
        self.device = device
        self._spec = spec
        with loading(spec, from_hub=False):
            self._context = _context_length(self.model.config, self.tokenizer)
            self.dim = int(self.encode(["text"]).features.shape[1])
            if self.pool == "cls" and is_causal(self.model, self.tokenizer):
                raise EncoderError(
                    f"{spec}: its first token sees no other, so captions that begin alike would "
                    "have the same feature: use pool=mean or pool=last"
                )
        self.origin = StreamOrigin(
            spec=str(spec),
            pooling=IN_WORDS[self.pool],
            input_size=() if self._context is None else (self._context,),
            weights_sha256=loaded.digest,
            definition_sha256=definition_digest(
                library="transformers",
                config=effective(loaded.config),
                tokenizer=tokenizer_digest(
                    self.tokenizer.get_vocab(),
                    lambda captions: self._tokens(captions)["input_ids"].tolist(),
                ),
            ),
            preprocessing=f"{type(self.tokenizer).__name__} of transformers",
        )

    def encode(self, captions: Sequence[str]) -> EncodedTexts:
        """Features of captions, cut to the model's context."""
        with in_use(self._spec), torch.inference_mode(), autocast(self.device):
            tokens = self._tokens(captions).to(self.device)
            mask = tokens["attention_mask"]
            features = pooled(self._output(tokens), mask, self.pool)
            if features is None:
                raise EncoderError(
                    f"{self._spec}: the model has no pooled output: use pool=mean or pool=cls"
                )
            return EncodedTexts(features.float(), self._count_cut(captions, mask))

    def count_cut(self, captions: Sequence[str]) -> int:
        """How many of the captions are longer than the context, without encoding them."""
        with in_use(self._spec):
            return self._count_cut(captions, self._tokens(captions)["attention_mask"])

    def _tokens(self, captions: Sequence[str]) -> Any:
        return self.tokenizer(
            list(captions),
            padding="max_length" if _reads_padding(self.model.config) else True,
            truncation=self._context is not None,
            max_length=self._context,
            return_tensors="pt",
            return_attention_mask=True,
        )

    def _output(self, tokens: Mapping[str, Tensor]) -> Any:
        if _reads_padding(self.model.config):
            tokens = {"input_ids": tokens["input_ids"]}
        if not _has_text_tower(self.model):
            return self.model(**tokens)
        return (self.model.get_text_features if self.pool == "default" else self.model.text_model)(
            **tokens
        )

    def _count_cut(self, captions: Sequence[str], mask: Tensor) -> int:
        if self._context is None:
            return 0
        full = (mask.sum(1) >= self._context).tolist()
        # Only a caption that fills the context may have been cut.
        suspects = [caption for caption, is_full in zip(captions, full, strict=True) if is_full]
        if not suspects:
            return 0
        lengths = (len(ids) for ids in self.tokenizer(suspects, verbose=False)["input_ids"])
        return sum(length > self._context for length in lengths)


def load_transformers(spec: TransformersSpec) -> TransformersModel:
    """Load the model and the tokenizer of a spec.

    Args:
        spec: The stream's spec; its `pool` does not matter here.

    Raises:
        EncoderError: transformers is not installed, or the model cannot be loaded.
    """
    try:
        from transformers import AutoConfig, AutoModel, AutoTokenizer, PretrainedConfig
    except ImportError as error:
        raise EncoderError(f"{spec} needs transformers: pip install transformers") from error
    is_folder = Path(spec.model).is_dir()
    if not is_folder and spec.model.startswith(("/", ".", "~")):
        raise EncoderError(f"{spec}: there is no folder {spec.model}")
    if is_folder and not (Path(spec.model) / "config.json").is_file():
        raise EncoderError(f"{spec}: the folder holds no model of transformers: no config.json")
    with loading(spec, from_hub=not is_folder):
        if is_folder:
            check_folder(Path(spec.model))
            if (Path(spec.model) / "adapter_config.json").exists():
                raise ModelRefusedError("the folder holds an adapter: merge it into its model")
        config = PretrainedConfig.get_config_dict(spec.model)[0]
        check_transformers_config(config)
        require_no_larger(
            lambda: AutoModel.from_config(
                AutoConfig.from_pretrained(spec.model, trust_remote_code=False),
                trust_remote_code=False,
            ),
            weights_limit(Path(spec.model)) if is_folder else LARGEST_OF_HUB,
        )
        tokenizer = AutoTokenizer.from_pretrained(spec.model, trust_remote_code=False)
        model, report = AutoModel.from_pretrained(
            spec.model,
            trust_remote_code=False,
            weights_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused here, by name
        )
        for name, in_file, in_model in sorted(report["mismatched_keys"]):
            raise ModelRefusedError(
                f"its weights do not fit its config.json: {name} is {tuple(in_file)} in the file, "
                f"{tuple(in_model)} by config.json"
            )
        require_own_tokenizer(model, tokenizer)
        own = own_pooling(lambda name: _read_json(spec.model, name))
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "right"
        missing = sorted(report["missing_keys"])
        # A T5 saved without its decoder says that it is no encoder-decoder, and is built as one.
        if hasattr(model, "encoder") and hasattr(model, "decoder"):
            model = model.get_encoder()
            missing = [name for name in missing if not name.startswith("decoder.")]
        elif _has_text_tower(model):
            missing = [name for name in missing if not name.startswith(("vision", "visual"))]
    model = model.float().eval().requires_grad_(False)
    return TransformersModel(model, tokenizer, weights_digest(model), config, own, tuple(missing))


def _read_json(model: str, name: str) -> Any:
    """A JSON file of a model's folder or repository; None if there is none."""
    from transformers.utils.hub import cached_file

    path = cached_file(model, name, _raise_exceptions_for_missing_entries=False)
    return None if path is None else read_json(Path(path))


def _has_text_tower(model: Any) -> bool:
    """Whether a model reads images too, as CLIP does, and has features for texts alone."""
    return hasattr(model, "get_text_features") and hasattr(model, "text_model")


def _reads_padding(config: Any) -> bool:
    """Whether a model was trained on texts of one length, and looks at their padding too."""
    return str(config.model_type).startswith("siglip")


def _choose_pool(spec: TransformersSpec, loaded: TransformersModel) -> TextPool:
    """The pooling of the spec, else the model's own, else the mean.

    Raises:
        EncoderError: The model has one that a spec cannot express.
    """
    own = loaded.own
    if spec.pool is not None:
        if own is not None and spec.pool != own.pool:
            say(f"{spec}: the model was trained with another pooling ({own.described})")
        return spec.pool
    if own is not None:
        if own.pool is None:
            raise EncoderError(
                f"{spec}: the model's own pooling ({own.described}) cannot be had: add ?pool=mean "
                "for the mean of its tokens, which is another feature"
            )
        return own.pool
    is_tower = _has_text_tower(loaded.model) or loaded.model.config.model_type.endswith(
        "_text_model"
    )
    return "default" if is_tower else "mean"


def _refuse_missing(spec: TransformersSpec, pool: TextPool, missing: Sequence[str]) -> None:
    if pool != "default":  # the pooler is not used then
        missing = [name for name in missing if "pooler" not in name]
    if missing:
        raise EncoderError(
            f"{spec}: the weights lack {amount(len(missing), 'tensor')} of the model, the first is "
            f"{missing[0]}"
        )


def _context_length(config: Any, tokenizer: Any) -> int | None:
    """Most tokens of a caption, special ones included; None if there is no limit."""
    config = config.get_text_config()
    limits = [tokenizer.model_max_length]
    positions = getattr(config, "max_position_embeddings", None)
    if positions:
        # RoBERTa and its kin number positions from the padding token's id on.
        reserved = config.pad_token_id + 1 if "roberta" in config.model_type else 0
        limits.append(positions - reserved)
    known = [int(limit) for limit in limits if limit < _NO_LIMIT]
    return min(known) if known else None
