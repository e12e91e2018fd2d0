"""How the tokens of a text model become one feature: what its files say, and what a spec asks for.

Models of sentence-transformers say in `modules.json` and in the settings of their pooling what they
were trained with. Another pooling gives other features, which nobody would notice.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sparc.extract.encoders.foreign import ModelRefusedError, is_plain_name
from sparc.extract.encoders.transformers.spec import TextPool

IN_WORDS: Mapping[TextPool, str] = {
    "mean": "mean of the last hidden state over all tokens but padding",
    "cls": "first token of the last hidden state",
    "last": "last token of the last hidden state",
    "default": "the model's own pooler_output",
}

_KNOWN: Mapping[str, TextPool] = {
    "cls": "cls",
    "cls_token": "cls",
    "mean": "mean",
    "mean_tokens": "mean",
    "last": "last",
    "lasttoken": "last",
}
"""By what sentence-transformers calls a pooling."""

_PREFIX = "pooling_mode_"

ReadJson = Callable[[str], Any]
"""Reads a JSON file of a model by its name in the model's folder; None if there is none."""


class OwnPooling(NamedTuple):
    """The pooling that a model's files name.

    Attributes:
        pool: The same in a spec; None if a spec cannot express it.
        described: As the files call it.
    """

    pool: TextPool | None
    described: str


def own_pooling(read: ReadJson) -> OwnPooling | None:
    """What `modules.json` of sentence-transformers says; None if the model has no such file.

    Raises:
        ModelRefusedError: A file is malformed.
    """
    modules = read("modules.json")
    if modules is None:
        return None
    if not isinstance(modules, list) or not all(isinstance(m, Mapping) for m in modules):
        raise ModelRefusedError("its modules.json is not a list of modules")
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    if "Pooling" not in kinds:
        return None
    place = kinds.index("Pooling")
    folder = modules[place].get("path")
    if not is_plain_name(folder):
        raise ModelRefusedError("its modules.json names no folder for its pooling")
    settings = read(f"{folder}/config.json")
    if not isinstance(settings, Mapping):
        raise ModelRefusedError(f"it lacks {folder}/config.json, which says how tokens are pooled")
    modes = _modes(settings)
    if "Dense" in kinds[place + 1 :]:
        return OwnPooling(None, f"{' and '.join(modes)}, and a layer behind the pooling")
    return OwnPooling(_KNOWN.get(modes[0]) if len(modes) == 1 else None, " and ".join(modes))


def _modes(settings: Mapping[str, Any]) -> Sequence[str]:
    """What a pooling's settings call the modes in use, at least one."""
    named = settings.get("pooling_mode")
    if named:
        return [str(mode) for mode in (named if isinstance(named, list) else [named])]
    flags = [key for key, on in settings.items() if on is True and key.startswith(_PREFIX)]
    modes = [flag.removeprefix(_PREFIX) for flag in flags]
    return modes or ["mean_tokens"]  # the default of sentence-transformers


def pooled(output: Any, mask: Tensor, pool: TextPool) -> Tensor | None:
    """One feature a text; None if the model has no output of its own.

    Args:
        output: Of the model.
        mask: 1 at tokens, 0 at the padding behind them, (texts, tokens).
        pool: How.

    Returns:
        (texts, dim).
    """
    if pool == "default":
        if isinstance(output, Tensor):  # of `get_text_features`, before version 5
            return output
        projected: Tensor | None = getattr(output, "text_embeds", None)
        return getattr(output, "pooler_output", None) if projected is None else projected
    hidden: Tensor = output.last_hidden_state
    if pool == "cls":
        return hidden[:, 0]
    if pool == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1]
    weights = mask[:, :, None].to(torch.float32)
    return (hidden.float() * weights).sum(1) / weights.sum(1)
