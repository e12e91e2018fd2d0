"""A digest of what decides, besides weights, what an encoder computes: architecture and tokenizer.

The same tensors can be the weights of different models, such as one with GELU and one with
QuickGELU. A digest must not depend on the machine, on where files are, or on the version of a
library that computes the same. This module must not know any model library.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

PROBES = (
    "",
    "a photo of a cat",
    "A Red APPLE, on the  table!",
    "don't stop\n\tnow: 1,234.50 (x_y) - well-known #tag @home",
    "na\u00efve caf\u00e9 \u2014 \u041f\u0440\u0438\u0432\u0435\u0442 \u6771\u4eac \u00bd \u263a",
    "<b>bold</b> &amp; more",
    "[MASK] <s> </s> <unk> <|endoftext|> <start_of_text>",
    "the quick brown fox jumps over the lazy dog " * 40,
)
"""Captions that tokenizers of one vocabulary may split differently: case, accents, length."""

_OF_NO_EFFECT = frozenset(
    (
        *("_name_or_path", "name_or_path", "_commit_hash", "transformers_version", "auto_map"),
        *("architectures", "torch_dtype", "dtype", "use_cache", "gradient_checkpointing"),
        *("id2label", "label2id", "problem_type", "finetuning_task"),
        *("attn_implementation", "_attn_implementation", "_attn_implementation_autoset"),
    )
)
"""Settings of a `config.json` of transformers that do not affect hidden states."""


def definition_digest(**parts: Any) -> str:
    """SHA-256 of what decides, besides weights, what a model computes; 64 hexadecimal digits.

    Args:
        parts: JSON values, by name.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def tokenizer_digest(
    vocabulary: Mapping[str, int], tokenize: Callable[[Sequence[str]], list[list[int]]]
) -> str:
    """SHA-256 of what a tokenizer does: its vocabulary, and its tokens of `PROBES`.

    Args:
        vocabulary: The id of every token.
        tokenize: Gives the token ids of each caption.
    """
    return definition_digest(vocabulary=sorted(vocabulary.items()), tokens=tokenize(PROBES))


def without_defaults(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that differ from a library's defaults, so that new ones change no digest."""
    return {
        key: value
        for key, value in settings.items()
        if key not in defaults or value != defaults[key]
    }


def effective(config: Mapping[str, Any]) -> dict[str, Any]:
    """A `config.json` of transformers without the settings that do not affect hidden states."""
    return {
        key: effective(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key not in _OF_NO_EFFECT
    }
