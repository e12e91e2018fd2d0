"""`sparc-train import`: files as other programs write them, and the codes that these give.

What the programs compute is written down here. The same was checked with SAELens 6.54.12,
dictionary_learning 0.1.0, overcomplete 0.3.0 and saev 0.1.0 themselves, on 600 rows of 384 values:
codes differ by less than a millionth of the largest.
"""

import json
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch

from sparc.common.cache.arrays import write_arrays
from sparc.common.errors import DictionaryError
from sparc.common.files.folder import Folder
from sparc.train import ImportConfig, export_run, import_dictionary, load
from sparc.train.model.files import read_history

DIM, LATENTS, K, ROWS = 9, 40, 5, 200
DRAWS = torch.Generator().manual_seed(0)


def drawn(*shape):
    return torch.randn(*shape, generator=DRAWS)


ENCODER, DECODER = drawn(LATENTS, DIM), drawn(LATENTS, DIM)
ENCODER_BIAS, BIAS = 0.3 * drawn(LATENTS), drawn(DIM)
FEATURES = 2 * drawn(ROWS, DIM) + 0.5
NORMS = DECODER.norm(dim=1)


def top_k(logits, k=K):
    largest = logits.topk(k, dim=1)
    return torch.zeros_like(logits).scatter(1, largest.indices, largest.values.relu())


def above(logits, threshold):
    return logits.relu() * (logits > threshold)


def saelens(folder, *, weights=(), name="sae", **config):
    place = folder / name
    place.mkdir(parents=True)
    tensors = {
        "W_enc": ENCODER.T.contiguous(),
        "b_enc": ENCODER_BIAS,
        "W_dec": DECODER,
        "b_dec": BIAS,
        **dict(weights),
    }
    safetensors.torch.save_file(tensors, place / "sae_weights.safetensors")
    about = {"architecture": "topk", "k": K, "d_in": DIM, "d_sae": LATENTS, **config}
    (place / "cfg.json").write_text(json.dumps(about))
    return place


def saev(folder, activation, *, tensors=(), **header):
    path = folder / "sae.pt"
    state = {"W_enc": ENCODER.T, "b_enc": ENCODER_BIAS, "W_dec": DECODER, "b_dec": BIAS}
    about = {"schema": 5, "cfg": {"d_model": DIM, "activation": activation}, **header}
    with path.open("wb") as file:
        file.write(json.dumps(about).encode() + b"\n")
        torch.save({**state, **dict(tensors)}, file)
    return path


def dictionary_learning(folder, name, state):
    torch.save(state, folder / "ae.pt")
    (folder / "config.json").write_text(json.dumps({"trainer": {"dict_class": name, "k": K}}))
    return folder


def linear(bias="b_dec"):
    state = {"encoder.weight": ENCODER, "encoder.bias": ENCODER_BIAS, "decoder.weight": DECODER.T}
    return {**state, bias: BIAS}


CENTRED = (FEATURES - BIAS) @ ENCODER.T + ENCODER_BIAS
PLAIN = FEATURES @ ENCODER.T + ENCODER_BIAS
SCALED = (DIM**0.5 * FEATURES / FEATURES.norm(dim=1, keepdim=True) - BIAS) @ ENCODER.T
BATCH = {"k": torch.tensor(K), "threshold": torch.tensor(1.5)}
NORMED = {
    "running_mean": drawn(LATENTS),
    "running_var": drawn(LATENTS).square(),
    "weight": drawn(LATENTS),
    "bias": drawn(LATENTS),
    "num_batches_tracked": torch.tensor(3),
}
IN_USE = (PLAIN - NORMED["running_mean"]) / (NORMED["running_var"] + 1e-5).sqrt()
ROWS_OF_ONE = DECODER / NORMS[:, None]


def overcomplete(folder, encoder, name="state.pt"):
    scale = torch.tensor(0.5)
    state = {"dictionary._weights": ROWS_OF_ONE, "dictionary.multiplier": scale, **encoder}
    save = safetensors.torch.save_file if name.endswith("safetensors") else torch.save
    save(state, folder / name)
    return folder / name


OF_OVERCOMPLETE = {"encoder.final_block.0.weight": ENCODER, "encoder.final_block.0.bias": drawn(40)}
TIED = {"encoder.tied_to._weights": ROWS_OF_ONE, "encoder.tied_to.multiplier": torch.tensor(0.5)}
STRETCHED = ROWS_OF_ONE * np.exp(0.5)

# name: how it is written, options, codes, decoder, what is added to what it decodes
CASES = {
    "saelens topk": (saelens, {}, top_k(CENTRED), DECODER, BIAS),
    "saelens 5": (
        lambda f: saelens(f, architecture="standard", k=None, activation_fn_str="topk",
                          activation_fn_kwargs={"k": 3}, normalize_activations=False),
        {}, top_k(CENTRED, 3), DECODER, BIAS,
    ),
    "saelens uncentred": (
        lambda f: saelens(f, apply_b_dec_to_input=False), {}, top_k(PLAIN), DECODER, BIAS
    ),
    "saelens by norms": (
        lambda f: saelens(f, rescale_acts_by_decoder_norm=True),
        {}, top_k(CENTRED * NORMS), ROWS_OF_ONE, BIAS,
    ),
    "saelens scaled": (
        lambda f: saelens(f, normalize_activations="constant_norm_rescale"),
        {}, top_k(SCALED + ENCODER_BIAS), DECODER / DIM**0.5, BIAS / DIM**0.5,
    ),
    "saelens jumprelu": (
        lambda f: saelens(f, architecture="jumprelu", weights={"threshold": torch.ones(40)},
                          metadata={"training_architecture_details": {"k": 7.5}}),
        {"k_max": 40}, above(CENTRED, 1.0), DECODER, BIAS,
    ),
    "saelens relu": (
        lambda f: saelens(f, architecture="standard"),
        {"k": 8, "k_max": 40}, CENTRED.relu(), DECODER, BIAS,
    ),
    "saev topk": (
        lambda f: saev(f, {"cls": "TopK", "params": {"top_k": K}}), {}, top_k(PLAIN), DECODER, BIAS
    ),
    "saev batch": (
        lambda f: saev(f, {"cls": "BatchTopK", "params": {"top_k": 8}},
                       tensors={"activation.threshold": torch.tensor(2.0)}),
        {"k_max": 40}, above(PLAIN, 2.0), DECODER, BIAS,
    ),
    "saev relu": (
        lambda f: saev(f, {"cls": "Relu", "params": {}}, schema=2),
        {"k": 8, "k_max": 40}, PLAIN.relu(), DECODER, BIAS,
    ),
    "dictionary_learning topk": (
        lambda f: dictionary_learning(f, "AutoEncoderTopK", linear()),
        {}, top_k(CENTRED), DECODER, BIAS,
    ),
    "dictionary_learning batch": (
        lambda f: dictionary_learning(f, "BatchTopKSAE", {**linear(), **BATCH}),
        {"k_max": 40}, above(CENTRED, 1.5), DECODER, BIAS,
    ),
    "dictionary_learning relu": (
        lambda f: dictionary_learning(f, "AutoEncoder", linear("bias")),
        {"k": 8, "k_max": 40}, CENTRED.relu() * NORMS, ROWS_OF_ONE, BIAS,
    ),
    "dictionary_learning new": (
        lambda f: dictionary_learning(f, "AutoEncoderNew", linear("decoder.bias")),
        {"k": 8, "k_max": 40}, PLAIN.relu(), DECODER, BIAS,
    ),
    "overcomplete": (
        lambda f: overcomplete(f, OF_OVERCOMPLETE, "state.safetensors"), {"k": K},
        top_k(FEATURES @ ENCODER.T + OF_OVERCOMPLETE["encoder.final_block.0.bias"]), STRETCHED, 0,
    ),
    "overcomplete batch norm": (
        lambda f: overcomplete(f, {
            "encoder.final_block.0.weight": ENCODER, "encoder.final_block.0.bias": ENCODER_BIAS,
            **{f"encoder.final_block.1.{name}": x for name, x in NORMED.items()},
        }), {"k": K}, top_k(IN_USE * NORMED["weight"] + NORMED["bias"]), STRETCHED, 0,
    ),
    "overcomplete tied": (
        lambda f: overcomplete(f, TIED), {"k": K}, top_k(FEATURES @ STRETCHED.T), STRETCHED, 0
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_codes_are_those_of_the_program(name, tmp_path):
    write, options, codes, decoder, added = CASES[name]
    (tmp_path / "given").mkdir()
    given = write(tmp_path / "given")
    model = import_dictionary(given, tmp_path / "out", ImportConfig(stream="dino", **options))
    actual = model.encode(FEATURES, stream="dino")
    torch.testing.assert_close(actual.dense(), codes, rtol=1e-5, atol=1e-5)
    rebuilt = codes @ decoder + added
    torch.testing.assert_close(model.decode(actual, "dino"), rebuilt, rtol=1e-5, atol=2e-5)
    (how,) = read_history(Folder(tmp_path / "out")).imported
    assert (how.source, how.format) == (str(given), name.split()[0].rstrip("5"))


def refusals(folder):
    """What is given, options, and a part of the message."""
    own = {"threshold": torch.linspace(0, 1, LATENTS)}
    code = folder / "whole.pt"
    code.write_bytes(pickle.dumps({"sae": ImportConfig(stream="a")}))
    alone = folder / "alone"
    alone.mkdir()
    torch.save({**linear(), **BATCH}, alone / "ae.pt")
    gated = folder / "gated"
    gated.mkdir()
    bad = ENCODER.clone()
    bad[0, 0] = torch.nan
    yield code, {}, "is a pickle that holds more than tensors, and loading it would run code"
    yield (
        saelens(folder, name="own", architecture="jumprelu", weights=own),
        {"k": K},
        ("thresholds of their own, from 0 to 1 (JumpReLU), and SPARC has one threshold"),
    )
    yield saelens(folder, name="gate", architecture="gated"), {}, "the architecture is gated"
    yield (
        saelens(folder, name="layer", normalize_activations="layer_norm"),
        {},
        ("normalize_activations is layer_norm, which SPARC does not do"),
    )
    yield (
        saelens(folder, name="unfolded", normalize_activations="expected_average_only_in"),
        {},
        ("fold it into the weights with `sae.fold_activation_norm_scaling_factor(…)`"),
    )
    yield (
        saelens(folder, name="more", weights={"r_mag": drawn(LATENTS)}),
        {},
        "not understood, so its codes",
    )
    yield saelens(folder, name="wide", weights={"b_dec": drawn(4)}), {}, "shape (4,), not (9)"
    yield saelens(folder, name="nan", weights={"W_enc": bad.T.contiguous()}), {}, "holds NaN"
    yield saelens(folder, name="standard", architecture="standard"), {}, "say with `k=`"
    yield saelens(folder, name="two"), {"k": 6}, "the dictionary's own k is 5, not 6"
    claimed = {"b_enc": torch.zeros(1).expand(LATENTS)}
    yield (
        saev(folder, {"cls": "TopK", "params": {"top_k": K}}, tensors=claimed),
        {},
        ("tensor b_enc claims 40 numbers, not all stored"),
    )
    yield alone, {}, "no config.json lies beside it, and tensors alone do not tell a TopK from"
    yield dictionary_learning(gated, "GatedAutoEncoder", linear()), {}, "'GatedAutoEncoder'"
    yield overcomplete(folder, OF_OVERCOMPLETE), {}, "give the top_k of its TopKSAE with `k=`"
    norm = {"encoder.final_block.1.weight": drawn(LATENTS)}
    yield overcomplete(folder, {**OF_OVERCOMPLETE, **norm}, "layer.pt"), {"k": K}, "final_block.1"
    yield saev(folder, {"cls": "TopK", "params": {"top_k": K}}, schema=1), {}, "its schema is 1"
    torch.save({"weights": BIAS}, folder / "other.pt")
    yield folder / "other.pt", {}, "is of no format that is read here"
    yield folder / "none.pt", {}, "there is no file or folder"
    (folder / "empty").mkdir()
    yield folder / "empty", {}, "is a folder: give the file with the weights"


def test_what_no_model_can_do_is_refused_by_name(tmp_path):
    (tmp_path / "given").mkdir()
    for given, options, message in refusals(tmp_path / "given"):
        with pytest.raises(DictionaryError) as refused:
            import_dictionary(given, tmp_path / "out", ImportConfig(stream="dino", **options))
        assert message.replace("`k=`", "k=") in str(refused.value)
        assert not (tmp_path / "out").exists()


def test_a_dictionary_is_checked_on_a_cache_and_answers_the_commands(tmp_path, call):
    write_arrays(tmp_path / "cache", {"dino": FEATURES.numpy(), "other": FEATURES[:, :4].numpy()})
    given = saelens(tmp_path, architecture="standard")
    command = ("train", "import", given, tmp_path / "out", "--stream=dino")
    done = call(*command, "--k=4", "--k-max=12", f"--cache={tmp_path / 'cache'}")
    assert done.returncode == 0, done.stderr
    assert "dino on 200 rows" in done.stderr
    assert "note: the dictionary rebuilds these features worse than their mean does" in done.stderr
    cut = int(((CENTRED > 0).sum(1) > 12).sum())
    assert f"note: in {cut} of 200 rows more than 12 latents reach the threshold" in done.stderr
    assert "is finished" in call(*command, "--k=4", "--k-max=12",
                                 f"--cache={tmp_path / 'cache'}").stderr  # fmt: skip
    other = call(*command, "--k=5", f"--cache={tmp_path / 'cache'}")
    assert "holds another model, which stays" in other.stderr
    wrong = ("train", "import", given, tmp_path / "new", "--stream=other", "--k=4")
    refused = call(*wrong, f"--cache={tmp_path / 'cache'}")
    assert "have 4 values, those of the dictionary 9" in refused.stderr
    assert "name the stream of the dictionary with --stream" in call(*command[:-1]).stderr
    assert f"imported: {given}, saelens" in call("train", "inspect", tmp_path / "out").stdout
    shown = call("analyze", "stability", tmp_path / "out", tmp_path / "out")
    assert "40 latents matched one to one" in shown.stdout, shown.stderr
    assert "could not be checked" not in shown.stdout


def test_what_was_exported_comes_back(tmp_path):
    given = saelens(tmp_path, architecture="jumprelu", weights={"threshold": torch.ones(LATENTS)})
    options = ImportConfig(stream="dino", k=7, k_max=20)
    first = import_dictionary(given, tmp_path / "first", options)
    (folder,) = export_run(tmp_path / "first", tmp_path / "export")
    second = import_dictionary(folder, tmp_path / "second", ImportConfig(stream="dino"))
    assert second.config == first.config
    for name, tensor in load(tmp_path / "second").state_dict().items():
        assert torch.equal(first.state_dict()[name], tensor)
