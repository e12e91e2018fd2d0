import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from timm.models.vision_transformer import VisionTransformer

from sparc.common.errors import EncoderError
from sparc.pipelines.demo.conversion import match_by_order, tensors_of_onnx, vit_for_timm

FOLDED = ("query", "key", "value", "attention/output/dense", "mlp/fc1", "mlp/fc2")


@pytest.fixture
def state():
    """The state dict of a small timm ViT with layer scale, as DINOv2 has it."""
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=28, patch_size=14, embed_dim=8, depth=2, num_heads=2, num_classes=0, init_values=1
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model.state_dict()


def exported(state, *, extra: dict[str, np.ndarray] | None = None) -> onnx.ModelProto:
    """The same model as an exporter writes it: matrices folded, turned and without their names."""
    constants: dict[str, np.ndarray] = {}
    nodes = []

    def fold(layer: str, matrix: torch.Tensor) -> None:
        name = f"onnx::MatMul_{len(nodes)}"
        constants[name] = matrix.numpy().T
        nodes.append(
            onnx.helper.make_node("MatMul", ["x", name], ["y"], name=f"/backbone/{layer}/MatMul")
        )

    constants["backbone.embeddings.cls_token"] = state["cls_token"].numpy()
    constants["onnx::Concat_1"] = state["pos_embed"][:, :1].numpy()
    constants["onnx::Reshape_2"] = state["pos_embed"][:, 1:].numpy()
    for kind in ("weight", "bias"):
        projection = state[f"patch_embed.proj.{kind}"].numpy()
        constants[f"backbone.embeddings.patch_embeddings.projection.{kind}"] = projection
        constants[f"backbone.layernorm.{kind}"] = state[f"norm.{kind}"].numpy()
    for block in range(2):
        old, new = f"blocks.{block}", f"backbone.encoder.layer.{block}"
        path = f"encoder/layer.{block}"
        for part in ("key", "value", "query"):
            third = ("query", "key", "value").index(part)
            rows = slice(8 * third, 8 * (third + 1))
            fold(f"{path}/attention/attention/{part}", state[f"{old}.attn.qkv.weight"][rows])
            bias = state[f"{old}.attn.qkv.bias"][rows].numpy()
            constants[f"{new}.attention.attention.{part}.bias"] = bias
        fold(f"{path}/attention/output/dense", state[f"{old}.attn.proj.weight"])
        bias = state[f"{old}.attn.proj.bias"].numpy()
        constants[f"{new}.attention.output.dense.bias"] = bias
        for layer in ("fc1", "fc2"):
            fold(f"{path}/mlp/{layer}", state[f"{old}.mlp.{layer}.weight"])
            constants[f"{new}.mlp.{layer}.bias"] = state[f"{old}.mlp.{layer}.bias"].numpy()
        for norm in ("norm1", "norm2"):
            for kind in ("weight", "bias"):
                constants[f"{new}.{norm}.{kind}"] = state[f"{old}.{norm}.{kind}"].numpy()
        for scale in (1, 2):
            gamma = state[f"{old}.ls{scale}.gamma"].numpy()
            constants[f"{new}.layer_scale{scale}.lambda1"] = gamma
    constants["decoder.final_conv.bias"] = np.zeros(1, np.float32)
    constants.update(extra or {})
    tensors = [numpy_helper.from_array(v.copy(), name) for name, v in constants.items()]
    graph = onnx.helper.make_graph(nodes, "graph", [], [], tensors)
    return onnx.helper.make_model(graph)


def test_every_tensor_of_an_export_finds_its_place(state):
    converted = vit_for_timm(tensors_of_onnx(exported(state)), state)
    assert list(converted) == list(state)
    for name, tensor in state.items():
        torch.testing.assert_close(converted[name], tensor, rtol=0, atol=0)


def test_a_constant_of_no_layer_is_refused(state):
    model = exported(state, extra={"onnx::Add_9": np.zeros(3, np.float32)})
    with pytest.raises(EncoderError, match="onnx::Add_9"):
        tensors_of_onnx(model)


def test_a_tensor_that_is_left_over_is_refused(state):
    tensors = tensors_of_onnx(exported(state))
    with pytest.raises(EncoderError, match=r"no place for head\.weight"):
        vit_for_timm({**tensors, "head.weight": torch.zeros(1)}, state)


def test_a_missing_tensor_is_refused(state):
    tensors = tensors_of_onnx(exported(state))
    del tensors["encoder.layer.1.attention.attention.key.weight"]
    with pytest.raises(EncoderError, match="no tensor encoder"):
        vit_for_timm(tensors, state)


def test_another_shape_is_refused(state):
    tensors = tensors_of_onnx(exported(state))
    tensors["embeddings.position_embeddings"] = torch.zeros(1, 10, 8)
    with pytest.raises(EncoderError, match=r"pos_embed should be of shape \(1, 5, 8\)"):
        vit_for_timm(tensors, state)


def test_tensors_are_matched_by_order():
    source = {"stem.0.weight": torch.ones(3, 2), "stem.1.running_mean": torch.full((3,), 2.0)}
    target = {"conv.weight": torch.zeros(3, 2), "bn.running_mean": torch.zeros(3)}
    matched = match_by_order(source, target)
    assert list(matched) == list(target)
    assert matched["conv.weight"] is source["stem.0.weight"]
    assert matched["bn.running_mean"] is source["stem.1.running_mean"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"a.weight": torch.zeros(2, 3), "b.bias": torch.zeros(2)}, "a.weight should be of shape"),
        ({"a.bias": torch.zeros(3, 2), "b.bias": torch.zeros(2)}, "x.weight is no a.bias"),
        ({"a.weight": torch.zeros(3, 2)}, "2 tensors do not fit a model of 1"),
    ],
)
def test_what_does_not_match_is_refused(target, message):
    source = {"x.weight": torch.zeros(3, 2), "y.bias": torch.zeros(2)}
    with pytest.raises(EncoderError, match=message):
        match_by_order(source, target)
