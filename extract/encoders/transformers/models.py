"""Text encoders of Hugging Face transformers. Only this module knows transformers.

Needs the extra `transformers`. No code that comes with a model is ever run.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sparc.common.errors import EncoderError
from sparc.common.streams.origin import StreamOrigin
from sparc.common.text import amount
from sparc.extract.encoders.definition import definition_digest, effective, tokenizer_digest
from sparc.extract.encoders.encoder import EncodedTexts, autocast
from sparc.extract.encoders.foreign import (
    ModelRefusedError,
    check_folder,
    check_transformers_config,
)
from sparc.extract.encoders.hub import in_use, loading
from sparc.extract.encoders.sizes import LARGEST_OF_HUB, require_no_larger, weights_limit
from sparc.extract.encoders.transformers.spec import TransformersSpec
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
        missing: Tensors of the model that the weights lack, by name: they are random.
    """

    model: Any
    tokenizer: Any
    digest: str
    config: Mapping[str, Any]
    missing: tuple[str, ...]


class TransformersTextEncoder:
    """A transformers model as a `TextEncoder`.

    What becomes the feature of a caption: `pool=mean`, the mean of the last hidden state over all
    tokens but the padding; `pool=cls`, the first token; `pool=default`, the model's own
    `pooler_output`.

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
        EncoderError: Weights are missing, or the model does not take text alone, or has no pooled
            output.
    """

    def __init__(
        self, spec: TransformersSpec, loaded: TransformersModel, device: torch.device
    ) -> None:
        _refuse_missing(spec, loaded.missing)
        self.model = loaded.model.to(device)
        self.tokenizer = loaded.tokenizer
        self.device = device
        self._spec = spec
        with loading(spec, from_hub=False):
            self._context = _context_length(self.model.config, self.tokenizer)
            self.dim = int(self.encode(["text"]).features.shape[1])
        self.origin = StreamOrigin(
            spec=str(spec),
            pooling={
                "mean": "mean of the last hidden state over all tokens but padding",
                "cls": "first token of the last hidden state",
                "default": "the model's own pooler_output",
            }[spec.pool],
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
            features = self._pool(self.model(**tokens), tokens["attention_mask"]).float()
            return EncodedTexts(features, self._count_cut(captions, tokens["attention_mask"]))

    def count_cut(self, captions: Sequence[str]) -> int:
        """How many of the captions are longer than the context, without encoding them."""
        with in_use(self._spec):
            return self._count_cut(captions, self._tokens(captions)["attention_mask"])

    def _tokens(self, captions: Sequence[str]) -> Any:
        return self.tokenizer(
            list(captions),
            padding=True,
            truncation=self._context is not None,
            max_length=self._context,
            return_tensors="pt",
        )

    def _pool(self, output: Any, mask: Tensor) -> Tensor:
        hidden: Tensor = output.last_hidden_state
        if self._spec.pool == "cls":
            return hidden[:, 0]
        if self._spec.pool == "mean":
            weights = mask[:, :, None].to(torch.float32)
            return (hidden.float() * weights).sum(1) / weights.sum(1)
        pooled: Tensor | None = getattr(output, "pooler_output", None)
        if pooled is None:
            raise EncoderError(
                f"{self._spec}: the model has no pooled output: use pool=mean or pool=cls"
            )
        return pooled

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
        )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "right"
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
    model = model.float().eval().requires_grad_(False)
    missing = tuple(sorted(report["missing_keys"]))
    return TransformersModel(model, tokenizer, weights_digest(model), config, missing)


def _refuse_missing(spec: TransformersSpec, missing: Sequence[str]) -> None:
    if spec.pool != "default":  # the pooler is not used then
        missing = [name for name in missing if "pooler" not in name]
    if missing:
        raise EncoderError(
            f"{spec}: the weights lack {amount(len(missing), 'tensor')} of the model, the first is "
            f"{missing[0]}"
        )


def _context_length(config: Any, tokenizer: Any) -> int | None:
    """Most tokens of a caption, special ones included; None if there is no limit."""
    limits = [tokenizer.model_max_length]
    positions = getattr(config, "max_position_embeddings", None)
    if positions:
        # RoBERTa and its kin number positions from the padding token's id on.
        reserved = config.pad_token_id + 1 if "roberta" in config.model_type else 0
        limits.append(positions - reserved)
    known = [int(limit) for limit in limits if limit < _NO_LIMIT]
    return min(known) if known else None
