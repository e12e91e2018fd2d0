"""`sparc-train join`: a stream learns a dictionary whose streams do not move by a bit."""

import dataclasses

import numpy as np
import pytest
import torch

from sparc.common.cache.arrays import write_arrays
from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import CacheError, ConfigError, RunError
from sparc.common.files.folder import Folder
from sparc.train import JoinConfig, join_run, load
from sparc.train.data.planted import plant
from sparc.train.job import run
from sparc.train.join import command
from sparc.train.loading import load_untrained
from sparc.train.run.log import read_lines
from sparc.train.run.run_folder import RunRecord

SHORT = JoinConfig(stream="text", steps=30, batch_size=64, device="cpu", seed=3)


@pytest.fixture(scope="module")
def features():
    planted = plant(
        {"dino": 24, "clip": 16, "text": 12}, rows=1200, shared=20, private=2, active=3
    ).features
    planted["text"][::17] = 0
    return planted


@pytest.fixture(scope="module")
def cache(features, tmp_path_factory):
    folder = tmp_path_factory.mktemp("caches") / "cache"
    write_arrays(folder, features, rows_per_chunk=128)
    return folder


@pytest.fixture(scope="module", params=["global", "batch", "local"])
def finished(request, cache, tmp_path_factory, small_settings):
    """A run that knows two of the streams."""
    folder = tmp_path_factory.mktemp("runs") / request.param
    settings = small_settings(
        selection=request.param, streams=("dino", "clip"), steps=150, lr=1e-2, device="cpu"
    )
    run(str(cache), folder, settings)
    return folder


def same_bits(one, other, streams):
    """Whether weights and independent codes of streams are equal, bit for bit."""
    draws = torch.Generator().manual_seed(0)
    for name in streams:
        for weights in ("encoder", "decoder", "pre_bias", "latent_bias"):
            if not torch.equal(getattr(one, weights)[name], getattr(other, weights)[name]):
                return False
        rows = torch.randn(50, one.encoder[name].shape[1], generator=draws)
        codes = [model.encode({name: rows}, "independent")[name] for model in (one, other)]
        if not all(torch.equal(*pair) for pair in zip(*codes, strict=True)):
            return False
    return True


def test_a_joined_run_is_a_run(finished, cache, tmp_path, call):
    out = tmp_path / "joined"
    options = ("--stream=text", "--steps=30", "--batch-size=64", "--seed=3", "--device=cpu")
    done = call("train", "join", finished, cache, out, *options)
    assert done.returncode == 0, done.stderr
    assert "text joined dino, clip in 30 steps" in done.stderr
    before, after = load(finished), load(out)
    assert after.config.names == ("dino", "clip", "text")
    assert same_bits(before, after, ["dino", "clip"])
    assert not after.state_dict()["encoder.text"].isnan().any()
    norms = after.decoder["text"].norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))
    if after.thresholds is not None:
        assert torch.equal(after.thresholds[1:3], before.thresholds[1:])
        assert not after.thresholds.isnan().any()

    record, source = RunRecord.read(Folder(out)), RunRecord.read(Folder(finished))
    assert record.train == source.train
    assert record.data.streams == tuple(ActivationCache(cache).streams.values())
    (how,) = record.joined
    assert how.source == str(finished)
    assert how.settings == SHORT
    assert (how.steps, how.rows) == (30, 1129)
    assert read_lines(Folder(out))[-1]["step"] == 30
    untrained = load_untrained(out)
    assert untrained.config == after.config
    assert same_bits(untrained, load_untrained(finished), ["dino", "clip"])
    assert f"joined by text: {finished}, on " in call("train", "inspect", out).stdout
    assert "is finished" in call("train", "resume", out).stderr


def explained(model, features, source, target, mode):
    """Share of the target's variance that the source's code explains."""
    rows = {name: torch.from_numpy(x[np.arange(len(x)) % 17 != 0]) for name, x in features.items()}
    wanted = model.normalize(target, rows[target])
    error = (model.reconstruct(rows, source, target, mode) - wanted).square().sum()
    return 1 - float(error / (wanted - wanted.mean(0)).square().sum())


def test_each_part_teaches_the_stream(finished, cache, features, tmp_path):
    """The closed form says what the others do; steps make the stream reconstruct itself."""
    at_once = join_run(
        finished, cache, tmp_path / "0", dataclasses.replace(SHORT, steps=0, epochs=0)
    )
    longer = join_run(finished, cache, tmp_path / "1", dataclasses.replace(SHORT, steps=150))
    begun = explained(at_once, features, "text", "text", "independent")
    ended = explained(longer, features, "text", "text", "independent")
    assert ended > max(begun, 0.5)
    if at_once.config.selection != "local":  # whose streams share no latents
        assert explained(at_once, features, "dino", "text", "joint") > 0.3
        assert explained(longer, features, "text", "dino", "joint") > 0.3
    joined = RunRecord.read(Folder(tmp_path / "0")).joined
    assert [record.steps for record in joined] == [0]


def test_streams_that_the_cache_lacks_stay(finished, features, tmp_path):
    part = write_arrays(
        tmp_path / "part", {name: features[name] for name in ("text", "clip")}, rows_per_chunk=128
    ).folder.location
    if load(finished).thresholds is not None:
        with pytest.raises(RunError, match="the sum of all streams needs a threshold"):
            join_run(finished, part, tmp_path / "joined", SHORT)
        return
    joined = join_run(finished, part, tmp_path / "joined", SHORT)
    assert joined.config.names == ("dino", "clip", "text")
    assert same_bits(load(finished), joined, ["dino", "clip"])
    (how,) = RunRecord.read(Folder(tmp_path / "joined")).joined
    assert [stream.name for stream in how.streams] == ["clip", "text"]


def test_a_saved_model_of_one_stream_is_joined_twice(features, cache, tmp_path, small_settings):
    one = tmp_path / "one"
    run(str(cache), one, small_settings(streams=("clip",), steps=60, device="cpu"))
    load(one).save(tmp_path / "saved")
    two = join_run(tmp_path / "saved", cache, tmp_path / "two", SHORT)
    three = join_run(
        tmp_path / "two", cache, tmp_path / "three", dataclasses.replace(SHORT, stream="dino")
    )
    assert three.config.names == ("clip", "text", "dino")
    assert same_bits(two, three, ["clip", "text"])


def test_an_interruption_leaves_no_model(finished, cache, tmp_path, monkeypatch):
    out, undisturbed = tmp_path / "joined", tmp_path / "undisturbed"

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command, "align", interrupt)
        with pytest.raises(KeyboardInterrupt):
            join_run(finished, cache, out, SHORT)
    assert (out / "metrics.jsonl").exists()
    with pytest.raises(RunError, match="holds no SPARC model"):
        load(out)
    join_run(finished, cache, out, SHORT)
    join_run(finished, cache, undisturbed, SHORT)
    for name in ("model.safetensors", "metrics.jsonl", "initial.safetensors"):
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes()
    content = {path.name: path.read_bytes() for path in out.iterdir()}
    join_run(finished, cache, out, SHORT)
    with pytest.raises(RunError, match="other weights, rows or settings"):
        join_run(finished, cache, out, dataclasses.replace(SHORT, steps=31))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == content


def test_what_cannot_join_is_refused(finished, cache, features, tmp_path):
    out = tmp_path / "out"
    for stream, message in [("", "with stream="), ("clip", "has a stream clip already")]:
        with pytest.raises(RunError, match=message):
            join_run(finished, cache, out, dataclasses.replace(SHORT, stream=stream))
    with pytest.raises(CacheError, match="nothing"):
        join_run(finished, cache, out, dataclasses.replace(SHORT, stream="nothing"))
    lone = write_arrays(tmp_path / "lone", {"text": features["text"]}).folder.location
    with pytest.raises(RunError, match="no stream of the model"):
        join_run(finished, lone, out, SHORT)
    for wrong in ({"mix": 2.0}, {"ridge": 0.0}, {"steps": -1}, {"independent": 1.5}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            JoinConfig(stream="text", **wrong)
    out.mkdir(exist_ok=True)
    (out / "metrics.jsonl").write_text("something else\n")
    with pytest.raises(RunError, match="damaged"):
        join_run(finished, cache, out, SHORT)
