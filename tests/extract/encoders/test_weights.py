"""Digests of weights, and which weights files are read."""

import hashlib
import json
import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sparc.common.errors import EncoderError
from sparc.extract.encoders.weights import load_weights, tensor_shapes, weights_digest


class Evil:
    def __reduce__(self):
        return os.system, ("touch ran",)


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def test_the_digest_follows_its_definition():
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0]]))
        model.bias.zero_()
    bias = hashlib.sha256(bytes(4)).hexdigest()
    weight = hashlib.sha256(model.weight.detach().numpy().tobytes()).hexdigest()
    lines = f"bias torch.float32 (1,) {bias}\nweight torch.float32 (1, 2) {weight}\n"
    assert weights_digest(model) == hashlib.sha256(lines.encode()).hexdigest()


def test_the_digest_sees_values_names_types_and_buffers():
    first = weights_digest(small())
    assert weights_digest(small()) == first
    changed = small()
    changed[1].running_mean[0] += 1e-6
    renamed = nn.Sequential()
    for name, module in zip("ab", small(), strict=True):
        renamed.add_module(name, module)
    assert len({first, *map(weights_digest, (changed, renamed, small().double()))}) == 4


def test_the_digest_does_not_depend_on_the_layout_in_memory():
    turned = small()
    turned[0].weight = nn.Parameter(turned[0].weight.detach().T.contiguous().T)
    assert not turned[0].weight.is_contiguous()
    assert weights_digest(turned) == weights_digest(small())


def test_bfloat16_and_scalars_have_a_digest():
    model = small().bfloat16()
    assert model[1].num_batches_tracked.ndim == 0
    assert len(weights_digest(model)) == 64


def test_tensors_can_be_left_out():
    changed = small()
    with torch.no_grad():
        changed[0].bias += 1
    without = [weights_digest(m, without=lambda n: n == "0.bias") for m in (small(), changed)]
    assert without[0] == without[1] != weights_digest(small())


def test_shapes_in_files(tmp_path):
    state = small().state_dict()
    expected = {name: tuple(value.shape) for name, value in state.items()}
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.pth")
    torch.save({"epoch": 1, "model": state}, tmp_path / "b.pt")
    for name in ("a.safetensors", "a.pth", "b.pt"):
        assert tensor_shapes(tmp_path / name) == expected


def test_files_that_run_code_are_refused_unopened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.zeros(1), "more": Evil()}, "evil.pth")
    with pytest.raises(EncoderError, match="more than tensors"):
        tensor_shapes(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_archives_are_refused(tmp_path):
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / "scripted.pt"))
    with pytest.raises(EncoderError, match="TorchScript"):
        tensor_shapes(tmp_path / "scripted.pt")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.safetensors", b"not safetensors at all", "not a readable safetensors"),
        ("a.safetensors", b"", "not a readable safetensors"),
        ("a.pth", b"garbage", "more than tensors|not a readable"),
        ("a.pth", b"", "not a readable"),
        ("a.onnx", b"", "a weights file ends in"),
    ],
)
def test_damaged_and_foreign_files_are_refused(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EncoderError, match=message):
        tensor_shapes(tmp_path / name)


@pytest.mark.parametrize(
    ("length", "tensors"),
    [
        (1 << 62, {}),
        (None, {"a": {"dtype": "F32", "shape": [1 << 60], "data_offsets": [0, 4]}}),
        (None, {"a": {"dtype": "F32", "shape": [1 << 32, 1 << 32], "data_offsets": [0, 4]}}),
        (None, {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}),
        (None, {"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}),
        (None, {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}),
        (None, {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}),
        (None, {n: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for n in "ab"}),
        (None, {n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in "ab"}),
    ],
)
def test_headers_of_safetensors_that_lie_are_refused(length, tensors, tmp_path):
    header = json.dumps(tensors).encode()
    size = len(header) if length is None else length
    (tmp_path / "a.safetensors").write_bytes(size.to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(EncoderError, match="not a readable safetensors"):
        tensor_shapes(tmp_path / "a.safetensors")


def test_a_file_without_weights_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"epoch": 1}, tmp_path / "empty.pt")
    with pytest.raises(EncoderError, match="no state_dict"):
        tensor_shapes(tmp_path / "list.pt")
    with pytest.raises(EncoderError, match="no weights"):
        tensor_shapes(tmp_path / "empty.pt")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_the_tensors_of_a_weights_file_are_read(tmp_path, suffix):
    file = tmp_path / f"weights{suffix}"
    state = small().state_dict()
    if suffix == ".pt":
        torch.save({"state_dict": state}, file)
    else:
        save_file(state, file)
    tensors = load_weights(file)
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensors[name], value) for name, value in state.items())
    file.write_bytes(b"damaged")
    with pytest.raises(EncoderError, match=r"is not a readable|holds more than tensors"):
        load_weights(file)
