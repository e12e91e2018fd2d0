"""The model in use: codes, decoding, saving and loading."""

import json
import subprocess
import sys

import numpy as np
import pandas
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from sparc.common.errors import ConfigError, RunError, SparcError
from sparc.train import Codes, ModelConfig, Sparc, StreamShape, create_model, load
from sparc.train.model.selectors.registry import SELECTORS

STREAMS = (StreamShape("a", 7), StreamShape("b", 5), StreamShape("c", 6))


@pytest.fixture
def model():
    return create_model(ModelConfig(streams=STREAMS, latents=40, k=6), seed=1)


@pytest.fixture
def features():
    draws = torch.Generator().manual_seed(2)
    return {s.name: 3 * torch.randn(9, s.dim, generator=draws) for s in STREAMS}


def expected_codes(model, features, names, k=6):
    """Global TopK in NumPy, from the formulas."""
    logits = {}
    for name in names:
        x = features[name].numpy()
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        weights = {key: value.detach().numpy() for key, value in model.state_dict().items()}
        centred = x - weights[f"pre_bias.{name}"]
        logits[name] = centred @ weights[f"encoder.{name}"].T + weights[f"latent_bias.{name}"]
    chosen = np.argsort(-sum(logits.values()), axis=1)[:, :k]
    codes = {}
    for name in names:
        code = np.zeros_like(logits[name])
        values = np.take_along_axis(logits[name], chosen, axis=1)
        np.put_along_axis(code, chosen, np.maximum(values, 0), axis=1)
        codes[name] = torch.from_numpy(code)
    return codes


@pytest.mark.parametrize("names", ["a", "b", "ab", "ca", "abc"])
def test_any_streams_select_together(model, features, names):
    with torch.no_grad():
        model.latent_bias["b"].normal_(std=0.1)
        codes = model.encode({name: features[name] for name in names})
    assert set(codes) == set(names)
    for name, expected in expected_codes(model, features, names).items():
        assert codes[name].indices.shape == codes[name].values.shape == (9, 6)
        torch.testing.assert_close(codes[name].dense(), expected)


def test_order_in_which_features_are_given_does_not_matter(model, features):
    forward = model.encode(features)
    backward = model.encode(dict(reversed(features.items())))
    for name in features:
        assert torch.equal(forward[name].indices, backward[name].indices)
        assert torch.equal(forward[name].values, backward[name].values)


def test_independent_mode_is_each_stream_alone(model, features):
    together = model.encode(features, "independent")
    for name, x in features.items():
        torch.testing.assert_close(together[name].dense(), model.encode({name: x})[name].dense())


@pytest.mark.parametrize("selection", ["global", "local"])
def test_both_modes_at_once(features, selection):
    config = ModelConfig(streams=STREAMS, latents=40, k=6, selection=selection)
    model = create_model(config)
    joint, independent = model.encode_both(features)
    own = model.encode(features)
    for name in features:
        for both, mode in ((joint, "joint"), (independent, "independent")):
            for one, other in zip(both[name], model.encode(features, mode)[name], strict=True):
                assert torch.equal(one, other)
        assert torch.equal(
            own[name].values, (joint if selection == "global" else independent)[name].values
        )


def test_reconstruction(model, features):
    with torch.no_grad():
        model.pre_bias["b"].normal_()
    codes = model.encode(features)
    rebuilt = model.decode(codes["a"], "b")
    expected = codes["a"].dense() @ model.decoder["b"] + model.pre_bias["b"]
    torch.testing.assert_close(rebuilt, expected)
    torch.testing.assert_close(model.reconstruct(features, "a", "b"), expected)


def test_scale_of_features_does_not_matter(model, features):
    louder = {name: 7 * x for name, x in features.items()}
    one, other = model.encode(features), model.encode(louder)
    torch.testing.assert_close(one["a"].dense(), other["a"].dense())
    assert torch.allclose(model.normalize("a", louder["a"]).norm(dim=1), torch.ones(9))


def test_half_precision_features(model, features):
    half = {name: x.half() for name, x in features.items()}
    assert model.encode(half)["a"].values.dtype == torch.float32


def test_ties_are_broken_the_same_way(model):
    with torch.no_grad():
        for name in "abc":
            model.encoder[name].zero_()
    x = {"a": torch.ones(5, 7)}
    indices = [model.encode(x)["a"].indices for _ in range(3)]
    assert torch.equal(indices[0], indices[1])
    assert torch.equal(indices[0], indices[2])
    assert all(torch.equal(row, indices[0][0]) for row in indices[0])


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
def test_row_without_a_code_is_named(model, features, bad):
    features["b"][4] = bad
    with pytest.raises(SparcError, match=r"stream b, row 4: .*zero or not finite"):
        model.encode(features)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d": torch.ones(9, 3)}, "no stream 'd'; it has a, b, c"),
        ({"a": torch.ones(9, 3)}, r"stream a: features must be \(rows, 7\), not \(9, 3\)"),
        ({"a": torch.ones(4, 7)}, "the same rows; given: a 4, b 9, c 9"),
        ({"a": "x" * 9}, "stream a: features must be an array of numbers, not a str"),
        ({"a": [[1.0], [1.0, 2.0]] * 5}, "stream a: NumPy makes no array of a list"),
        ({"a": torch.ones(7)}, "stream a has features of a single row, .dim,., and another stream"),
        ({"a": torch.ones(2, 3, 7)}, r"features must be \(rows, 7\), not \(2, 3, 7\)"),
        ({"a": torch.tensor(1.0)}, r"features must be \(rows, 7\), not \(\)"),
    ],
)
def test_refused_features(model, features, change, message):
    with pytest.raises(SparcError, match=message):
        model.encode({**features, **change})


def test_no_features_at_all(model, features):
    with pytest.raises(SparcError, match="at least one"):
        model.encode({})
    with pytest.raises(SparcError, match="stream c"):
        model.reconstruct({"a": features["a"]}, "c", "a")


def test_an_unknown_mode_is_refused(model, features):
    with pytest.raises(SparcError, match="must be joint or independent, not 'global'"):
        model.encode(features, mode="global")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"selection": "joint"}, f"selection must be one of {', '.join(SELECTORS)}, not 'joint'"),
        ({"normalize": "l2"}, "normalize must be one of unit, none, not 'l2'"),
    ],
)
def test_unknown_words_in_a_configuration_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(streams=STREAMS, latents=40, k=6, **change)


def test_codes_of_a_loaded_model_are_plain_numbers(model, features, tmp_path):
    model.save(tmp_path)
    loaded = load(tmp_path)
    assert loaded.encode(features)["a"].values.numpy().shape == (9, 6)
    # A graph of one's own still reaches the features.
    x = {name: each.requires_grad_() for name, each in features.items()}
    loaded.reconstruct(x, "a", "b").square().sum().backward()
    assert x["a"].grad.abs().sum() > 0


def test_saved_model_loads_equal(model, features, tmp_path):
    model.save(tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert isinstance(loaded, Sparc)
    assert loaded.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert isinstance(loaded(features)["a"], Codes)
    # Anyone's safetensors and JSON readers read it.
    weights = safetensors.numpy.load_file(tmp_path / "saved" / "model.safetensors")
    assert weights["decoder.b"].shape == (40, 5)
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["model"]["latents"] == 40
    assert sorted(p.name for p in (tmp_path / "saved").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_loading_what_is_not_a_model(model, tmp_path):
    with pytest.raises(RunError, match="holds no SPARC model"):
        load(tmp_path)
    with pytest.raises(RunError, match="holds no SPARC model"):
        load(tmp_path / "not" / "there")
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    with pytest.raises(RunError, match=r"sweep is a sweep: give one of the runs in it"):
        load(tmp_path / "sweep")
    model.save(tmp_path)
    config, weights = tmp_path / "config.json", tmp_path / "model.safetensors"
    content, document = weights.read_bytes(), json.loads(config.read_text())

    def change_config(**fields):
        config.write_text(json.dumps({"model": {**document["model"], **fields}}))

    weights.write_bytes(content[:-100])
    with pytest.raises(RunError, match="is damaged"):
        load(tmp_path)
    weights.unlink()
    with pytest.raises(RunError, match=r"model\.safetensors is not there"):
        load(tmp_path)
    weights.write_bytes(content)
    change_config(k=document["model"]["k"] + 1)
    with pytest.raises(RunError, match=r"what config\.json says of them, do not fit its sha256"):
        load(tmp_path)
    safetensors.torch.save_file(safetensors.torch.load(content), weights)  # without a digest
    change_config(latents=41)
    with pytest.raises(RunError, match=r"shape \(40, 7\), not \(41, 7\)"):
        load(tmp_path)
    change_config(streams=document["model"]["streams"][:2])
    with pytest.raises(RunError, match=r"unknown tensor decoder\.c"):
        load(tmp_path)
    change_config(colour="red")
    with pytest.raises(RunError, match="unknown setting 'colour'"):
        load(tmp_path)
    for text in ("{", "[]", "{}", '{"model": 3}', '{"model": {"latents": 3}}'):
        config.write_text(text)
        with pytest.raises(RunError):
            load(tmp_path)


def test_importing_the_package_loads_no_torch():
    script = (
        "import sys, sparc.train, sparc.train.config; assert 'torch' not in sys.modules; "
        "assert 'load' in dir(sparc.train); sparc.train.load; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_codes_can_be_differentiated(model, features):
    """Researchers may put the model in a graph of their own."""
    x = {name: each.requires_grad_() for name, each in features.items()}
    model.reconstruct(x, "a", "b").square().sum().backward()
    assert x["a"].grad.abs().sum() > 0
    assert model.decoder["b"].grad.abs().sum() > 0


def assert_equal_codes(one, other):
    assert torch.equal(one.indices, other.indices)
    assert torch.equal(one.values, other.values)


@pytest.mark.parametrize(
    "kind",
    [
        torch.Tensor.numpy,
        torch.Tensor.tolist,
        torch.Tensor.double,
        lambda x: x.numpy().astype(">f4"),
        lambda x: x.numpy()[::-1].copy()[::-1],
        lambda x: np.frombuffer(x.numpy().tobytes(), np.float32).reshape(x.shape),
        lambda x: pandas.DataFrame(x.numpy()),
    ],
)
@pytest.mark.filterwarnings("error")
def test_features_of_any_kind_have_the_same_codes(model, features, kind):
    with torch.no_grad():
        codes = model.encode({name: kind(x) for name, x in features.items()})
        for name, expected in model.encode(features).items():
            assert_equal_codes(codes[name], expected)


@pytest.mark.parametrize("mode", ["joint", "independent"])
@torch.no_grad()
def test_a_single_row_has_the_code_that_it_has_among_others(model, features, mode):
    codes = model.encode(features, mode)
    row = {name: x[3].numpy() for name, x in features.items()}
    both = dict(zip(("joint", "independent"), model.encode_both(row), strict=True))
    for single in (model.encode(row, mode), both[mode]):
        for name, code in single.items():
            torch.testing.assert_close(code.dense(), codes[name].dense()[3])
            assert code.to_scipy().shape == (1, 40)
            torch.testing.assert_close(model.decode(code, "b"), model.decode(codes[name], "b")[3])
    rebuilt = model.reconstruct(features, "a", "c", mode)[3]
    torch.testing.assert_close(model.reconstruct(row, "a", "c", mode), rebuilt)


def test_features_of_one_stream_may_be_given_alone(model, features):
    alone = model.encode(features["b"], stream="b")
    assert_equal_codes(alone, model.encode({"b": features["b"]})["b"])
    indices, values = model.encode(features["b"][0], stream="b")
    assert indices.shape == values.shape == (6,)
    with pytest.raises(SparcError, match="whose features they are with stream=…, one of a, b, c"):
        model.encode(features["b"])
    with pytest.raises(SparcError, match="no stream 'x'; it has a, b, c"):
        model.encode(features["b"], stream="x")
    with pytest.raises(SparcError, match="stream 'b' beside features by stream"):
        model.encode(features, stream="b")
    one = create_model(ModelConfig(streams=STREAMS[:1], latents=40, k=6), seed=1)
    assert_equal_codes(one.encode(features["a"]), one.encode({"a": features["a"]})["a"])


def test_sparse_and_dense_codes_are_the_same_numbers(model, features):
    for codes in model.encode(features).values():
        matrix = codes.to_scipy()
        assert matrix.has_sorted_indices
        assert (matrix.data > 0).all()
        np.testing.assert_array_equal(matrix.toarray(), codes.dense().detach().numpy())
    no_rows = Codes(codes.indices[:0], codes.values[:0], 40)
    assert no_rows.dense().shape == no_rows.to_scipy().shape == (0, 40)


def test_what_is_shown_of_models_and_codes_is_one_line(model, features):
    codes = model.encode(features["a"], stream="a")
    assert repr(codes) == "Codes(9 rows, 6 of 40 latents, cpu)"
    row = model.encode(features["a"][0], stream="a")
    assert repr(row) == "Codes(a single row, 6 of 40 latents, cpu)"
    assert repr(model) == "Sparc(a 7, b 5, c 6; 40 latents, k 6, selection global)"
