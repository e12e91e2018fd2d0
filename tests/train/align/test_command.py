"""`sparc-train align`, on runs and saved models: what it makes, says and refuses."""

import dataclasses
import json
import shutil

import huggingface_hub
import numpy as np
import pyarrow as pa
import pytest
import torch

from sparc.analyze import AnalyzeConfig, analyze
from sparc.common.cache.arrays import write_arrays
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.tables import CLASSES
from sparc.common.errors import CacheError, RunError
from sparc.common.files.folder import Folder
from sparc.train import AlignConfig, ModelConfig, StreamShape, align_run, create_model, load
from sparc.train.job import run
from sparc.train.loading import load_untrained
from sparc.train.run.run_folder import RunRecord

CPU = AlignConfig(device="cpu")


@pytest.fixture(scope="module", params=["joint", "published"])
def finished(request, tmp_path_factory, small_cache, small_settings):
    folder = tmp_path_factory.mktemp("runs") / request.param
    run(str(small_cache), folder, small_settings(recipe=request.param, steps=20, device="cpu"))
    return folder


@pytest.fixture
def saved(tmp_path):
    """A random dictionary, and a cache of three linear images of one sparse source.

    One stream is wider than the others, one has a large mean. A row's classes are its concepts.
    """
    rng = np.random.default_rng(0)
    rows, concepts, dims = 1500, 30, {"a": 32, "wide": 48, "far": 32}
    strength = (rng.random((rows, concepts)) < 0.08) * rng.uniform(0.5, 1.5, (rows, concepts))
    strength[np.arange(rows), rng.integers(concepts, size=rows)] += 1
    features = {
        name: (strength @ rng.standard_normal((concepts, dim)) + 10 * (name == "far")).astype("f4")
        for name, dim in dims.items()
    }
    names = [f"c{i}" for i in range(concepts)]
    classes = pa.table(
        {
            "class_id": range(concepts),
            "key": names,
            "name": names,
            "parent_id": [None] * concepts,
            "depth": [1] * concepts,
        },
        schema=CLASSES,
    )
    labels = [np.flatnonzero(row).tolist() for row in strength]
    cache = write_arrays(tmp_path / "cache", features, label_ids=labels, classes=classes)
    shapes = tuple(StreamShape(*item) for item in dims.items())
    model = create_model(ModelConfig(streams=shapes, latents=64, k=4), seed=3)
    model.save(tmp_path / "random")
    return tmp_path / "random", cache.folder.location


def excess(model, cache, report):
    """Excess of the agreement on classes, alone, over that of mispaired latents."""
    config = AnalyzeConfig(permuted=False, untrained=False, rows=200, probe_rows=200, device="cpu")
    summary = analyze(model, cache, report, config).summary
    return summary["agreement_excess/independent/trained/depth 1"]


def test_a_random_dictionary_of_images_of_one_source_agrees(saved, tmp_path):
    model, cache = saved
    before = excess(model, cache, tmp_path / "before")
    align_run(model, cache, tmp_path / "aligned", CPU)
    after = excess(tmp_path / "aligned", cache, tmp_path / "after")
    assert before < 0.05
    assert after > 0.5


def test_an_aligned_run_is_a_run(finished, small_cache, tmp_path, call):
    out = tmp_path / "aligned"
    done = call("train", "align", finished, small_cache, out, "--mix=0.5", "--device=cpu")
    assert done.returncode == 0, done.stderr
    assert "dino, clip_image, clip_text aligned on" in done.stderr
    record, source = RunRecord.read(Folder(out)), RunRecord.read(Folder(finished))
    assert dataclasses.replace(record, aligned=()) == source
    (how,) = record.aligned
    assert how.source == str(finished)
    assert how.cache == str(small_cache)
    assert how.settings == AlignConfig(mix=0.5, device="cpu")
    before, after = load(finished), load(out)
    for name, dim in (("dino", 24), ("clip_text", 12)):
        assert not torch.equal(before.encoder[name], after.encoder[name])
        assert torch.equal(before.decoder[name], after.decoder[name])
        assert torch.equal(before.pre_bias[name], after.pre_bias[name])
        assert torch.equal(
            load_untrained(out).pre_bias[name], load_untrained(finished).pre_bias[name]
        )
        assert after.encoder[name].shape == (96, dim)
    shown = call("train", "inspect", out).stdout
    assert f"aligned: {finished}, on " in shown
    assert "mix 0.5, ridge 0.0001" in shown
    assert "is finished" in call("train", "resume", out).stderr


def test_again_it_is_finished_and_nothing_is_overwritten(finished, small_cache, tmp_path):
    out = tmp_path / "aligned"
    align_run(finished, small_cache, out, CPU)
    content = {path.name: path.read_bytes() for path in out.iterdir()}
    align_run(finished, small_cache, out, CPU)
    for config in (AlignConfig(mix=0.5, device="cpu"), AlignConfig(rows=100, device="cpu")):
        with pytest.raises(RunError, match="other weights, rows or settings: choose another"):
            align_run(finished, small_cache, out, config)
    with pytest.raises(RunError, match="holds another model, which stays"):
        align_run(out, small_cache, finished, CPU)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == content


def test_what_an_interruption_left_is_replaced_and_other_files_are_not(
    finished, small_cache, tmp_path
):
    align_run(finished, small_cache, tmp_path / "whole", CPU)
    out = tmp_path / "out"
    shutil.copytree(tmp_path / "whole", out)
    (out / "config.json").unlink()
    (out / "initial.safetensors").unlink()
    align_run(finished, small_cache, out, CPU)
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (out / path.name).read_bytes()
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "model.safetensors").write_bytes(b"of another program")
    with pytest.raises(RunError, match=r"holds a model\.safetensors that SPARC did not write"):
        align_run(finished, small_cache, foreign, CPU)
    (foreign / "model.safetensors").rename(foreign / "notes.txt")
    with pytest.raises(RunError, match=r"is not empty and not a run \(it holds notes\.txt\)"):
        align_run(finished, small_cache, foreign, CPU)


def test_a_saved_model_stays_one_and_remembers_every_aligning(saved, tmp_path, call):
    model, cache = saved
    align_run(model, cache, tmp_path / "once", AlignConfig(mix=0.5, device="cpu"))
    align_run(tmp_path / "once", cache, tmp_path / "twice", CPU)
    document = json.loads((tmp_path / "twice/config.json").read_text())
    assert [how["source"] for how in document["aligned"]] == [str(model), str(tmp_path / "once")]
    shown = call("train", "inspect", tmp_path / "twice").stdout
    assert "a saved model: 64 latents, k 4, global selection" in shown
    assert shown.count("aligned: ") == 2
    load(tmp_path / "twice").save(tmp_path / "exported")
    load(tmp_path / "exported").save(tmp_path / "twice")  # a saved model may be replaced by hand


def test_a_model_of_the_hub_is_named_by_its_id(saved, tmp_path, monkeypatch):
    model, cache = saved
    shutil.copytree(model, tmp_path / "hub/someone/sparc")
    downloads = lambda repository, **_: str(tmp_path / "hub" / repository)  # noqa: E731
    monkeypatch.setattr(huggingface_hub, "snapshot_download", downloads)
    monkeypatch.chdir(tmp_path)
    align_run("someone/sparc", cache, "aligned", CPU)
    (how,) = json.loads((tmp_path / "aligned/config.json").read_text())["aligned"]
    assert how["source"] == "someone/sparc"


def test_a_cache_that_does_not_go_with_the_model_is_refused(finished, small_cache, tmp_path):
    rows = ActivationCache(small_cache).aligned(0).features
    out = tmp_path / "out"

    def refuse(features, match):
        made = write_arrays(tmp_path / match[:4].strip(), features)
        with pytest.raises(CacheError, match=match):
            align_run(finished, made.folder.location, out, CPU)
        assert not out.exists()

    refuse({"dino": rows["dino"]}, "has no stream 'clip_image'")
    refuse(rows | {"dino": rows["dino"][:, :20]}, r"stream dino was made by another encoder \(dim")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(finished, elsewhere)
    record = RunRecord.read(Folder(finished))
    dino, *others = record.data.streams
    dino = dataclasses.replace(dino, origin=dataclasses.replace(dino.origin, weights_sha256="12ab"))
    data = dataclasses.replace(record.data, streams=(dino, *others))
    dataclasses.replace(record, data=data).write(Folder(elsewhere))
    with pytest.raises(CacheError, match=r"dino was made by another encoder \(weights_sha256"):
        align_run(elsewhere, small_cache, out, CPU)


def test_thresholds_are_learned_for_the_new_encoders(small_cache, small_settings, tmp_path):
    settings = small_settings(selection="batch", steps=60, device="cpu")
    run(str(small_cache), tmp_path / "run", settings)
    aligned = align_run(tmp_path / "run", small_cache, tmp_path / "aligned", CPU)
    cache = ActivationCache(small_cache)
    features = cache.aligned(3, aligned.config.names).tensors()
    for mode in ("joint", "independent"):
        codes = aligned.encode(features, mode)
        used = torch.stack([(code.values > 0).sum(1).double().mean() for code in codes.values()])
        assert (used - aligned.config.k).abs().max() < 1


def test_too_few_rows_and_a_single_stream_are_refused(saved, tmp_path):
    model, cache = saved
    few = {n: x[:20] for n, x in ActivationCache(cache).aligned(0).features.items()}
    made = write_arrays(tmp_path / "few", few)
    with pytest.raises(CacheError, match=r"20 rows .* too few for the covariance of wide"):
        align_run(model, made.folder.location, tmp_path / "out", CPU)
    create_model(ModelConfig(streams=(StreamShape("a", 32),), latents=8, k=2)).save(
        tmp_path / "one"
    )
    with pytest.raises(RunError, match="the model has one stream, a: aligning needs at least"):
        align_run(tmp_path / "one", cache, tmp_path / "out", CPU)
