"""What the tests of several stages share."""

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def call_process() -> Call:
    """Run a command, such as `("train", "inspect", folder)`, as a process of one thread."""

    def call(stage, *arguments):
        return subprocess.run(
            [sys.executable, "-m", f"sparc.{stage}.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "100"},
            timeout=240,
        )

    return call


@pytest.fixture(scope="session")
def call() -> Call:
    """The same in this process, which saves the seconds that a process takes to import PyTorch.

    That a command imports all that it needs is for `call_process` to show, once a command.
    """
    from huggingface_hub import constants
    from typer.testing import CliRunner

    runner = CliRunner(env={"COLUMNS": "100"})

    def call(stage, *arguments):
        command = list(map(str, arguments))
        handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(constants, "HF_HUB_OFFLINE", True)
            done = runner.invoke(importlib.import_module(f"sparc.{stage}.cli").app, command)
        for each, handler in handlers.items():
            signal.signal(each, handler)
        if not isinstance(done.exception, SystemExit | None):
            raise done.exception  # a user would see its traceback
        return subprocess.CompletedProcess(command, done.exit_code, done.stdout, done.stderr)

    return call


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
def save_tokenizer() -> Callable[..., None]:
    """Write a tokenizer that knows some words; the first four are its special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    def save(folder, words, **limits):
        numbers = {word: number for number, word in enumerate(words)}
        tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
            sep_token="[SEP]", **limits,
        ).save_pretrained(folder)  # fmt: skip

    return save
