"""`sparc-train export --to saelens`: the same codes in SAELens, which the tests do without.

What it computes is written down here, and compared with SAELens itself where that is installed.
With version 6.54.12 the codes of three streams of emoji (600 rows, 512 latents, k 16) were the same
up to 1.3e-7.
"""

import json

import pytest
import safetensors.torch
import torch

from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import RunError
from sparc.train import (
    ModelConfig,
    SaveConfig,
    StreamShape,
    create_model,
    export_run,
    load,
    save_run,
)
from sparc.train.job import run
from sparc.train.model.selectors.registry import SELECTORS, SelectorEntry
from sparc.train.model.selectors.selector import Selector

FIELDS = {
    *("architecture", "d_in", "d_sae", "dtype", "device", "apply_b_dec_to_input"),
    *("normalize_activations", "reshape_activations", "metadata"),
}
SHAPES = {
    "W_enc": ("d_in", "d_sae"),
    "b_enc": ("d_sae",),
    "W_dec": ("d_sae", "d_in"),
    "b_dec": ("d_in",),
}


def in_saelens(folder, rows):
    """Codes and reconstructions, as `SAE.load_from_disk(folder)` computes them."""
    config = json.loads((folder / "cfg.json").read_text())
    weights = safetensors.torch.load_file(folder / "sae_weights.safetensors")
    more = {"topk": {"k", "rescale_acts_by_decoder_norm"}, "jumprelu": set()}
    assert config.keys() == FIELDS | more[config["architecture"]]
    assert int(config["metadata"]["sae_lens_version"].split(".")[0]) >= 6
    shapes = SHAPES | ({"threshold": ("d_sae",)} if config["architecture"] == "jumprelu" else {})
    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == {
        name: tuple(config[key] for key in shape) for name, shape in shapes.items()
    }
    assert config["apply_b_dec_to_input"]
    factor = torch.ones(len(rows), 1)
    if config["normalize_activations"] == "constant_norm_rescale":
        factor = config["d_in"] ** 0.5 / rows.norm(dim=-1, keepdim=True)
    else:
        assert config["normalize_activations"] == config["reshape_activations"] == "none"
    hidden = (rows * factor - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"]
    if config["architecture"] == "topk":
        assert config["rescale_acts_by_decoder_norm"] is False
        largest = torch.topk(hidden, k=config["k"], dim=-1, sorted=False)
        codes = torch.zeros_like(hidden).scatter_(-1, largest.indices, largest.values.relu())
    else:
        codes = hidden.relu() * (hidden > weights["threshold"])
    return codes, (codes @ weights["W_dec"] + weights["b_dec"]) / factor


@pytest.fixture(scope="module")
def finished(small_cache, tmp_path_factory, small_settings):
    folder = tmp_path_factory.mktemp("runs") / "run"
    run(str(small_cache), folder, small_settings(steps=10, device="cpu"))
    return folder


def test_codes_in_saelens_are_the_independent_ones(finished, small_cache, tmp_path, call):
    out = tmp_path / "out"
    done = call("train", "export", finished, out)
    assert done.returncode == 0, done.stderr
    assert "note:" not in done.stderr
    model, cache = load(finished), ActivationCache(small_cache)
    features = cache.aligned(3, model.config.names).tensors()
    assert {path.name for path in out.iterdir()} == {*model.config.names, "README.md"}
    for stream, rows in ((stream, rows.float()) for stream, rows in features.items()):
        codes, rebuilt = in_saelens(out / stream, 7 * rows)
        wanted = model.encode(rows, "independent", stream=stream)
        torch.testing.assert_close(codes, wanted.dense(), rtol=0, atol=1e-6)
        norms = 7 * rows.norm(dim=1, keepdim=True)
        torch.testing.assert_close(rebuilt, model.decode(wanted, stream) * norms)
        about = json.loads((out / stream / "cfg.json").read_text())["metadata"]
        assert about["sparc"]["stream"]["dim"] == rows.shape[1]
        assert (about["hook_name"], about["model_name"]) == (stream, "array")
    card = (out / "README.md").read_text()
    assert "| clip_text | 12 | array |" in card
    assert 'SAE.load_from_disk("dino")' in card
    assert "here 4, the k with the largest sum of logits" in card


def test_saelens_itself_gives_the_same_codes(finished, small_cache, tmp_path):
    """Where somebody has installed it: the suite does without."""
    sae_lens = pytest.importorskip("sae_lens")
    model = load(finished)
    features = ActivationCache(small_cache).aligned(3, model.config.names).tensors()
    for folder in export_run(finished, tmp_path / "out"):
        sae, rows = sae_lens.SAE.load_from_disk(folder), features[folder.name].float()
        with torch.no_grad():
            codes = sae.encode(rows)
            rebuilt = sae.decode(codes)
        wanted = model.encode(rows, "independent", stream=folder.name)
        torch.testing.assert_close(codes, wanted.dense(), rtol=0, atol=1e-5)
        norms = rows.norm(dim=1, keepdim=True)
        torch.testing.assert_close(rebuilt, model.decode(wanted, folder.name) * norms)


def test_an_export_is_finished_and_nothing_else_is_overwritten(finished, tmp_path, call):
    out, alone = tmp_path / "out", ("--stream=dino", "--to=saelens")
    assert call("train", "export", finished, out, *alone).returncode == 0
    content = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert {path.parent.name for path in content} == {"out", "dino"}
    assert "is finished" in call("train", "export", finished, out, *alone).stderr
    (out / "README.md").unlink()  # as an interruption leaves it
    assert call("train", "export", finished, out, *alone).returncode == 0
    save_run(finished, tmp_path / "other", SaveConfig(streams=("dino",)))
    for source, options, message in [
        (tmp_path / "other", alone, "holds a dictionary of another model, which stays"),
        (finished, ("--stream=clip_text",), "not a folder of these streams (it holds dino)"),
        (finished, (), "holds another export"),
    ]:
        refused = call("train", "export", source, out, *options)
        assert refused.returncode == 2
        assert message in refused.stderr
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == content
    foreign = tmp_path / "foreign"
    (foreign / "dino").mkdir(parents=True)
    (foreign / "dino" / "sae_weights.safetensors").write_bytes(b"mine")
    refused = call("train", "export", finished, foreign, *alone)
    assert "holds a sae_weights.safetensors that SPARC did not write" in refused.stderr
    refused = call("train", "export", finished, tmp_path / "new", "--stream=sun")
    assert "no stream 'sun'; it has dino" in refused.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("normalize", ["unit", "none"])
def test_thresholds_become_those_of_jump_relu(tmp_path, call, normalize):
    config = ModelConfig(
        streams=(StreamShape("a", 7), StreamShape("b", 5)),
        latents=40,
        k=3,
        selection="batch",
        normalize=normalize,
    )
    model, draws = create_model(config), torch.Generator().manual_seed(0)
    rows = torch.randn(300, 7, generator=draws)
    model.requires_grad_(False)
    for bias in (model.pre_bias["a"], model.latent_bias["a"]):
        bias.copy_(0.1 * torch.randn(bias.shape, generator=draws))
    logits = model.logits("a", model.normalize("a", rows))
    model.thresholds.copy_(torch.tensor([0.5, float(logits.flatten().sort().values[-900]), -1.0]))
    model.save(tmp_path / "model")
    done = call("train", "export", tmp_path / "model", tmp_path / "out")
    assert "note: At most 12 latents of a row are active in SPARC" in done.stderr
    codes, rebuilt = in_saelens(tmp_path / "out" / "a", rows)
    wanted = model.encode(rows, "independent", stream="a")
    few = (codes > 0).sum(1) <= 12
    assert few.sum() > 250
    torch.testing.assert_close(codes[few], wanted.dense()[few], rtol=0, atol=1e-6)
    norms = rows.norm(dim=1, keepdim=True) if normalize == "unit" else torch.ones(300, 1)
    torch.testing.assert_close(rebuilt[few], (model.decode(wanted, "a") * norms)[few])
    metadata = json.loads((tmp_path / "out" / "a" / "cfg.json").read_text())["metadata"]
    assert metadata["sparc"]["activation"]["most"] == 12
    # Before the first step nothing is known: the k largest.
    model.thresholds.fill_(torch.nan)
    model.save(tmp_path / "fresh")
    assert "note" not in call("train", "export", tmp_path / "fresh", tmp_path / "topk").stderr
    codes, _ = in_saelens(tmp_path / "topk" / "a", rows)
    wanted = model.encode(rows, "independent", stream="a").dense()
    torch.testing.assert_close(codes, wanted, rtol=0, atol=1e-6)


def test_a_card_says_only_what_holds(tmp_path):
    for selection, dims, shared, others in [
        ("local", (7, 5), False, True),
        ("global", (7, 5), True, True),
        ("global", (7,), False, False),
    ]:
        streams = tuple(StreamShape(f"s{i}", dim) for i, dim in enumerate(dims))
        config = ModelConfig(streams=streams, latents=40, k=3, selection=selection)
        place = tmp_path / f"{selection}{len(dims)}"
        create_model(config).save(place / "model")
        export_run(place / "model", place / "out")
        card = (place / "out" / "README.md").read_text()
        assert ("share their latents, by number" in card) == shared
        assert ("rebuilds the features of the others" in card) == others


class Halves(Selector):
    own_mode = "joint"

    def keep(self, scores, k, threshold):
        return scores >= scores.amax(1, keepdim=True) / 2


def test_a_selector_that_no_format_knows_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setitem(SELECTORS, "halves", SelectorEntry("halves", f"{__name__}:Halves"))
    config = ModelConfig(streams=(StreamShape("a", 7),), latents=40, k=3, selection="halves")
    create_model(config).save(tmp_path / "model")
    with pytest.raises(RunError, match="selection halves leaves latents out by a rule of its own"):
        export_run(tmp_path / "model", tmp_path / "out")
    assert not (tmp_path / "out").exists()
