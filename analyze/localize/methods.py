"""Methods that explain an objective by a map over the grid of an encoder's places.

Each method takes one prepared image and several objectives and returns one map per objective. They
know `Tower` and no library. Weights are frozen, so gradients reach only as deep as they are
requested, which bounds memory: `attention` keeps the weights of its layers, `gradcam` one block.
"""

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor

from sparc.analyze.localize.config import MethodName
from sparc.analyze.localize.targets import Objective
from sparc.extract.encoders.tower import (
    LocalizeError,
    Places,
    Tower,
    float32,
    replaced_input,
    with_gradient,
)

PATCHES_AT_ONCE = 256
"""Patches that are pooled at a time."""


def localize(
    tower: Tower,
    pixels: Tensor,
    objectives: Sequence[Objective],
    *,
    method: MethodName = "auto",
    layers: int = 3,
) -> Tensor:
    """The maps of some objectives.

    Args:
        tower: The encoder.
        pixels: One prepared image, (1, 3, height, width).
        objectives: What to explain.
        method: Which of the methods below; `auto` as in `choose`.
        layers: For `attention`.

    Returns:
        (objectives, rows, columns) float32 over the encoder's grid: larger where the objective
        is, negative where a place speaks against it; the scale depends on the method.

    Raises:
        LocalizeError: The encoder does not allow the method.
    """
    chosen = choose(tower, pixels) if method == "auto" else method
    with float32(pixels.device):
        if chosen == "direct":
            maps = direct(tower, pixels, objectives)
        elif chosen == "gradcam":
            maps = gradcam(tower, pixels, objectives)
        else:
            maps = attention(tower, pixels, objectives, layers=layers)
    return maps.detach().float()


def choose(tower: Tower, pixels: Tensor) -> MethodName:
    """The method that does best on scenes of several objects (REPORT.md).

    `attention` where the feature is read from a class token, else `gradcam`: it explains a mean of
    places exactly.
    """
    if not tower.blocks:
        return "gradcam"
    with torch.no_grad():
        places = tower.places(pixels)
    return "gradcam" if _reads_patches(tower, places) else "attention"


def direct(tower: Tower, pixels: Tensor, objectives: Sequence[Objective]) -> Tensor:
    """The objective of an image all of whose places are like this one; no gradients."""
    with torch.no_grad():
        patches, prefix = tower.places(pixels)
        _, height, width, channels = patches.shape
        grid = (1, 1) if tower.patchwise_pooling else (height, width)
        values = []
        for some in torch.split(patches.reshape(-1, channels), PATCHES_AT_ONCE):
            repeated = Places(
                some[:, None, None].expand(-1, *grid, -1),
                some[:, None].expand(-1, prefix.shape[1], -1),
            )
            features = tower.pool(repeated)
            values.append(torch.stack([objective(features) for objective in objectives]))
        return torch.cat(values, dim=1).reshape(len(objectives), height, width)


def gradcam(tower: Tower, pixels: Tensor, objectives: Sequence[Objective]) -> Tensor:
    """Grad-CAM (arXiv 1610.02391) on the last feature map that the feature depends on.

    That is the map that is pooled; where a class token is read instead, the input of the last
    block.
    """
    with torch.no_grad():
        places = tower.places(pixels)
    if not _reads_patches(tower, places):
        return _gradcam_on_last_block(tower, pixels, objectives, places)
    patches = places.patches.detach().requires_grad_()
    with torch.enable_grad():
        features = tower.pool(Places(patches, places.prefix))
        maps = []
        for gradient in _gradients(features, objectives, [patches]):
            weights = gradient[0].mean((1, 2))
            maps.append((patches.detach() @ weights[0])[0].relu())
    return torch.stack(maps)


def attention(
    tower: Tower, pixels: Tensor, objectives: Sequence[Objective], *, layers: int
) -> Tensor:
    """Gradient-weighted attention relevance (after arXiv 2103.15679) over the last layers.

    With A a layer's attention weights and G the objective's gradient with respect to them, the
    relevance of tokens to tokens grows from R = 1, layer by layer, by R <- R + (sum_heads A * G) R.
    Unlike published, the negative part of A * G is kept: heads cancel each other, and maps of the
    positive part alone point less well (REPORT.md). The map is the relevance of the patches to the
    tokens that the feature is read from, weighted by the norm of their gradient.

    Raises:
        LocalizeError: The encoder has no attention over all its patches.
    """
    recorded: list[Tensor] = []

    def record(weights: Tensor) -> Tensor:
        recorded.append(with_gradient(weights))
        return recorded[-1]

    with contextlib.ExitStack() as stack, torch.enable_grad():
        for block in tower.blocks[-layers:]:
            module = tower.attention_of(block)
            if module is not None:
                stack.enter_context(module.recording(record))
        patches, prefix = tower.places(pixels)
        _, height, width, channels = patches.shape
        count = prefix.shape[1] + height * width
        if not recorded or any(weights.shape[-2:] != (count, count) for weights in recorded):
            raise LocalizeError(
                "the encoder has no attention over all of its patches: use the method gradcam or "
                "direct"
            )
        tokens = torch.cat([prefix, patches.reshape(1, -1, channels)], dim=1)
        separate = Places(
            tokens[:, prefix.shape[1] :].reshape(patches.shape), tokens[:, : prefix.shape[1]]
        )
        features = tower.pool(separate)
        maps = []
        for at_end, *gradients in _gradients(features, objectives, [tokens, *recorded]):
            relevance = torch.eye(count, device=pixels.device)
            for weights, gradient in zip(recorded, gradients, strict=True):
                relevance = relevance + (weights.detach() * gradient)[0].sum(0) @ relevance
            read = at_end[0].norm(dim=1)
            row = (read / read.sum().clamp(min=1e-30)) @ relevance
            maps.append(row[prefix.shape[1] :].reshape(height, width))
    return torch.stack(maps)


def _gradcam_on_last_block(
    tower: Tower, pixels: Tensor, objectives: Sequence[Objective], places: Places
) -> Tensor:
    entering: list[Tensor] = []

    def keep(tokens: Tensor) -> Tensor:
        entering.append(with_gradient(tokens))
        return entering[-1]

    if not tower.blocks:
        raise LocalizeError("the encoder's feature does not depend on its last feature map")
    with replaced_input(tower.blocks[-1], keep):
        features = tower.pool(tower.places(pixels))
    _, height, width, _ = places.patches.shape
    first = places.prefix.shape[1]
    maps = []
    for (gradient,) in _gradients(features, objectives, entering):
        weights = gradient[0, first:].mean(0)
        maps.append((entering[0].detach()[0, first:] @ weights).relu().reshape(height, width))
    return torch.stack(maps)


def _reads_patches(tower: Tower, places: Places) -> bool:
    """Whether the feature depends on the patches, not only on a class token."""
    patches = places.patches.detach().requires_grad_()
    with torch.enable_grad():
        features = tower.pool(Places(patches, places.prefix))
        if not features.requires_grad:
            return False
        # Not a plain sum, which a normalization may hold constant.
        direction = torch.linspace(-1, 1, features.shape[1], device=features.device)
        (gradient,) = torch.autograd.grad((features @ direction).sum(), patches, allow_unused=True)
    return gradient is not None and bool(gradient.any())


def _gradients(
    features: Tensor, objectives: Sequence[Objective], inputs: list[Tensor]
) -> list[tuple[Tensor, ...]]:
    """By objective, its gradients with respect to the inputs."""
    return [
        torch.autograd.grad(objective(features).sum(), inputs, retain_graph=True)
        for objective in objectives
    ]
