"""Small encoders with random weights, and how to run the pipelines as processes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def tiny_streams(tmp_path_factory) -> list[str]:
    """Options that name three encoders: two of pictures, one of captions."""
    import timm
    import torch
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel, BertTokenizerFast

    from sparc.pipelines.demo.scenes import compose

    folder = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    streams = []
    for name, model in (("vit", "test_vit"), ("net", "test_efficientnet")):
        path = folder / f"{name}.safetensors"
        save_file(timm.create_model(model, pretrained=False).state_dict(), path)
        streams.append(f"--stream={name}=timm:{model}@{path}?size=64")
    text = folder / "text"
    text.mkdir()
    words = {w for i in range(60) for c in compose(0, "train", i).captions for w in c.split()}
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(words)]
    (text / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    BertTokenizerFast(str(text / "vocab.txt")).save_pretrained(text)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(config).save_pretrained(text)
    return [*streams, f"--stream=text=transformers:{text}"]


@pytest.fixture(scope="session")
def pipeline_command() -> list[str]:
    """What begins every command line of `sparc-pipeline`."""
    return [sys.executable, "-m", "sparc.pipelines.cli"]


@pytest.fixture(scope="session")
def run_pipeline(pipeline_command) -> Run:
    """Run `sparc-pipeline` with some arguments to its end."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*pipeline_command, *map(str, arguments)], capture_output=True, text=True, timeout=240
        )

    return run


@pytest.fixture(scope="session")
def read_summary() -> Callable[[Path], dict[str, float | None]]:
    """The headline figures of a finished report."""

    def read(report: Path) -> dict[str, float | None]:
        summary: dict[str, float | None] = json.loads((report / "summary.json").read_text())
        return summary

    return read
