"""Vision models of transformers, split where they pool."""

import contextlib
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparc.extract.encoders.spec import Pool
from sparc.extract.encoders.tower import Attention, LocalizeError, Places, Record
from sparc.extract.encoders.transformers.vision import VisionModel

_OURS = "sparc_recording"
"""The name under which transformers knows the attention whose weights are recorded."""

_RECORDS: "weakref.WeakKeyDictionary[nn.Module, Record]" = weakref.WeakKeyDictionary()
"""By attention module, what its weights go through."""


class TransformersTower:
    """A vision model as a `Tower`.

    Args:
        vision: The model.
        pool: How it pools, as `TransformersImageEncoder` resolves it.

    Attributes:
        blocks: See `Tower`.
        patchwise_pooling: See `Tower`.
    """

    patchwise_pooling = True

    def __init__(self, vision: VisionModel, pool: Pool) -> None:
        self._vision = vision
        self._pool = pool
        self._is_map = False
        self.blocks: Sequence[nn.Module] = _blocks(vision.tower)

    def places(self, pixels: Tensor) -> Places:
        """See `Tower.places`."""
        hidden = self._vision.hidden(pixels)
        self._is_map = hidden.ndim == 4
        places = self._vision.places(hidden, pixels)
        if places is None:
            raise LocalizeError(
                f"which tokens of a {self._vision.kind} model of transformers are its patches is "
                "not known"
            )
        return places

    def pool(self, places: Places) -> Tensor:
        """See `Tower.pool`."""
        if self._pool == "mean":
            return places.patches.mean((1, 2))
        if self._pool == "cls":
            return places.prefix[:, 0]
        pooled = self._own_pool(places)
        projection = self._vision.projection
        return pooled if projection is None else projection(pooled)

    def attention_of(self, block: nn.Module) -> Attention | None:
        """See `Tower.attention_of`."""
        return RecordedAttention(block, self._vision.tower.config)

    def _own_pool(self, places: Places) -> Tensor:
        """The model's own pooling, by the names that transformers gives its parts."""
        tower = self._vision.tower
        if self._is_map:
            hidden = places.patches.permute(0, 3, 1, 2)
        else:
            hidden = torch.cat([places.prefix, places.patches.flatten(1, 2)], dim=1)
        for name in ("head", "pooler"):  # SigLIP and AIMv2; ViT and ResNet
            if isinstance(module := getattr(tower, name, None), nn.Module):
                pooled: Tensor = module(hidden)
                return pooled.flatten(1)
        if self._is_map:  # ConvNeXt
            norm = getattr(tower, "layernorm", nn.Identity())
            mean: Tensor = norm(places.patches.mean((1, 2)))
            return mean
        if not places.prefix.shape[1]:
            raise LocalizeError(
                f"where a {self._vision.kind} model of transformers pools is not known"
            )
        normed: Tensor = getattr(tower, "post_layernorm", nn.Identity())(places.prefix[:, 0])
        return normed


class RecordedAttention:
    """The attention in a block, which transformers calls by a name in the model's configuration.

    Args:
        block: The block.
        config: The configuration that the block's modules share.
    """

    def __init__(self, block: nn.Module, config: Any) -> None:
        self._modules = list(block.modules())
        self._config = config

    @contextlib.contextmanager
    def recording(self, record: Record) -> Iterator[None]:
        """See `Attention.recording`."""
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        ALL_ATTENTION_FUNCTIONS[_OURS] = _attend
        before = self._config._attn_implementation
        _RECORDS.update(dict.fromkeys(self._modules, record))
        self._config._attn_implementation = _OURS
        try:
            yield
        finally:
            self._config._attn_implementation = before
            for module in self._modules:
                _RECORDS.pop(module, None)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Attention as transformers calls it, (images, heads, tokens, width) each."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    logits = query @ key.transpose(-2, -1) * scale
    if attention_mask is not None:  # BEiT's positions
        logits = logits + attention_mask
    weights = logits.softmax(-1)
    record = _RECORDS.get(module)
    weights = weights if record is None else record(weights)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def _blocks(tower: Any) -> list[nn.Module]:
    """The attention blocks: the longest list of modules that all attend; none without."""
    lists = [list(m) for m in tower.modules() if isinstance(m, nn.ModuleList) and len(m)]
    attending = [blocks for blocks in lists if all(map(_attends, blocks))]
    return max(attending, key=len, default=[])


def _attends(block: nn.Module) -> bool:
    return any("attention" in type(module).__name__.lower() for module in block.modules())
