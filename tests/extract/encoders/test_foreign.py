"""Folders of models from someone who means harm: no code of theirs runs, nothing else is read."""

import builtins
import json
import os
import pickle
import pty
import subprocess
import sys

import open_clip
import pytest
import torch
import transformers
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load_file, save_file

from sparc.common.errors import EncoderError
from sparc.extract.encoders import foreign

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat"]


class Evil:
    """Pickled, it makes the file `ran`; so does every Python file of a hostile folder."""

    def __reduce__(self):
        return os.system, ("touch ran",)


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """The file that appears if anything hostile runs; who is asked says yes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(builtins, "input", lambda *_: (tmp_path / "asked").touch() or "y")
    yield tmp_path / "ran"
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "asked").exists()


def write_code(folder, ran):
    """What makes the Auto classes of transformers import `evil.py`."""
    folder.mkdir(exist_ok=True)
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nC = M = T = object\n")
    maps = {"AutoConfig": "evil.C", "AutoModel": "evil.M"}
    config = {"model_type": "evil", "auto_map": maps}
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = {"auto_map": {"AutoTokenizer": ["evil.T", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))


HOSTILE = {
    "settings": {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"trust_remote_code": True}},
    "tokenizer": {"hf_tokenizer_name": "x"},
    "model": {"hf_model_name": "."},
    "model elsewhere": {"hf_model_name": "../elsewhere"},
}


@pytest.mark.parametrize("kind", ["settings", "model"])
def test_a_command_with_a_terminal_runs_no_code_of_a_folder(kind, ran, save_clip, tmp_path):
    text = HOSTILE[kind] if kind == "settings" else {"hf_model_name": str(tmp_path / "clip")}
    save_clip(tmp_path / "clip", text=text)
    write_code(tmp_path / "clip", ran)
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "pictures/a.png")
    (tmp_path / "pictures/a.txt").write_text("a cat")
    terminal, stdin = pty.openpty()
    os.write(terminal, b"y\n" * 20)
    try:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "sparc.extract.cli", "run", "pictures", "cache"),
                *("--device", "cpu", "--stream", "words=open_clip:local-dir:clip#text"),
            ],
            stdin=stdin,
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            timeout=120,
        )
    finally:
        os.close(terminal)
        os.close(stdin)
    assert done.returncode == 2
    assert done.stdout == ""
    *_, last = done.stderr.splitlines()
    assert last.startswith("error: cannot build open_clip:local-dir:")
    assert "Traceback" not in done.stderr
    assert "?" not in done.stderr


@pytest.mark.parametrize("tower", ["image", "text"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_no_code_of_an_open_clip_folder_runs(kind, tower, ran, save_clip, refused, build, tmp_path):
    save_clip(tmp_path / "clip", text=HOSTILE[kind])
    write_code(tmp_path / "clip", ran)
    write_code(tmp_path / "elsewhere", ran)
    spec = f"open_clip:local-dir:{tmp_path}/clip#{tower}"
    if kind == "tokenizer" and tower == "image":
        assert build(spec).dim == 16  # which has no use for a tokenizer
    else:
        refused(spec, "trust_remote_code|never runs code|refers to something elsewhere")


def test_no_code_of_a_hub_repository_runs(ran, save_clip, refused, tmp_path):
    snapshot = tmp_path / "hub/models--org--clip/snapshots/0123"
    snapshot.mkdir(parents=True)
    (tmp_path / "hub/models--org--clip/refs").mkdir()
    (tmp_path / "hub/models--org--clip/refs/main").write_text("0123")
    assert str(tmp_path / "hub") == constants.HF_HUB_CACHE
    for text, message in (
        (HOSTILE["settings"], "trust_remote_code"),
        ({"hf_tokenizer_name": "org/clip"}, "never runs code"),
        ({"hf_tokenizer_name": "org/other"}, r"hf_tokenizer_name: org/other"),
        ({"hf_model_name": "org/clip"}, "never runs code"),
        ({"hf_model_name": str(tmp_path / "elsewhere")}, "refers to something elsewhere"),
    ):
        save_clip(snapshot, text=text)
        write_code(snapshot, ran)
        refused("open_clip:hf-hub:org/clip#text", message)


@pytest.mark.parametrize("trust", [True, None])
def test_nothing_called_inside_the_guard_can_run_code(trust, ran, tmp_path):
    write_code(tmp_path / "model", ran)
    for auto in (transformers.AutoConfig, transformers.AutoTokenizer, transformers.AutoModel):
        with pytest.raises((foreign.ModelRefusedError, ValueError)), foreign.no_foreign_code():
            auto.from_pretrained(str(tmp_path / "model"), trust_remote_code=trust)


def test_a_transformers_that_is_not_known_is_not_used(build, monkeypatch, tmp_path):
    from transformers import dynamic_module_utils

    monkeypatch.delattr(dynamic_module_utils, "get_class_in_module")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EncoderError, match=r"lacks get_class_in_module.*install another version"):
        build(f"transformers:{tmp_path}")


def test_code_of_a_transformers_folder_is_passed_over(
    ran, save_bert, refused, write_json, build, tmp_path
):
    folder = save_bert(tmp_path / "bert", WORDS)
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')\n")
    for name, maps in (
        ("config.json", {"AutoConfig": "evil.C", "AutoModel": "evil.M"}),
        ("tokenizer_config.json", {"AutoTokenizer": [None, "evil.T"]}),
    ):
        write_json(folder / name, {"auto_map": maps}, update=True)
    assert build(f"transformers:{folder}").dim == 16
    write_json(folder / "config.json", {"model_type": "evil", "auto_map": maps})
    refused(f"transformers:{folder}", "never runs code|evil")


SETTINGS = {
    "attn_implementation": ({"attn_implementation": "org/kernel"}, "kernels from a hub"),
    "nested": ({"text_config": {"_attn_implementation": "org/kernel@v1"}}, "kernels from a hub"),
    "quantized": ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantized"),
    "weights": ({"transformers_weights": "../other/model.safetensors"}, "names weights elsewhere"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_reach_out_of_a_transformers_folder_are_refused(
    name, save_bert, refused, write_json, tmp_path
):
    folder = save_bert(tmp_path / "bert", WORDS)
    more, message = SETTINGS[name]
    write_json(folder / "config.json", more, update=True)
    refused(f"transformers:{folder}", message)


@pytest.mark.parametrize("library", ["transformers", "open_clip"])
def test_a_folder_of_links_pipes_and_devices_is_refused(
    library, save_clip, save_bert, refused, write_json, build, tmp_path
):
    folder = tmp_path / "model"
    if library == "transformers":
        save_bert(folder, WORDS)
        spec, config, file = f"transformers:{folder}", "config.json", "model.safetensors"
    else:
        save_clip(folder)
        spec = f"open_clip:local-dir:{folder}#text"
        config, file = "open_clip_config.json", "open_clip_model.safetensors"
    (folder / file).rename(tmp_path / "elsewhere.safetensors")
    (folder / file).symlink_to(tmp_path / "elsewhere.safetensors")
    refused(spec, "a link that leads out of the model's folder")
    (folder / file).unlink()
    os.mkfifo(folder / file)
    refused(spec, "is not a regular file")
    (folder / file).unlink()
    (folder / file).symlink_to("/dev/zero")
    refused(spec, "a link that leads out of the model's folder")
    (folder / file).unlink()
    (tmp_path / "elsewhere.safetensors").rename(folder / file)
    assert build(spec).dim == 16
    with (folder / config).open("r+") as opened:
        opened.truncate(200_000_000)
    refused(spec, "larger than any file of a model")
    (folder / config).write_text('{"a":' * 100_000)
    with pytest.raises(EncoderError):
        build(spec)
    write_json(folder / f"{file}.index.json", {"weight_map": {"a": "../../x.safetensors"}})
    (folder / config).write_text("{}")
    refused(spec, "names weights elsewhere")


def test_a_folder_of_the_hubs_own_cache_may_link_to_its_blobs(save_bert, build, tmp_path):
    blobs, snapshot = tmp_path / "models--a--b/blobs", tmp_path / "models--a--b/snapshots/0123"
    blobs.mkdir(parents=True)
    for file in save_bert(tmp_path / "bert", WORDS).iterdir():
        snapshot.mkdir(parents=True, exist_ok=True)
        file.rename(blobs / file.name)
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    assert build(f"transformers:{snapshot}").dim == 16


@pytest.mark.parametrize("suffix", [".bin", ".pth"])
def test_pickles_in_an_open_clip_folder_are_not_run(suffix, ran, save_clip, refused, tmp_path):
    folder = save_clip(tmp_path / "clip")
    (folder / "open_clip_model.safetensors").unlink()
    torch.save({"a": torch.zeros(1), "b": Evil()}, folder / f"open_clip_pytorch_model{suffix}")
    refused(f"open_clip:local-dir:{folder}#image", "more than tensors")
    (folder / f"open_clip_pytorch_model{suffix}").write_bytes(pickle.dumps(Evil()))
    refused(f"open_clip:local-dir:{folder}#image", "more than tensors")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripts_in_an_open_clip_folder_are_not_run(ran, save_clip, refused, tmp_path):
    folder = save_clip(tmp_path / "clip")
    (folder / "open_clip_model.safetensors").unlink()
    scripted = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
    scripted.save(str(folder / "open_clip_pytorch_model.bin"))
    refused(f"open_clip:local-dir:{folder}#image", "TorchScript")


@pytest.mark.parametrize("raw", [False, True])
def test_pickles_in_a_transformers_folder_are_not_run(raw, ran, save_bert, refused, tmp_path):
    folder = save_bert(tmp_path / "bert", WORDS)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if raw:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    else:
        torch.save({**state, "evil": Evil()}, folder / "pytorch_model.bin")
    refused(f"transformers:{folder}", "more than tensors|safetensors")


def test_a_tower_of_timm_must_be_one_that_timm_has(save_clip, refused, tmp_path):
    for name in ("hf-hub:org/model", "local-dir:../x", "no_such_model", 7):
        save_clip(tmp_path / "clip", vision={"timm_model_name": name})
        spec = f"open_clip:local-dir:{tmp_path}/clip#image"
        refused(spec, "names a model that timm does not have")


def test_an_adapters_folder_is_refused(save_bert, refused, write_json, tmp_path):
    folder = save_bert(tmp_path / "bert", WORDS)
    write_json(folder / "adapter_config.json", {"base_model_name_or_path": "org/other"})
    refused(f"transformers:{folder}", "holds an adapter")


def test_known_settings_of_tokenizers_pass_and_a_text_model_inside_the_folder_is_read(
    save_bert, write_json, clip_config, build, save_tokenizer, monkeypatch, tmp_path
):
    folder = tmp_path / "clip"
    folder.mkdir()
    text = save_bert(folder / "bert", WORDS)
    save_tokenizer(folder, WORDS, model_max_length=8)
    config = {
        **clip_config,
        "text_cfg": {
            "context_length": 8,
            "hf_model_name": "bert",
            "hf_tokenizer_name": "bert",
            "hf_proj_type": "linear",
            "tokenizer_kwargs": {"clean": "whitespace", "strip_sep_token": False},
        },
    }
    inside = {**config["text_cfg"], "hf_model_name": str(text), "hf_model_pretrained": False}
    model = open_clip.model.CustomTextCLIP(**{**config, "text_cfg": inside})
    state = {name: value.clone().contiguous() for name, value in model.state_dict().items()}
    write_json(folder / "open_clip_config.json", {"model_cfg": config})
    save_file(state, folder / "open_clip_model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    encoder = build(f"open_clip:local-dir:{folder}#text")
    tokens = torch.tensor([[2, 4, 5, 3, 0, 0, 0, 0]])
    with torch.inference_mode():
        expected = model.eval().encode_text(tokens)
    assert torch.allclose(encoder.encode(["a cat"]).features, expected, atol=1e-5)
