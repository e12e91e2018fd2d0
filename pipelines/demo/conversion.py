"""Renames the tensors of a wheel's model as timm names those of the same model.

Nothing is guessed: a tensor that is left over on either side, or whose shape differs, is an error.
This module knows only tensors and names; `encoders.py` knows where the files lie.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparc.common.errors import EncoderError

BACKBONE = "backbone."
"""Prefix of the image model's tensors in the ONNX file; the rest is a saliency decoder."""

_DECODER = "decoder."


def tensors_of_onnx(model: Any) -> dict[str, Tensor]:
    """The tensors of the backbone of an exported ViT, under the names of its layers.

    The export has folded the transposed weight matrices and the position embeddings into unnamed
    constants. A matrix is named after the node that multiplies with it
    (`/backbone/encoder/layer.3/mlp/fc1/MatMul`); the position embeddings are the two tensors of
    three dimensions: one position for the class token, and the grid.

    Args:
        model: An `onnx.ModelProto`.

    Raises:
        EncoderError: A constant belongs to no known layer.
    """
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    values = {name: np.array(numpy_helper.to_array(t)) for name, t in constants.items()}
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for node in model.graph.node:
        if node.op_type != "MatMul":
            continue
        for name in node.input:
            if name in values and not name.startswith((BACKBONE, _DECODER)):
                layer = ".".join(node.name.strip("/").split("/")[1:-1])
                tensors[f"{layer}.weight"] = values.pop(name).T
    for name in list(values):
        if name.startswith(BACKBONE):
            tensors[name.removeprefix(BACKBONE)] = values.pop(name)
    positions = [name for name, value in values.items() if value.ndim == 3]
    if len(positions) == 2:
        ordered = sorted((values.pop(name) for name in positions), key=lambda p: int(p.shape[1]))
        tensors["embeddings.position_embeddings"] = np.concatenate(ordered, axis=1)
    unknown = [name for name in values if not name.startswith(_DECODER)]
    if unknown:
        raise EncoderError(f"the ONNX file holds a tensor that belongs to no layer: {unknown[0]}")
    return {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in tensors.items()}


def vit_for_timm(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A DINOv2 ViT as transformers names its tensors, renamed for timm.

    Args:
        source: From `tensors_of_onnx`.
        target: The state dict of the timm model, for its names and shapes.

    Raises:
        EncoderError: A tensor is missing, left over, or of another shape.
    """
    left = dict(source)
    state = {}
    for name in target:
        parts = [_take(left, old) for old in _old_names(name)]
        state[name] = torch.cat(parts) if len(parts) > 1 else parts[0]
    if left:
        raise EncoderError(f"timm's model has no place for {sorted(left)[0]}")
    _check_shapes(state, target)
    return state


def match_by_order(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename tensors where both models list their layers in the same order.

    The last part of the name (`weight`, `running_mean`, …) and the shape of every pair must agree.

    Raises:
        EncoderError: They do not, or one model has more tensors.
    """
    if len(source) != len(target):
        raise EncoderError(f"{len(source)} tensors do not fit a model of {len(target)}")
    for old, new in zip(source, target, strict=True):
        if old.rpartition(".")[2] != new.rpartition(".")[2]:
            raise EncoderError(f"{old} is no {new}")
    state = dict(zip(target, source.values(), strict=True))
    _check_shapes(state, target)
    return state


def _old_names(name: str) -> list[str]:
    """What transformers calls a tensor of timm's ViT; several names are concatenated."""
    fixed = {
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
    }
    if name in fixed:
        return [fixed[name]]
    layer, _, kind = name.rpartition(".")
    if layer == "patch_embed.proj":
        return [f"embeddings.patch_embeddings.projection.{kind}"]
    if layer == "norm":
        return [f"layernorm.{kind}"]
    _, _, rest = name.partition(".")
    block, _, rest = rest.partition(".")
    new = f"encoder.layer.{block}"
    part = rest.rpartition(".")[0]
    if part == "attn.qkv":
        return [f"{new}.attention.attention.{x}.{kind}" for x in ("query", "key", "value")]
    if part == "attn.proj":
        return [f"{new}.attention.output.dense.{kind}"]
    if part in ("ls1", "ls2"):
        return [f"{new}.layer_scale{part[2:]}.lambda1"]
    return [f"{new}.{rest}"]


def _take(tensors: dict[str, Tensor], name: str) -> Tensor:
    try:
        return tensors.pop(name)
    except KeyError:
        raise EncoderError(f"the wheel's model has no tensor {name}") from None


def _check_shapes(state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, tensor in state.items():
        if tensor.shape != target[name].shape:
            raise EncoderError(
                f"{name} should be of shape {tuple(target[name].shape)}, not {tuple(tensor.shape)}"
            )
