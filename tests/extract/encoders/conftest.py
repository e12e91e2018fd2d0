"""Pictures, and small models with random weights saved to files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from sparc.common.errors import EncoderError
from sparc.extract.encoders import build_encoders, parse_spec


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch, tmp_path):
    """As on a machine without network: nothing is fetched, and no cache of the user is read."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Three RGB pictures of different sizes."""
    random = np.random.default_rng(0)
    shapes = [(48, 64, 3), (200, 120, 3), (33, 33, 3)]
    return [Image.fromarray(random.integers(0, 256, s, dtype=np.uint8)) for s in shapes]


@pytest.fixture(scope="session")
def build():
    """Build one encoder from the text of its spec, on the CPU."""

    def build(text: str):
        return build_encoders({"stream": parse_spec(text)}, torch.device("cpu"))["stream"]

    return build


@pytest.fixture(scope="session")
def save():
    """Save a model's weights; the suffix says how."""

    def save(model: nn.Module, path: Path) -> Path:
        state = {name: value.clone().contiguous() for name, value in model.state_dict().items()}
        if path.suffix == ".safetensors":
            save_file(state, path)
        else:
            torch.save(state, path)
        return path

    return save


@pytest.fixture(scope="session")
def assert_same():
    """Two batches of features agree to 1e-5 of their size, row by row."""

    def assert_same(actual: torch.Tensor, expected: torch.Tensor) -> None:
        assert actual.dtype == torch.float32
        assert actual.shape == expected.shape
        assert torch.isfinite(actual).all()
        error = (actual - expected).norm(dim=1) / expected.norm(dim=1)
        assert error.max() < 1e-5

    return assert_same


CLIP = {
    "embed_dim": 16,
    "vision_cfg": {
        "image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16,
    },
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}  # fmt: skip


@pytest.fixture(scope="session")
def clip_config():
    """The architecture of a small CLIP, as open_clip configures it."""
    return CLIP


@pytest.fixture(scope="session")
def clip_weights(tmp_path_factory) -> Path:
    """Random weights of the small CLIP."""
    import open_clip

    torch.manual_seed(0)
    state = open_clip.model.CLIP(**CLIP).state_dict()
    file = tmp_path_factory.mktemp("clip") / "clip.safetensors"
    save_file({name: value.clone().contiguous() for name, value in state.items()}, file)
    return file


@pytest.fixture(scope="session")
def save_clip(clip_weights):
    """Write the small CLIP as a folder of open_clip, with other settings than its weights'."""

    def write(folder, *, text=(), vision=(), preprocess=(), **more):
        folder.mkdir(exist_ok=True)
        config = {
            **CLIP,
            **more,
            "text_cfg": {**CLIP["text_cfg"], **dict(text)},
            "vision_cfg": {**CLIP["vision_cfg"], **dict(vision)},
        }
        document = {"model_cfg": config, "preprocess_cfg": dict(preprocess)}
        (folder / "open_clip_config.json").write_text(json.dumps(document))
        (folder / "open_clip_model.safetensors").write_bytes(clip_weights.read_bytes())
        return folder

    return write


@pytest.fixture(scope="session")
def refused(build):
    """Check that an encoder is refused in one printable line that says why."""

    def refused(spec: str, message: str) -> None:
        with pytest.raises(EncoderError, match=message) as caught:
            build(spec)
        assert str(caught.value).isprintable()
        assert str(caught.value).startswith(f"cannot build {spec}: ")

    return refused


@pytest.fixture(scope="session")
def write_json():
    """Write a JSON document, or change some keys of one that is there."""

    def write(path: Path, content, *, update: bool = False) -> None:
        before = json.loads(path.read_text()) if update else {}
        path.write_text(json.dumps({**before, **content}))

    return write
