"""Folders of models whose settings would fill the memory, or make an encoder fail at a text."""

import json

import pytest

from sparc.common.errors import EncoderError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat"]


@pytest.mark.parametrize(
    "change",
    [
        {"vision": {"layers": 10**9}},
        {"vision": {"width": 10**6}},
        {"vision": {"patch_size": 10**6}},
        {"text": {"layers": 2000, "width": 1, "heads": 1}},
        {"text": {"vocab_size": 10**12}},
        {"text": {"mlp_ratio": 1e9}},
    ],
)
def test_a_tower_larger_than_its_weights_is_not_built(change, save_clip, refused, tmp_path):
    save_clip(tmp_path / "clip", **change)
    spec = f"open_clip:local-dir:{tmp_path}/clip#image"
    with (tmp_path / "clip/holes.bin").open("wb") as holes:
        holes.write(b"PK")
        holes.truncate(1 << 40)
    refused(spec, "tower that is larger than its weights|asks for .* layers")


def test_more_layers_than_any_model_are_not_built(save_bert, refused, write_json, tmp_path):
    folder = save_bert(tmp_path / "bert", WORDS)
    write_json(folder / "config.json", {"num_hidden_layers": 10**9}, update=True)
    refused(f"transformers:{folder}", "asks for 1,000,000,000 layers")


@pytest.mark.parametrize("name", ["vocab_size", "intermediate_size", "max_position_embeddings"])
def test_a_text_model_larger_than_its_weights_is_not_built(
    name, save_bert, refused, write_json, tmp_path
):
    folder = save_bert(tmp_path / "bert", WORDS)
    write_json(folder / "config.json", {name: 10**9}, update=True)
    refused(f"transformers:{folder}", "values, which is larger than its weights")


@pytest.mark.parametrize(
    "change",
    [
        {"vision": {"image_size": 10**6}},
        {"vision": {"attentional_pool": True, "attn_pooler_queries": 10**9}},
        {"text": {"context_length": 100_000}},
    ],
)
def test_a_tower_whose_other_settings_are_large_is_not_built(change, save_clip, refused, tmp_path):
    save_clip(tmp_path / "clip", **change)
    spec = f"open_clip:local-dir:{tmp_path}/clip#image"
    refused(spec, "values, which is larger than its weights")


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
def test_a_tokenizer_that_blows_texts_up_is_refused(
    steps, save_bert, refused, write_json, tmp_path
):
    folder = save_bert(tmp_path / "bert", WORDS)
    normalizer = {"type": "Sequence", "normalizers": steps}
    write_json(folder / "tokenizer.json", {"normalizer": normalizer}, update=True)
    refused(f"transformers:{folder}", "makes texts more than 1000 times longer")


def test_tokenizers_may_normalize_as_known_ones_do(save_bert, write_json, build, tmp_path):
    folder = save_bert(tmp_path / "bert", WORDS)
    steps = [{"type": "NFKD"}, replace({"String": " "}, "▁"), replace({"Regex": " {2,}"}, " ")]
    normalizer = {"type": "Sequence", "normalizers": steps}
    write_json(folder / "tokenizer.json", {"normalizer": normalizer}, update=True)
    build(f"transformers:{folder}").encode(["a cat"])


@pytest.mark.parametrize("kind", ["expression", "number"])
def test_a_text_that_makes_an_encoder_fail_is_an_error_in_one_line(
    kind, save_bert, write_json, build, tmp_path
):
    folder = save_bert(tmp_path / "bert", WORDS)
    if kind == "expression":
        normalizer = replace({"Regex": "^(a|aa)+$"}, "c")
        write_json(folder / "tokenizer.json", {"normalizer": normalizer}, update=True)
    else:
        model = json.loads((folder / "tokenizer.json").read_text())["model"]
        model["vocab"]["cat"] = 1 << 20  # far beyond the embeddings
        write_json(folder / "tokenizer.json", {"model": model}, update=True)
    encoder = build(f"transformers:{folder}")
    text = "a" * 200 + "c" if kind == "expression" else "a cat"
    for use in (encoder.encode, encoder.count_cut):
        if kind == "expression" or use == encoder.encode:
            with pytest.raises(EncoderError, match="cannot encode a text"):
                use([text])


def test_a_limit_that_is_no_number_is_an_error_in_one_line(
    save_bert, refused, write_json, tmp_path
):
    folder = save_bert(tmp_path / "bert", WORDS)
    write_json(folder / "tokenizer_config.json", {"model_max_length": "\x1b[2J"})
    refused(f"transformers:{folder}", "not supported between")
