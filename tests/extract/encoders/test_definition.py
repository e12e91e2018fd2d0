"""What a digest of the definition sees: everything that changes features, and nothing else."""

import json

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from sparc.common.streams.origin import encoder_difference

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "Cat"]


@pytest.fixture
def architecture(tmp_path, clip_config):
    """Make open_clip know an architecture for the while."""
    known = dict(open_clip.factory._MODEL_CONFIGS)
    paths = list(open_clip.factory._MODEL_CONFIG_PATHS)

    def add(name, **changes):
        (tmp_path / f"{name}.json").write_text(json.dumps({**clip_config, **changes}))
        open_clip.add_model_config(tmp_path / f"{name}.json")

    yield add
    open_clip.factory._MODEL_CONFIGS.clear()
    open_clip.factory._MODEL_CONFIGS.update(known)
    open_clip.factory._MODEL_CONFIG_PATHS[:] = paths


def difference(build, first, second):
    difference = encoder_difference(build(first).origin, build(second).origin)
    return difference and difference.what


CHANGES = {
    "activation": ({"quick_gelu": True}, "image text"),
    "pooling": ({"vision": {"pool_type": "avg"}}, "image"),
    "pooling of text": ({"text": {"pool_type": "last"}}, "text"),
    "masking": ({"text": {"no_causal_mask": True}}, "text"),
    "activation of one tower": ({"vision": {"act_kwargs": {"approximate": "tanh"}}}, "image"),
    "preprocessing": ({"preprocess": {"mean": [0.5] * 3}}, "image"),
    "filling": ({"preprocess": {"fill_color": 255}}, "image"),
    "cleaning": ({"text": {"tokenizer_kwargs": {"clean": "whitespace"}}}, "text"),
    "nothing": ({"text": {"pad_id": 0}, "vision": {"mlp_ratio": 4.0}}, ""),
    "temperature": ({"init_logit_scale": 1.0}, ""),
}


@pytest.mark.parametrize("tower", ["image", "text"])
@pytest.mark.parametrize("name", CHANGES)
def test_an_open_clip_model_of_the_same_tensors(name, tower, save_clip, build, tmp_path):
    changes, towers = CHANGES[name]
    first = save_clip(tmp_path / "first")
    second = save_clip(tmp_path / "second", **changes)
    what = difference(build, *(f"open_clip:local-dir:{f}#{tower}" for f in (first, second)))
    expected = ("definition_sha256", "preprocessing") if tower in towers else (None,)
    assert what in expected


def test_only_the_place_of_the_weights_may_differ(
    clip_weights, save_clip, build, tmp_path, architecture, monkeypatch
):
    """A tag, a file and a folder of one model are one encoder; QuickGELU makes another."""
    architecture("sparc-a")
    architecture("sparc-a-quickgelu", quick_gelu=True)
    tags = {
        "plain": {"file": str(clip_weights)},
        "openai": {"file": str(clip_weights), "quick_gelu": True},
    }
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "sparc-a", tags)
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(clip_weights.read_bytes())
    folder = save_clip(tmp_path / "folder")
    quick_folder = save_clip(tmp_path / "quick", quick_gelu=True)
    plain = [f"sparc-a/{clip_weights}", f"sparc-a/{moved}", "sparc-a/plain", f"local-dir:{folder}"]
    quick = [f"sparc-a-quickgelu/{clip_weights}", "sparc-a/openai", f"local-dir:{quick_folder}"]
    for tower in ("image", "text"):
        origins = [
            [build(f"open_clip:{s}#{tower}").origin for s in each] for each in (plain, quick)
        ]
        assert {encoder_difference(a, b) for each in origins for a in each for b in each} == {None}
        different = {encoder_difference(a, b).what for a in origins[0] for b in origins[1]}
        assert different == {"definition_sha256"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"hidden_act": "relu"}, "definition_sha256"),
        ({"layer_norm_eps": 0.1}, "definition_sha256"),
        ({"words": [*WORDS[:5], "Cat", "cat"]}, "definition_sha256"),
        ({"transformers_version": "4.0.0", "_name_or_path": "elsewhere"}, None),
    ],
)
def test_a_transformers_model_of_the_same_tensors(
    settings, expected, build, tmp_path, save_bert, write_json
):
    first = save_bert(tmp_path / "first", WORDS)
    second = save_bert(tmp_path / "second", settings.get("words", WORDS))
    changes = {key: value for key, value in settings.items() if key != "words"}
    write_json(second / "config.json", changes, update=True)
    what = difference(build, f"transformers:{first}", f"transformers:{second}")
    assert what == expected


def test_a_tokenizer_of_the_same_vocabulary_that_splits_otherwise_is_another(
    build, tmp_path, save_bert
):
    from tokenizers import Tokenizer, normalizers

    first = save_bert(tmp_path / "first", WORDS)
    second = save_bert(tmp_path / "second", WORDS)
    tokenizer = Tokenizer.from_file(str(second / "tokenizer.json"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.save(str(second / "tokenizer.json"))
    what = difference(build, f"transformers:{first}", f"transformers:{second}")
    assert what == "definition_sha256"


def test_a_timm_model_is_its_architecture_size_and_pooling(build, tmp_path):
    import timm

    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    torch.manual_seed(0)
    for file in files[:1]:
        save_file(timm.create_model("test_vit").state_dict(), file)
    files[1].write_bytes(files[0].read_bytes())
    base = f"timm:test_vit@{files[0]}"
    assert difference(build, base, f"timm:test_vit@{files[1]}") is None
    assert difference(build, base, f"{base}?size=64") == "input_size"
    assert difference(build, base, f"{base}?pool=mean") == "pooling"
    assert difference(build, f"{base}?block=0", f"{base}?block=1") == "pooling"
