"""Image models of timm, split where they pool: as streams, and as trunks of open_clip."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sparc.extract.encoders.tower import (
    Attention,
    LocalizeError,
    Places,
    SwitchedAttention,
    no_prefix,
    square_or_fail,
)


class TimmTower:
    """A timm model as a `Tower`.

    Args:
        model: The model.
        pool: As `sparc.extract.encoders.timm.models.TimmImageEncoder` resolves it.
        block: After which block its places are taken; None for the end.
        head: What is applied to the pooled output; for open_clip's models, their projection.
        patchwise_pooling: See `Tower`.

    Attributes:
        blocks: See `Tower`.
        patchwise_pooling: See `Tower`.
    """

    def __init__(
        self,
        model: Any,
        *,
        pool: Literal["default", "cls", "mean"] = "default",
        block: int | None = None,
        head: Callable[[Tensor], Tensor] | None = None,
        patchwise_pooling: bool = True,
    ) -> None:
        self._model = model
        self._pool = pool
        self._block = block
        self._head = head
        self._channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        self._prefix = int(getattr(model, "num_prefix_tokens", 0))
        self._is_map = False
        self.patchwise_pooling = patchwise_pooling
        blocks = getattr(model, "blocks", None)
        known = list(blocks) if isinstance(blocks, nn.Sequential | nn.ModuleList) else []
        used = known if block is None else known[: block + 1]
        self.blocks: Sequence[nn.Module] = [
            b for b in used if SwitchedAttention.fits(getattr(b, "attn", None))
        ]

    def places(self, pixels: Tensor) -> Places:
        """See `Tower.places`."""
        if self._block is not None:
            return self._places_after(pixels, self._block)
        features: Tensor = self._model.forward_features(pixels)
        self._is_map = features.ndim == 4
        if features.ndim == 4:
            patches = features if self._channels_last else features.permute(0, 2, 3, 1)
            return Places(patches, no_prefix(patches))
        if features.ndim != 3:
            raise LocalizeError(
                f"{type(self._model).__name__} gives no features of places, only one of the "
                "whole image"
            )
        tokens = features[:, self._prefix :]
        height, width = self._grid(pixels, tokens.shape[1])
        return Places(tokens.reshape(len(tokens), height, width, -1), features[:, : self._prefix])

    def pool(self, places: Places) -> Tensor:
        """See `Tower.pool`."""
        if self._block is not None or self._pool != "default":
            pooled = places.prefix[:, 0] if self._reads_class_token else places.patches.mean((1, 2))
            if self._block is None and not self._is_map:
                # In models that normalize after pooling, this is the final norm.
                pooled = getattr(self._model, "fc_norm", nn.Identity())(pooled)
            return pooled
        if self._is_map:
            patches = places.patches
            joined = patches if self._channels_last else patches.permute(0, 3, 1, 2)
        else:
            joined = torch.cat([places.prefix, places.patches.flatten(1, 2)], dim=1)
        if self._head is not None:
            return self._head(self._model.forward_head(joined))
        features: Tensor = self._model.forward_head(joined, pre_logits=True)
        return features

    def attention_of(self, block: nn.Module) -> Attention | None:
        """See `Tower.attention_of`."""
        module = getattr(block, "attn", None)
        if not SwitchedAttention.fits(module):
            return None
        assert isinstance(module, nn.Module)
        return SwitchedAttention(module)

    @property
    def _reads_class_token(self) -> bool:
        return self._pool == "cls"

    def _places_after(self, pixels: Tensor, block: int) -> Places:
        has_prefix = gives_prefix_tokens(self._model)
        options = {"return_prefix_tokens": True} if has_prefix else {}
        (output,) = self._model.forward_intermediates(
            pixels, indices=[block], stop_early=True, intermediates_only=True, **options
        )
        patches, prefix = output if has_prefix else (output, None)
        patches = patches.permute(0, 2, 3, 1)
        return Places(patches, no_prefix(patches) if prefix is None else prefix)

    def _grid(self, pixels: Tensor, count: int) -> tuple[int, int]:
        embed: Any = getattr(self._model, "patch_embed", None)
        if hasattr(embed, "dynamic_feat_size"):
            height, width = embed.dynamic_feat_size(tuple(pixels.shape[-2:]))
            if height * width == count:
                return int(height), int(width)
        return square_or_fail(count, type(self._model).__name__)


def gives_prefix_tokens(model: Any) -> bool:
    """Whether timm gives the class and register tokens after a block of this model."""
    parameters = inspect.signature(model.forward_intermediates).parameters
    return getattr(model, "num_prefix_tokens", 0) > 0 and "return_prefix_tokens" in parameters
