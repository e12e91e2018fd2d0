"""Does a tokenizer belong to its model, and what does the model's first token see?

What does not fit is accepted by transformers in silence, and all features are then alike.
"""

from typing import Any

import torch

from sparc.extract.encoders.foreign import ModelRefusedError

_LEAST_KNOWN = 0.5
"""Share of a model's vocabulary that its tokenizer knows at least; padding takes far less."""


def require_own_tokenizer(model: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer that another model was trained with, or one without words.

    transformers makes up a tokenizer of a few special tokens for a folder that has none: then every
    word is the same unknown token.

    Args:
        model: A text model.
        tokenizer: The tokenizer of the same folder or repository.

    Raises:
        ModelRefusedError: It knows less than half of the model's vocabulary, or more than all.
    """
    size = _vocabulary_size(model)
    if size is None:
        return
    known = len(set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens))
    if known < _LEAST_KNOWN * (size - len(tokenizer.all_special_tokens)):
        raise ModelRefusedError(
            f"its tokenizer knows {known:,} words and the model {size:,}: put the files of its own "
            "(tokenizer.json, or vocab.txt, or what tokenizer.save_pretrained(FOLDER) writes) "
            "beside its config.json"
        )
    if tokenizer.vocab_size > size:
        raise ModelRefusedError(
            f"its tokenizer knows {tokenizer.vocab_size:,} words and the model {size:,}: it is the "
            "tokenizer of another model"
        )


def is_causal(model: Any, tokenizer: Any) -> bool:
    """Whether a model reads from left to right: what follows the first token leaves it as it is.

    Args:
        model: A text model that was loaded, on any device.
        tokenizer: Its tokenizer.
    """
    ordinary = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    if len(ordinary) < 2:
        return False
    first, *_ = tokenizer(["text"])["input_ids"][0]
    device = next(model.parameters()).device
    texts = torch.tensor([[first, ordinary[0]], [first, ordinary[-1]]], device=device)
    with torch.inference_mode():
        hidden = model(input_ids=texts).last_hidden_state[:, 0].float()
    return bool(torch.allclose(hidden[0], hidden[1], rtol=1e-4, atol=1e-6))


def _vocabulary_size(model: Any) -> int | None:
    """Tokens that a model has embeddings of; None if it has no table of them."""
    size = getattr(model.config.get_text_config(), "vocab_size", None)
    return size if isinstance(size, int) else None
