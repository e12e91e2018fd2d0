"""Image towers of open_clip, split where they pool; those that timm builds are `TimmTower`s."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from sparc.extract.encoders.timm.tower import TimmTower
from sparc.extract.encoders.tower import (
    Attention,
    LocalizeError,
    Places,
    TorchAttention,
    Tower,
    no_prefix,
)


def open_clip_tower(model: Any) -> Tower:
    """The image tower of an open_clip model.

    Raises:
        LocalizeError: It is not known where models of this kind pool.
    """
    finish = _normalize if _normalizes(model) else _as_it_is
    visual = model.visual
    if isinstance(visual, TimmModel):
        head = visual.head
        return TimmTower(
            visual.trunk,
            head=lambda pooled: finish(head(pooled)),
            # Attention pooling with its own position embeddings needs the whole grid.
            patchwise_pooling=not hasattr(head, "pool"),
        )
    if isinstance(visual, VisionTransformer) and hasattr(visual, "_pool"):
        return OpenClipTransformerTower(visual, finish)
    if isinstance(visual, ModifiedResNet):
        return OpenClipResNetTower(visual, finish)
    raise LocalizeError(f"open_clip's {type(visual).__name__} gives no features of places")


class OpenClipTransformerTower:
    """open_clip's own vision transformer as a `Tower`.

    Args:
        visual: The tower.
        finish: What `encode_image` does last.

    Attributes:
        blocks: See `Tower`.
        patchwise_pooling: See `Tower`.
    """

    patchwise_pooling = True

    def __init__(self, visual: Any, finish: Callable[[Tensor], Tensor]) -> None:
        self._visual = visual
        self._finish = finish
        self.blocks: Sequence[nn.Module] = [
            block
            for block in visual.transformer.resblocks
            if isinstance(block.attn, nn.MultiheadAttention)
        ]

    def places(self, pixels: Tensor) -> Places:
        """See `Tower.places`."""
        output = self._visual.forward_intermediates(
            pixels, indices=1, intermediates_only=True, output_extra_tokens=True
        )
        (patches,), (prefix,) = output["image_intermediates"], output["image_intermediates_prefix"]
        return Places(patches.permute(0, 2, 3, 1), prefix)

    def pool(self, places: Places) -> Tensor:
        """See `Tower.pool`."""
        tokens = torch.cat([places.prefix, places.patches.flatten(1, 2)], dim=1)
        pooled, _ = self._visual._pool(tokens)
        projection = self._visual.proj
        return self._finish(pooled if projection is None else pooled @ projection)

    def attention_of(self, block: nn.Module) -> Attention | None:
        """See `Tower.attention_of`."""
        module = block.attn
        return TorchAttention(module) if isinstance(module, nn.MultiheadAttention) else None


class OpenClipResNetTower:
    """OpenAI's ResNet of open_clip as a `Tower`; its attention pooling needs the whole grid.

    Args:
        visual: The tower.
        finish: What `encode_image` does last.

    Attributes:
        blocks: See `Tower`.
        patchwise_pooling: See `Tower`.
    """

    patchwise_pooling = False
    blocks: Sequence[nn.Module] = ()

    def __init__(self, visual: Any, finish: Callable[[Tensor], Tensor]) -> None:
        self._visual = visual
        self._finish = finish

    def places(self, pixels: Tensor) -> Places:
        """See `Tower.places`."""
        features = pixels
        for name in ("stem", "layer1", "layer2", "layer3", "layer4"):
            features = getattr(self._visual, name)(features)
        patches = features.permute(0, 2, 3, 1)
        return Places(patches, no_prefix(patches))

    def pool(self, places: Places) -> Tensor:
        """See `Tower.pool`."""
        return self._finish(self._visual.attnpool(places.patches.permute(0, 3, 1, 2)))

    def attention_of(self, block: nn.Module) -> Attention | None:  # noqa: ARG002 - it has none
        """See `Tower.attention_of`."""
        return None


def _normalizes(model: Any) -> bool:
    """Whether `encode_image` normalizes by default, as CoCa's does."""
    parameter = inspect.signature(model.encode_image).parameters.get("normalize")
    return parameter is not None and parameter.default is True


def _normalize(features: Tensor) -> Tensor:
    return F.normalize(features, dim=-1)


def _as_it_is(features: Tensor) -> Tensor:
    return features
