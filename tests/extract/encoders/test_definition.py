"""What a digest of the definition sees: everything that changes features, and nothing else."""

import json

import open_clip
import pytest
import torch
import transformers
from safetensors.torch import save_file

from sparc.common.streams.origin import encoder_difference

CLIP = {
    "embed_dim": 16,
    "vision_cfg": {
        "image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16,
    },
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}  # fmt: skip
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "Cat"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    state = open_clip.model.CLIP(**CLIP).state_dict()
    file = tmp_path_factory.mktemp("weights") / "clip.safetensors"
    save_file({name: value.clone().contiguous() for name, value in state.items()}, file)
    return file


@pytest.fixture
def architecture(tmp_path):
    """Make open_clip know an architecture for the while."""
    known = dict(open_clip.factory._MODEL_CONFIGS)
    paths = list(open_clip.factory._MODEL_CONFIG_PATHS)

    def add(name, **changes):
        (tmp_path / f"{name}.json").write_text(json.dumps({**CLIP, **changes}))
        open_clip.add_model_config(tmp_path / f"{name}.json")

    yield add
    open_clip.factory._MODEL_CONFIGS.clear()
    open_clip.factory._MODEL_CONFIGS.update(known)
    open_clip.factory._MODEL_CONFIG_PATHS[:] = paths


def clip_folder(folder, weights, *, text=(), vision=(), preprocess=(), **more):
    folder.mkdir()
    config = {**CLIP, **more}
    config["text_cfg"] = {**CLIP["text_cfg"], **dict(text)}
    config["vision_cfg"] = {**CLIP["vision_cfg"], **dict(vision)}
    document = {"model_cfg": config, "preprocess_cfg": dict(preprocess)}
    (folder / "open_clip_config.json").write_text(json.dumps(document))
    (folder / "open_clip_model.safetensors").write_bytes(weights.read_bytes())
    return folder


def difference(build, first, second):
    found = encoder_difference(build(first).origin, build(second).origin)
    return found and found.what


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
def test_an_open_clip_model_of_the_same_tensors(name, tower, weights, build, tmp_path):
    changes, towers = CHANGES[name]
    first = clip_folder(tmp_path / "first", weights)
    second = clip_folder(tmp_path / "second", weights, **changes)
    found = difference(build, *(f"open_clip:local-dir:{f}#{tower}" for f in (first, second)))
    expected = ("definition_sha256", "preprocessing") if tower in towers else (None,)
    assert found in expected


def test_only_the_place_of_the_weights_may_differ(
    weights, build, tmp_path, architecture, monkeypatch
):
    """A tag, a file and a folder of one model are one encoder; QuickGELU makes another."""
    architecture("sparc-a")
    architecture("sparc-a-quickgelu", quick_gelu=True)
    tags = {"plain": {"file": str(weights)}, "openai": {"file": str(weights), "quick_gelu": True}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "sparc-a", tags)
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(weights.read_bytes())
    folder = clip_folder(tmp_path / "folder", weights)
    quick_folder = clip_folder(tmp_path / "quick", weights, quick_gelu=True)
    plain = [f"sparc-a/{weights}", f"sparc-a/{moved}", "sparc-a/plain", f"local-dir:{folder}"]
    quick = [f"sparc-a-quickgelu/{weights}", "sparc-a/openai", f"local-dir:{quick_folder}"]
    for tower in ("image", "text"):
        origins = [
            [build(f"open_clip:{s}#{tower}").origin for s in each] for each in (plain, quick)
        ]
        assert {encoder_difference(a, b) for each in origins for a in each for b in each} == {None}
        different = {encoder_difference(a, b).what for a in origins[0] for b in origins[1]}
        assert different == {"definition_sha256"}


def bert_folder(folder, save_tokenizer, words=WORDS, **settings):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=16,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    save_tokenizer(folder, words, model_max_length=8)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    return folder


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
    settings, expected, build, tmp_path, save_tokenizer
):
    first = bert_folder(tmp_path / "first", save_tokenizer)
    second = bert_folder(tmp_path / "second", save_tokenizer, **settings)
    found = difference(build, f"transformers:{first}", f"transformers:{second}")
    assert found == expected


def test_a_tokenizer_of_the_same_vocabulary_that_splits_otherwise_is_another(
    build, tmp_path, save_tokenizer
):
    from tokenizers import Tokenizer, normalizers

    first = bert_folder(tmp_path / "first", save_tokenizer)
    second = bert_folder(tmp_path / "second", save_tokenizer)
    tokenizer = Tokenizer.from_file(str(second / "tokenizer.json"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.save(str(second / "tokenizer.json"))
    found = difference(build, f"transformers:{first}", f"transformers:{second}")
    assert found == "definition_sha256"


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
