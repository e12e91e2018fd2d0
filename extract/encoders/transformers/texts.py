"""Text encoders of Hugging Face transformers.

Needs the extra `transformers`. No code that comes with a model is ever run.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparc.common.errors import EncoderError
from sparc.common.progress import say
from sparc.common.streams.origin import StreamOrigin
from sparc.common.text import amount
from sparc.extract.encoders.definition import definition_digest, effective, tokenizer_digest
from sparc.extract.encoders.encoder import EncodedTexts
from sparc.extract.encoders.hub import in_use, loading
from sparc.extract.encoders.precision import autocast
from sparc.extract.encoders.transformers.fit import is_causal, require_own_tokenizer
from sparc.extract.encoders.transformers.loading import TransformersModel, read_model_json
from sparc.extract.encoders.transformers.pooling import IN_WORDS, OwnPooling, own_pooling, pooled
from sparc.extract.encoders.transformers.spec import TextPool, TransformersSpec

_NO_LIMIT = 1_000_000
"""Tokenizers without a limit of length say 10**30; no text model reads this many tokens."""


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
        if getattr(loaded.model, "main_input_name", "") == "pixel_values":
            raise EncoderError(f"{spec} reads images, not captions: add #image to the spec")
        with loading(spec, from_hub=not Path(spec.model).is_dir()):
            self.tokenizer = _tokenizer(spec, loaded.model)
            own = own_pooling(lambda name: read_model_json(spec.model, name))
        self.pool = _choose_pool(spec, loaded.model, own)
        _refuse_missing(spec, self.pool, loaded)
        self.model = loaded.model.to(device)
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


def _tokenizer(spec: TransformersSpec, model: Any) -> Any:
    """The tokenizer of a model, which pads on the right.

    Raises:
        ModelRefusedError: It is that of another model.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(spec.model, trust_remote_code=False)
    require_own_tokenizer(model, tokenizer)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def _has_text_tower(model: Any) -> bool:
    """Whether a model reads images too, as CLIP does, and has features for texts alone."""
    return hasattr(model, "get_text_features") and hasattr(model, "text_model")


def _reads_padding(config: Any) -> bool:
    """Whether a model was trained on texts of one length, and looks at their padding too."""
    return str(config.model_type).startswith("siglip")


def _choose_pool(spec: TransformersSpec, model: Any, own: OwnPooling | None) -> TextPool:
    """The pooling of the spec, else the model's own, else the mean.

    Raises:
        EncoderError: The model has one that a spec cannot express.
    """
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
    is_tower = _has_text_tower(model) or model.config.model_type.endswith("_text_model")
    return "default" if is_tower else "mean"


def _refuse_missing(spec: TransformersSpec, pool: TextPool, loaded: TransformersModel) -> None:
    missing: Sequence[str] = loaded.missing
    if _has_text_tower(loaded.model):
        missing = [name for name in missing if not name.startswith(("vision", "visual"))]
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
