"""`sparc-train match`: latents get other numbers, and nothing else changes."""

import dataclasses

import numpy as np
import pytest
import torch

from sparc.common.cache.arrays import write_arrays
from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import CacheError, RunError
from sparc.common.files.folder import Folder
from sparc.train import AlignConfig, MatchConfig, align_run, load, match_run
from sparc.train.job import run
from sparc.train.run.run_folder import RunRecord

CPU = MatchConfig(device="cpu")


@pytest.fixture(scope="module", params=["local", "batch"])
def finished(request, tmp_path_factory, small_cache, small_settings):
    """Dictionaries that know nothing of each other."""
    folder = tmp_path_factory.mktemp("runs") / request.param
    settings = small_settings(selection=request.param, cross_weight=0.0, steps=40, device="cpu")
    run(str(small_cache), folder, settings)
    return folder


def rows_of(tensor):
    return {tuple(row) for row in tensor.tolist()}


def test_weights_are_permuted_and_reconstructions_stay(finished, small_cache, tmp_path, call):
    out = tmp_path / "matched"
    done = call("train", "match", finished, small_cache, out, "--device=cpu")
    assert done.returncode == 0, done.stderr
    assert "dino, clip_image, clip_text matched on " in done.stderr
    record, source = RunRecord.read(Folder(out)), RunRecord.read(Folder(finished))
    assert dataclasses.replace(record, matched=()) == source
    (how,) = record.matched
    assert how.source == str(finished)
    assert how.settings == CPU
    assert how.rows > 800
    assert how.after > how.before + 0.05
    before, after = load(finished), load(out)
    features = ActivationCache(small_cache).aligned(3, before.config.names).tensors()
    for name in before.config.names:
        moved = not torch.equal(before.encoder[name], after.encoder[name])
        assert moved == (name != "dino")  # the first stream keeps its numbers
        for weights in ("encoder", "decoder"):
            one, other = (getattr(model, weights)[name] for model in (before, after))
            assert rows_of(one) == rows_of(other)
        rebuilt = [m.reconstruct(features, name, name, "independent") for m in (before, after)]
        torch.testing.assert_close(*rebuilt, rtol=1e-5, atol=1e-6)
    shown = call("train", "inspect", out).stdout
    assert f"matched: {finished}, on " in shown
    assert f"mean correlation {how.before:.3f} to {how.after:.3f}" in shown


def test_numbers_of_one_dictionary_are_restored(finished, small_cache, tmp_path):
    """Two streams of the same features with the same weights, one of them permuted."""
    model = load(finished)
    config = model.config
    dino = config.streams[0]
    same = dataclasses.replace(
        config, streams=tuple(dataclasses.replace(dino, name=name) for name in "abc")
    )
    twins = type(model)(same)
    order = torch.randperm(config.latents, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name in "abc":
            numbers = order if name == "b" else torch.arange(config.latents)
            for part in ("encoder", "decoder", "latent_bias"):
                getattr(twins, part)[name].copy_(getattr(model, part)["dino"][numbers])
            twins.pre_bias[name].copy_(model.pre_bias["dino"])
        if model.thresholds is not None:
            twins.thresholds[:] = model.thresholds[1]
    twins.save(tmp_path / "twins")
    rows = np.concatenate(
        [ActivationCache(small_cache).aligned(i).features["dino"] for i in (0, 1)]
    )
    features = {name: rows.astype(np.float32) for name in "abc"}
    features["c"][:64] = 0  # a whole chunk without the stream
    cache = write_arrays(tmp_path / "cache", features, rows_per_chunk=64)
    matched = match_run(tmp_path / "twins", cache.folder.location, tmp_path / "matched", CPU)
    codes = twins.encode({"a": torch.from_numpy(rows).float()}, "independent")["a"]
    active, rows_of_each = codes.indices[codes.values > 0].unique(return_counts=True)
    # Two latents that are active on one row only, the same one, are alike to the correlation.
    used = active[rows_of_each > 1]
    assert len(used) > 10
    for part in ("encoder", "decoder", "latent_bias"):
        tensors = getattr(matched, part)
        assert torch.equal(tensors["b"][used], tensors["a"][used])


def test_it_goes_with_aligning_in_either_order(finished, small_cache, tmp_path, call):
    matched, both = tmp_path / "matched", tmp_path / "both"
    match_run(finished, small_cache, matched, CPU)
    align = AlignConfig(device="cpu")
    align_run(matched, small_cache, both, align)
    record = RunRecord.read(Folder(both))
    assert [how.source for how in record.matched] == [str(finished)]
    assert [how.source for how in record.aligned] == [str(matched)]
    match_run(both, small_cache, tmp_path / "again", CPU)
    assert len(RunRecord.read(Folder(tmp_path / "again")).matched) == 2
    align_run(matched, small_cache, both, align)  # it is finished
    for change, source in ((align_run, finished), (match_run, finished), (match_run, matched)):
        with pytest.raises(RunError, match="choose another folder"):
            change(source, small_cache, both)
    shown = call("train", "inspect", both).stdout
    assert "matched: " in shown
    assert "aligned: " in shown


def test_again_it_is_finished_and_other_settings_are_refused(finished, small_cache, tmp_path):
    out = tmp_path / "out"
    match_run(finished, small_cache, out, CPU)
    content = {path.name: path.read_bytes() for path in out.iterdir()}
    match_run(finished, small_cache, out, CPU)
    with pytest.raises(RunError, match=r"matched on .*, with other weights, rows or settings"):
        match_run(finished, small_cache, out, MatchConfig(rounds=2, device="cpu"))
    (out / "config.json").unlink()
    match_run(finished, small_cache, out, CPU)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == content


def test_streams_without_common_rows_are_refused(finished, tmp_path):
    rng = np.random.default_rng(0)
    features = {
        stream.name: rng.standard_normal((40, stream.dim)).astype(np.float32)
        for stream in load(finished).config.streams
    }
    features["dino"][1::2] = features["clip_text"][::2] = 0
    cache = write_arrays(tmp_path / "cache", features)
    with pytest.raises(CacheError, match="streams dino and clip_text share 0 of the sampled rows"):
        match_run(finished, cache.folder.location, tmp_path / "out", CPU)
