"""Pictures, and small models with random weights saved to files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

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

    def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
        assert found.dtype == torch.float32
        assert found.shape == expected.shape
        assert torch.isfinite(found).all()
        error = (found - expected).norm(dim=1) / expected.norm(dim=1)
        assert error.max() < 1e-5

    return assert_same
