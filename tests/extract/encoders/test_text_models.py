"""Text models as their files say they were trained, and files that do not belong together."""

import json

import pytest
import torch
import transformers

from sparc.common.errors import EncoderError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "dog", "on", "red", "sofa"]
CAPTIONS = ["a cat", "a dog on a red sofa", "cat", ""]


@pytest.fixture(scope="module")
def bert(tmp_path_factory, save_bert):
    return save_bert(tmp_path_factory.mktemp("bert"), WORDS)


@pytest.fixture
def sentences(bert, tmp_path):
    """Write the model as sentence-transformers does, with settings of its pooling."""

    def write(settings, *more):
        for file in bert.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        kinds = ["Transformer", "Pooling", *more]
        modules = [
            {"idx": i, "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.{kind}"}
            for i, kind in enumerate(kinds)
        ]
        (tmp_path / "modules.json").write_text(json.dumps(modules))
        (tmp_path / "1_Pooling").mkdir()
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(settings))
        return f"transformers:{tmp_path}"

    return write


CLASS_TOKEN = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}


@pytest.mark.parametrize(
    ("settings", "pool"),
    [
        (CLASS_TOKEN, "cls"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_lasttoken": True, "include_prompt": True}, "last"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"word_embedding_dimension": 16}, "mean"),
    ],
)
def test_sentence_transformers_are_pooled_as_they_were_trained(
    settings, pool, sentences, bert, build, assert_same
) -> None:
    own = build(sentences(settings, "Normalize"))
    asked = build(f"transformers:{bert}?pool={pool}")
    assert_same(own.encode(CAPTIONS).features, asked.encode(CAPTIONS).features)
    assert own.origin.pooling == asked.origin.pooling


def test_the_last_token_is_the_last_one_before_the_padding(bert, build, assert_same) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert)
    model = transformers.AutoModel.from_pretrained(bert).eval()
    with torch.no_grad():
        expected = torch.cat(
            [
                model(**tokenizer([c], return_tensors="pt")).last_hidden_state[:, -1]
                for c in CAPTIONS
            ]
        )
    assert_same(build(f"transformers:{bert}?pool=last").encode(CAPTIONS).features, expected)


def test_another_pooling_than_the_models_own_is_said(sentences, build, capsys) -> None:
    spec = sentences(CLASS_TOKEN)
    build(spec)
    assert capsys.readouterr().err == ""
    build(f"{spec}?pool=mean")
    assert "trained with another pooling (cls_token)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "more", "named"),
    [
        ({"pooling_mode_max_tokens": True}, (), "max_tokens"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, (), "cls_token and"),
        (CLASS_TOKEN, ("Dense",), "cls_token, and a layer behind the pooling"),
    ],
)
def test_a_pooling_that_no_spec_can_express_is_refused(
    settings, more, named, sentences, build
) -> None:
    spec = sentences(settings, *more)
    with pytest.raises(EncoderError, match=rf"{named}.* cannot be had: add \?pool=mean"):
        build(spec)
    assert build(f"{spec}?pool=mean").dim == 16


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("modules.json", "{}", "is not a list of modules"),
        ("modules.json", "[", "cannot read"),
        ("modules.json", '[{"type": "m.Pooling", "path": "../other"}]', "names no folder"),
        ("1_Pooling/config.json", "7", "which says how tokens are pooled"),
    ],
)
def test_settings_of_a_pooling_that_cannot_be_read_are_refused(
    file, content, message, sentences, refused, tmp_path
) -> None:
    spec = sentences(CLASS_TOKEN)
    (tmp_path / file).write_text(content)
    refused(spec, message)


def test_a_folder_without_a_tokenizer_is_refused(bert, tmp_path, refused) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((bert / name).read_bytes())
    refused(f"transformers:{tmp_path}", "its tokenizer knows 0 words and the model 10: put")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*WORDS[:4], "a", "cat"], "knows 2 words and the model 10: put"),
        ([*WORDS, "blue"], "knows 11 words and the model 10: it is the tokenizer of another model"),
    ],
)
def test_the_tokenizer_of_another_model_is_refused(
    words, message, bert, tmp_path, save_tokenizer, refused
) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((bert / name).read_bytes())
    save_tokenizer(tmp_path, words)
    refused(f"transformers:{tmp_path}", message)


def test_weights_of_other_sizes_than_the_configuration_are_refused(
    bert, tmp_path, write_json, refused
) -> None:
    for file in bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write_json(tmp_path / "config.json", {"intermediate_size": 20}, update=True)
    refused(
        f"transformers:{tmp_path}",
        r"do not fit its config.json: .*intermediate.*\(16,\) in the file, \(20,\) by config.json",
    )


def test_a_t5_without_its_decoder_is_an_encoder(build, tmp_path, save_tokenizer, assert_same):
    config = transformers.T5Config(
        vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2
    )
    model = transformers.T5EncoderModel(config).eval()
    model.save_pretrained(tmp_path)
    save_tokenizer(tmp_path, WORDS)
    tokens = transformers.AutoTokenizer.from_pretrained(tmp_path)(["a cat"], return_tensors="pt")
    with torch.no_grad():
        expected = model(**tokens).last_hidden_state.mean(1)
    assert_same(build(f"transformers:{tmp_path}").encode(["a cat"]).features, expected)


def test_the_first_token_of_a_causal_model_is_refused(build, tmp_path, save_tokenizer) -> None:
    config = transformers.GPTNeoXConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16,
    )  # fmt: skip
    transformers.GPTNeoXModel(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, WORDS)
    with pytest.raises(EncoderError, match=r"first token sees no other.*pool=mean or pool=last"):
        build(f"transformers:{tmp_path}?pool=cls")
    features = build(f"transformers:{tmp_path}?pool=last").encode(["a cat", "a dog"]).features
    assert not torch.allclose(features[0], features[1], atol=1e-3)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_the_text_tower_of_a_model_that_reads_images_too(
    kind, build, tmp_path, save_tokenizer, assert_same
) -> None:
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "intermediate_size": 16, "vocab_size": len(WORDS)}
    text |= {"max_position_embeddings": 12, "eos_token_id": 3}
    vision = {**small, "intermediate_size": 16, "image_size": 16, "patch_size": 8}
    if kind == "clip":
        clip = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
        model = transformers.CLIPModel(clip).eval()
    else:
        siglip = transformers.SiglipConfig(text_config=text, vision_config=vision)
        model = transformers.SiglipModel(siglip).eval()
    model.save_pretrained(tmp_path)
    save_tokenizer(tmp_path, WORDS)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    # SigLIP was trained on texts padded to its context, and its last token is the feature.
    padding = {"padding": "max_length", "max_length": 12} if kind == "siglip" else {}
    expected = []
    for caption in CAPTIONS:
        with torch.no_grad():
            tokens = tokenizer([caption], return_tensors="pt", **padding)
            if kind == "siglip":
                del tokens["attention_mask"]  # as the settings of the published tokenizers say
            output = model.get_text_features(**tokens)
            expected.append(getattr(output, "pooler_output", output))
    encoder = build(f"transformers:{tmp_path}")
    assert encoder.dim == (24 if kind == "clip" else 16)
    assert encoder.origin.input_size == (12,)
    assert_same(encoder.encode(CAPTIONS).features, torch.cat(expected))
    assert encoder.count_cut(["a " * 20, "a"]) == 1
