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

CLIP = {
    "embed_dim": 16,
    "vision_cfg": {
        "image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16,
    },
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}  # fmt: skip
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


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    model = open_clip.model.CLIP(**CLIP)
    return {name: value.clone().contiguous() for name, value in model.state_dict().items()}


def write_json(path, content):
    path.write_text(json.dumps(content))


def write_code(folder, ran):
    """What makes the Auto classes of transformers import `evil.py`."""
    folder.mkdir(exist_ok=True)
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nC = M = T = object\n")
    maps = {"AutoConfig": "evil.C", "AutoModel": "evil.M"}
    write_json(folder / "config.json", {"model_type": "evil", "auto_map": maps})
    write_json(folder / "tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.T", None]}})


def write_clip(folder, weights, *, vision=(), **text):
    folder.mkdir(exist_ok=True)
    config = {**CLIP, "text_cfg": {**CLIP["text_cfg"], **text}}
    config["vision_cfg"] = {**CLIP["vision_cfg"], **dict(vision)}
    write_json(folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": {}})
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


def write_bert(folder, save_tokenizer):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=16,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    save_tokenizer(folder, WORDS, model_max_length=8)
    return folder


def refused(build, spec, message):
    with pytest.raises(EncoderError, match=message) as caught:
        build(spec)
    assert str(caught.value).isprintable()
    assert str(caught.value).startswith(f"cannot build {spec}: ")


HOSTILE = {
    "settings": {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"trust_remote_code": True}},
    "tokenizer": {"hf_tokenizer_name": "x"},
    "model": {"hf_model_name": "."},
    "model elsewhere": {"hf_model_name": "../elsewhere"},
}


@pytest.mark.parametrize("kind", ["settings", "model"])
def test_a_command_with_a_terminal_runs_no_code_of_a_folder(kind, ran, weights, tmp_path):
    text = HOSTILE[kind] if kind == "settings" else {"hf_model_name": str(tmp_path / "clip")}
    write_clip(tmp_path / "clip", weights, **text)
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
def test_no_code_of_an_open_clip_folder_runs(kind, tower, ran, weights, tmp_path, build):
    write_clip(tmp_path / "clip", weights, **HOSTILE[kind])
    write_code(tmp_path / "clip", ran)
    write_code(tmp_path / "elsewhere", ran)
    spec = f"open_clip:local-dir:{tmp_path}/clip#{tower}"
    if kind == "tokenizer" and tower == "image":
        assert build(spec).dim == 16  # which has no use for a tokenizer
    else:
        refused(build, spec, "trust_remote_code|never runs code|refers to something elsewhere")


def test_no_code_of_a_hub_repository_runs(ran, weights, tmp_path, build):
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
        write_clip(snapshot, weights, **text)
        write_code(snapshot, ran)
        refused(build, "open_clip:hf-hub:org/clip#text", message)


@pytest.mark.parametrize("trust", [True, None])
def test_nothing_called_inside_the_guard_can_run_code(trust, ran, tmp_path):
    write_code(tmp_path / "model", ran)
    for auto in (transformers.AutoConfig, transformers.AutoTokenizer, transformers.AutoModel):
        with pytest.raises((foreign.ModelRefusedError, ValueError)), foreign.no_foreign_code():
            auto.from_pretrained(str(tmp_path / "model"), trust_remote_code=trust)


def test_a_transformers_that_is_not_known_is_not_used(monkeypatch, tmp_path, build):
    from transformers import dynamic_module_utils

    monkeypatch.delattr(dynamic_module_utils, "get_class_in_module")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EncoderError, match=r"lacks get_class_in_module.*install another version"):
        build(f"transformers:{tmp_path}")


def test_code_of_a_transformers_folder_is_passed_over(ran, tmp_path, build, save_tokenizer):
    folder = write_bert(tmp_path / "bert", save_tokenizer)
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')\n")
    for name, maps in (
        ("config.json", {"AutoConfig": "evil.C", "AutoModel": "evil.M"}),
        ("tokenizer_config.json", {"AutoTokenizer": [None, "evil.T"]}),
    ):
        write_json(folder / name, {**json.loads((folder / name).read_text()), "auto_map": maps})
    assert build(f"transformers:{folder}").dim == 16
    write_json(folder / "config.json", {"model_type": "evil", "auto_map": maps})
    refused(build, f"transformers:{folder}", "never runs code|evil")


SETTINGS = {
    "attn_implementation": ({"attn_implementation": "org/kernel"}, "kernels from a hub"),
    "nested": ({"text_config": {"_attn_implementation": "org/kernel@v1"}}, "kernels from a hub"),
    "quantized": ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantized"),
    "weights": ({"transformers_weights": "../other/model.safetensors"}, "names weights elsewhere"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_reach_out_of_a_transformers_folder_are_refused(
    name, tmp_path, build, save_tokenizer
):
    folder = write_bert(tmp_path / "bert", save_tokenizer)
    more, message = SETTINGS[name]
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {**config, **more})
    refused(build, f"transformers:{folder}", message)


@pytest.mark.parametrize("library", ["transformers", "open_clip"])
def test_a_folder_of_links_pipes_and_devices_is_refused(
    library, tmp_path, weights, build, save_tokenizer
):
    folder = tmp_path / "model"
    if library == "transformers":
        write_bert(folder, save_tokenizer)
        spec, config, file = f"transformers:{folder}", "config.json", "model.safetensors"
    else:
        write_clip(folder, weights)
        spec = f"open_clip:local-dir:{folder}#text"
        config, file = "open_clip_config.json", "open_clip_model.safetensors"
    (folder / file).rename(tmp_path / "elsewhere.safetensors")
    (folder / file).symlink_to(tmp_path / "elsewhere.safetensors")
    refused(build, spec, "a link that leads out of the model's folder")
    (folder / file).unlink()
    os.mkfifo(folder / file)
    refused(build, spec, "is not a regular file")
    (folder / file).unlink()
    (folder / file).symlink_to("/dev/zero")
    refused(build, spec, "a link that leads out of the model's folder")
    (folder / file).unlink()
    (tmp_path / "elsewhere.safetensors").rename(folder / file)
    assert build(spec).dim == 16
    with (folder / config).open("r+") as opened:
        opened.truncate(200_000_000)
    refused(build, spec, "larger than any file of a model")
    (folder / config).write_text('{"a":' * 100_000)
    with pytest.raises(EncoderError):
        build(spec)
    write_json(folder / f"{file}.index.json", {"weight_map": {"a": "../../x.safetensors"}})
    (folder / config).write_text("{}")
    refused(build, spec, "names weights elsewhere")


def test_a_folder_of_the_hubs_own_cache_may_link_to_its_blobs(tmp_path, build, save_tokenizer):
    blobs, snapshot = tmp_path / "models--a--b/blobs", tmp_path / "models--a--b/snapshots/0123"
    blobs.mkdir(parents=True)
    for file in write_bert(tmp_path / "bert", save_tokenizer).iterdir():
        snapshot.mkdir(parents=True, exist_ok=True)
        file.rename(blobs / file.name)
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    assert build(f"transformers:{snapshot}").dim == 16


@pytest.mark.parametrize("suffix", [".bin", ".pth"])
def test_pickles_in_an_open_clip_folder_are_not_run(suffix, ran, tmp_path, weights, build):
    folder = write_clip(tmp_path / "clip", weights)
    (folder / "open_clip_model.safetensors").unlink()
    torch.save({"a": torch.zeros(1), "b": Evil()}, folder / f"open_clip_pytorch_model{suffix}")
    refused(build, f"open_clip:local-dir:{folder}#image", "more than tensors")
    (folder / f"open_clip_pytorch_model{suffix}").write_bytes(pickle.dumps(Evil()))
    refused(build, f"open_clip:local-dir:{folder}#image", "more than tensors")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripts_in_an_open_clip_folder_are_not_run(ran, tmp_path, weights, build):
    folder = write_clip(tmp_path / "clip", weights)
    (folder / "open_clip_model.safetensors").unlink()
    scripted = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
    scripted.save(str(folder / "open_clip_pytorch_model.bin"))
    refused(build, f"open_clip:local-dir:{folder}#image", "TorchScript")


@pytest.mark.parametrize("raw", [False, True])
def test_pickles_in_a_transformers_folder_are_not_run(raw, ran, tmp_path, build, save_tokenizer):
    folder = write_bert(tmp_path / "bert", save_tokenizer)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if raw:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    else:
        torch.save({**state, "evil": Evil()}, folder / "pytorch_model.bin")
    refused(build, f"transformers:{folder}", "more than tensors|safetensors")


def test_a_tower_of_timm_must_be_one_that_timm_has(tmp_path, weights, build):
    for name in ("hf-hub:org/model", "local-dir:../x", "no_such_model", 7):
        write_clip(tmp_path / "clip", weights, vision={"timm_model_name": name})
        spec = f"open_clip:local-dir:{tmp_path}/clip#image"
        refused(build, spec, "names a model that timm does not have")


@pytest.mark.parametrize(
    "change",
    [
        {"vision": {"layers": 10**9}},
        {"vision": {"width": 10**6}},
        {"vision": {"patch_size": 10**6}},
        {"layers": 2000, "width": 1, "heads": 1},
        {"vocab_size": 10**12},
        {"mlp_ratio": 1e9},
    ],
)
def test_a_tower_larger_than_its_weights_is_not_built(change, tmp_path, weights, build):
    write_clip(tmp_path / "clip", weights, **change)
    spec = f"open_clip:local-dir:{tmp_path}/clip#image"
    with (tmp_path / "clip/holes.bin").open("wb") as holes:
        holes.write(b"PK")
        holes.truncate(1 << 40)
    refused(build, spec, "tower that is larger than its weights|asks for .* layers")


def test_more_layers_than_any_model_are_not_built(tmp_path, build, save_tokenizer):
    folder = write_bert(tmp_path / "bert", save_tokenizer)
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {**config, "num_hidden_layers": 10**9})
    refused(build, f"transformers:{folder}", "asks for 1,000,000,000 layers")


@pytest.mark.parametrize("name", ["vocab_size", "intermediate_size", "max_position_embeddings"])
def test_a_text_model_larger_than_its_weights_is_not_built(name, tmp_path, build, save_tokenizer):
    folder = write_bert(tmp_path / "bert", save_tokenizer)
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {**config, name: 10**9})
    refused(build, f"transformers:{folder}", "values, which is larger than its weights")


@pytest.mark.parametrize(
    "change",
    [
        {"vision": {"image_size": 10**6}},
        {"vision": {"attentional_pool": True, "attn_pooler_queries": 10**9}},
        {"context_length": 100_000},
    ],
)
def test_a_tower_whose_other_settings_are_large_is_not_built(change, tmp_path, weights, build):
    write_clip(tmp_path / "clip", weights, **change)
    spec = f"open_clip:local-dir:{tmp_path}/clip#image"
    refused(build, spec, "values, which is larger than its weights")


def edited_tokenizer(folder, **changes):
    path = folder / "tokenizer.json"
    write_json(path, {**json.loads(path.read_text()), **changes})


def replace(pattern, content):
    return {"type": "Replace", "pattern": pattern, "content": content}


@pytest.mark.parametrize(
    "steps",
    [
        [replace({"String": "a"}, "a" * 100)] * 8,
        [replace({"Regex": "."}, "a" * 100)] * 8,
        [replace({"String": ""}, "a")] * 40,
        [{"type": "Sequence", "normalizers": [replace({"String": "a"}, "a" * 50)] * 2}],
    ],
)
def test_a_tokenizer_that_blows_texts_up_is_refused(steps, tmp_path, build, save_tokenizer):
    folder = write_bert(tmp_path / "bert", save_tokenizer)
    edited_tokenizer(folder, normalizer={"type": "Sequence", "normalizers": steps})
    refused(build, f"transformers:{folder}", "makes texts more than 1000 times longer")


def test_tokenizers_may_normalize_as_known_ones_do(tmp_path, build, save_tokenizer):
    folder = write_bert(tmp_path / "bert", save_tokenizer)
    steps = [{"type": "NFKD"}, replace({"String": " "}, "▁"), replace({"Regex": " {2,}"}, " ")]
    edited_tokenizer(folder, normalizer={"type": "Sequence", "normalizers": steps})
    build(f"transformers:{folder}").encode(["a cat"])


@pytest.mark.parametrize("kind", ["expression", "number"])
def test_a_text_that_makes_an_encoder_fail_is_an_error_in_one_line(
    kind, tmp_path, build, save_tokenizer
):
    folder = write_bert(tmp_path / "bert", save_tokenizer)
    if kind == "expression":
        edited_tokenizer(folder, normalizer=replace({"Regex": "^(a|aa)+$"}, "c"))
    else:
        model = json.loads((folder / "tokenizer.json").read_text())["model"]
        model["vocab"]["cat"] = 2**31
        edited_tokenizer(folder, model=model)
    encoder = build(f"transformers:{folder}")
    text = "a" * 200 + "c" if kind == "expression" else "a cat"
    for use in (encoder.encode, encoder.count_cut):
        if kind == "expression" or use == encoder.encode:
            with pytest.raises(EncoderError, match="cannot encode a text"):
                use([text])


def test_a_limit_that_is_no_number_is_an_error_in_one_line(tmp_path, build, save_tokenizer):
    folder = write_bert(tmp_path / "bert", save_tokenizer)
    write_json(folder / "tokenizer_config.json", {"model_max_length": "\x1b[2J"})
    refused(build, f"transformers:{folder}", "not supported between")


def test_an_adapters_folder_is_refused(tmp_path, build, save_tokenizer):
    folder = write_bert(tmp_path / "bert", save_tokenizer)
    write_json(folder / "adapter_config.json", {"base_model_name_or_path": "org/other"})
    refused(build, f"transformers:{folder}", "holds an adapter")


def test_known_settings_of_tokenizers_pass_and_a_text_model_inside_the_folder_is_read(
    tmp_path, build, save_tokenizer, monkeypatch
):
    folder = tmp_path / "clip"
    folder.mkdir()
    text = write_bert(folder / "bert", save_tokenizer)
    save_tokenizer(folder, WORDS, model_max_length=8)
    config = {
        **CLIP,
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
