"""Small encoders with random weights, and a model that reads them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from sparc.extract.encoders import build_encoders, parse_spec
from sparc.extract.encoders.timm.models import TimmImageEncoder, TimmModel
from sparc.train import ModelConfig, Sparc, StreamShape, create_model

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture(scope="session")
def timm_encoder() -> Callable[..., TimmImageEncoder]:
    """A timm model with random weights as an encoder; `options` shrink it."""

    def make(name: str, query: str = "", **options: Any) -> TimmImageEncoder:
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=0, **options).eval().requires_grad_(False)
        spec = parse_spec(f"timm:{name}{query}")
        return TimmImageEncoder(spec, TimmModel(model, "digest", "definition"), CPU)

    return make


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory) -> Callable[..., Path]:
    """The random weights of a timm model, as a file."""

    def make(name: str, **options: Any) -> Path:
        torch.manual_seed(0)
        state = timm.create_model(name, num_classes=0, **options).state_dict()
        path = tmp_path_factory.mktemp("weights") / f"{name}.safetensors"
        save_file({key: value.contiguous() for key, value in state.items()}, path)
        return path

    return make


@pytest.fixture(scope="session")
def build_encoder() -> Callable[[str], Any]:
    def build(text: str) -> Any:
        return build_encoders({"stream": parse_spec(text)}, CPU)["stream"]

    return build


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Sparc]:
    def make(latents: int = 64, k: int = 8, selection: str = "global", **dims: int) -> Sparc:
        shapes = tuple(StreamShape(name, dim) for name, dim in dims.items())
        config = ModelConfig(streams=shapes, latents=latents, k=k, selection=selection)
        return create_model(config, seed=3).eval()

    return make
