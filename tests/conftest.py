"""What the tests of several stages share."""

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from object_store import bucket, object_store

__all__ = ["bucket", "object_store"]  # fixtures

# A busy machine must not fail a test.
settings.register_profile(
    "no clock",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("no clock")

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
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(constants, "HF_HUB_OFFLINE", True)
            done = runner.invoke(importlib.import_module(f"sparc.{stage}.cli").app, command)
        for number, handler in handlers.items():
            signal.signal(number, handler)
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


@pytest.fixture(scope="session")
def save_bert(save_tokenizer) -> Callable[..., Path]:
    """Write a BERT with random weights that knows some words; `settings` override its own."""
    import torch
    from transformers import BertConfig, BertModel

    def save(folder, words, *, model_max_length=8, **settings):
        torch.manual_seed(0)
        small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        sizes = {"intermediate_size": 16, "max_position_embeddings": 16}
        config = BertConfig(vocab_size=len(words), **{**small, **sizes, **settings})
        BertModel(config).save_pretrained(folder)
        save_tokenizer(folder, words, model_max_length=model_max_length)
        return folder

    return save


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory: pytest.TempPathFactory, call: Call) -> Path:
    """A folder with a small one of each kind, to be copied before it is changed.

    `cache`, `compressed` (a cache of compressed streams, with masks), `run`, `begun`, `sweep`,
    `model` and `report`, which has a search index.
    """
    from sparc.common.cache.arrays import write_arrays
    from sparc.common.cache.tables import CLASSES

    folder = tmp_path_factory.mktemp("artefacts")
    generator = np.random.default_rng(0)
    image = np.repeat(generator.normal(size=(24, 12)), 2, axis=0).astype(np.float32)
    text = image + generator.normal(size=image.shape).astype(np.float32) * 0.3
    text[7] = 0  # which is rejected
    classes = pa.table(
        {
            "class_id": range(4),
            "key": list("abcd"),
            "name": ["cat", "dog", "tree", "house"],
            "parent_id": [None, None, 0, 1],
            "depth": [1, 1, 2, 2],
        },
        schema=CLASSES,
    )
    write_arrays(
        folder / "cache",
        {"image": image, "text": text},
        modality={"text": "text"},
        captions=[f"a {'cat' if row % 2 else 'dog'} on a mat" for row in range(len(image))],
        sample_ids=[f"picture {row // 2}" for row in range(len(image))],
        label_ids=[[row // 2 % 4] for row in range(len(image))],
        classes=classes,
        rows_per_chunk=16,
    )
    _write_compressed(folder / "compressed", image, text, classes)
    small = ("--latents=16", "--k=4", "--auxk=2", "--batch-size=8", "--steps=6", "--device=cpu")
    small += ("--checkpoint-every=3", "--log-every=2", "--kernels=torch")
    fast = ("--device=cpu", "--no-untrained", "--no-permuted")
    cache = folder / "cache"
    (folder / "grid.toml").write_text("k = [2, 4]\n")
    for command in (
        ("train", "run", cache, folder / "run", *small, f"--validation={cache}"),
        ("train", "run", cache, folder / "begun", *small),
        ("train", "run", cache, folder / "sweep", *small, f"--sweep={folder}/grid.toml"),
        ("analyze", "run", folder / "run", cache, folder / "report", *fast),
        ("analyze", "search", folder / "report", "--row=1", "--in=image"),
    ):
        done = call(*command)
        assert done.returncode == 0, done.stderr
    (folder / "begun/model.safetensors").unlink()
    (folder / "model").mkdir()
    newest = max((folder / "run/checkpoints").iterdir())
    for name in ("config.json", "model.safetensors"):
        (folder / "model" / name).write_bytes((newest / name).read_bytes())
    return folder


def _write_compressed(
    where: Path, image: np.ndarray, text: np.ndarray, classes: pa.Table, *, rows: int = 16
) -> None:
    from sparc.common.cache.manifest import Manifest
    from sparc.common.cache.tables import MASKS, ROWS
    from sparc.common.cache.writer import ChunkWriter
    from sparc.common.streams.info import StreamInfo
    from sparc.common.streams.origin import StreamOrigin

    pictures = [f"picture {row // 2}" for row in range(rows)]
    table = pa.table(
        {
            "row": range(rows),
            "sample_id": pictures,
            "image": [f"{picture}.png" for picture in pictures],
            "caption": [f"a cat on mat {row}" if row != 7 else None for row in range(rows)],
            "label_ids": [[row // 2 % 4] for row in range(rows)],
        },
        schema=ROWS,
    )
    masks = pa.table(
        {
            "sample_id": pictures[::2],
            "class_id": [mask % 4 for mask in range(rows // 2)],
            "height": [6] * (rows // 2),
            "width": [9] * (rows // 2),
            "counts": [[mask, 5, 49 - mask] for mask in range(rows // 2)],
        },
        schema=MASKS,
    )
    manifest = Manifest(
        dataset=str(where.parent / "pictures"),
        dataset_format="folder",
        split="test",
        rows=table,
        classes=classes,
        masks=masks,
    )
    writer = ChunkWriter.open(where, manifest, rows_per_chunk=8)
    origin = StreamOrigin(spec="timm:vit", weights_sha256="a1" * 32, input_size=(64, 64))
    images = StreamInfo(
        name="image", modality="image", dim=12, dtype="float32", keep_bits=10, compression="lz4",
        origin=origin,
    )  # fmt: skip
    texts = StreamInfo(
        name="text", modality="text", dim=12, dtype="float16", compression="zstd", origin=origin
    )
    for stream in (images, texts):
        for chunk in writer.open_stream(stream):
            span = slice(8 * chunk, 8 * chunk + 8)
            if stream is images:
                writer.write("image", chunk, image[span])
            else:
                lacking = {7: "no caption"} if chunk == 0 else {}
                writer.write("text", chunk, text[span], lacking, cut=3 + chunk)
    writer.finish()
