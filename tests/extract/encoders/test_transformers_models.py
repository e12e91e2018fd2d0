"""transformers text encoders against transformers called by hand."""

import json
import sys

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models

from sparc.common.errors import EncoderError
from sparc.extract.encoders import build_encoders, parse_spec
from sparc.extract.encoders.transformers.texts import _context_length

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "dog", "on", "red", "sofa"]
CAPTIONS = ["a cat", "a dog on a red sofa", "cat", ""]
CONTEXT = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory, save_bert):
    """A BERT of two layers with random weights, as `save_pretrained` leaves it."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48}
    folder = tmp_path_factory.mktemp("bert")
    return save_bert(folder, WORDS, model_max_length=CONTEXT, **sizes)


def by_hand(folder, caption):
    """One caption alone, so without padding."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(**tokenizer([caption], return_tensors="pt"))


def test_the_default_is_the_mean_without_padding(build, folder, assert_same):
    encoder = build(f"transformers:{folder}")
    expected = torch.cat([by_hand(folder, c).last_hidden_state.mean(1) for c in CAPTIONS])
    encoded = encoder.encode(CAPTIONS)
    assert_same(encoded.features, expected)
    assert encoded.cut == 0
    assert encoder.dim == 32
    assert encoder.origin.input_size == (CONTEXT,)
    assert "but padding" in encoder.origin.pooling


def test_the_class_token(build, folder, assert_same):
    expected = torch.cat([by_hand(folder, c).last_hidden_state[:, 0] for c in CAPTIONS])
    assert_same(build(f"transformers:{folder}?pool=cls").encode(CAPTIONS).features, expected)


def test_the_models_own_pooled_output(build, folder, assert_same):
    expected = torch.cat([by_hand(folder, c).pooler_output for c in CAPTIONS])
    assert_same(build(f"transformers:{folder}?pool=default").encode(CAPTIONS).features, expected)


@pytest.mark.parametrize(("words", "cut"), [(7, 0), (8, 0), (9, 1), (400, 1)])
def test_a_caption_is_cut_when_its_tokens_exceed_the_context(words, cut, build, folder):
    encoder = build(f"transformers:{folder}")
    assert encoder.encode([" ".join(["cat"] * words), "a dog"]).cut == cut


def test_the_context_is_the_models_where_the_tokenizer_knows_none(
    build, folder, tmp_path, save_tokenizer
):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    save_tokenizer(tmp_path, WORDS)
    encoder = build(f"transformers:{tmp_path}")
    assert encoder.origin.input_size == (16,)
    assert encoder.encode(["cat " * 15]).cut == 1


def test_roberta_numbers_positions_from_its_padding_on():
    config = transformers.RobertaConfig(max_position_embeddings=514, pad_token_id=1)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel()))
    assert _context_length(config, tokenizer) == 512


def test_the_encoder_of_an_encoder_and_decoder_is_used(build, tmp_path, save_tokenizer):
    config = transformers.T5Config(
        vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2
    )
    transformers.T5Model(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, WORDS)
    encoder = build(f"transformers:{tmp_path}")
    assert encoder.encode(["a cat " * 100]).features.shape == (1, 16)
    assert encoder.origin.input_size == ()  # relative positions: nothing limits the length
    with pytest.raises(EncoderError, match="no pooled output"):
        build(f"transformers:{tmp_path}?pool=default")


def test_weights_that_lack_a_tensor_are_refused(build, folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(folder / "model.safetensors")
    del state["encoder.layer.1.output.dense.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match=r"lack 1 tensor.*encoder.layer.1.output.dense.weight"):
        build(f"transformers:{tmp_path}")


def test_a_missing_pooler_matters_to_its_users_alone(build, folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in state.items() if "pooler" not in name}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert build(f"transformers:{tmp_path}").dim == 32
    pooled = f"transformers:{tmp_path}?pool=default"
    with pytest.raises(EncoderError, match="lack 2 tensors"):
        build(pooled)
    # A stream that has loaded the model for itself changes nothing.
    streams = {"mean": f"transformers:{tmp_path}", "pooled": pooled}
    specs = {name: parse_spec(spec) for name, spec in streams.items()}
    with pytest.raises(EncoderError, match="lack 2 tensors"):
        build_encoders(specs, torch.device("cpu"))


def test_code_that_comes_with_a_model_is_never_run(build, folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = transformers.BertConfig.from_pretrained(folder).to_dict()
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(EncoderError):
        build(f"transformers:{tmp_path}")
    assert not (tmp_path / "ran").exists()


def test_without_the_extra_the_error_says_what_to_install(build, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EncoderError, match=r"pip install transformers$"):
        build(f"transformers:{folder}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no-such-org/no-such-model", "hub cannot be reached.*transformers:FOLDER"),
        ("/no/such/folder", "there is no folder /no/such/folder"),
    ],
)
def test_a_model_that_cannot_be_had_is_refused_in_one_line(name, message, build):
    with pytest.raises(EncoderError, match=message) as caught:
        build(f"transformers:{name}")
    assert str(caught.value).isprintable()


def test_a_folder_without_a_model_is_refused_by_the_file_that_it_lacks(build, tmp_path):
    with pytest.raises(EncoderError, match=r"the folder has no config\.json"):
        build(f"transformers:{tmp_path}")
