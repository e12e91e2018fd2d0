"""Runs from beginning to end, interrupted anywhere, in this process."""

import dataclasses
import hashlib
import shutil
import sys
import uuid

import numpy as np
import pytest
import safetensors.torch
import torch

from sparc.common.cache.arrays import write_arrays
from sparc.common.cache.reader import ActivationCache
from sparc.common.documents import seal, unseal
from sparc.common.errors import CacheError, ConfigError, LockedError, RunError, SparcError
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive
from sparc.train import job, load
from sparc.train.config import TrainConfig
from sparc.train.data.means import data_statistics
from sparc.train.kernels import choice
from sparc.train.kernels.choice import choose
from sparc.train.loading import load_model, load_untrained
from sparc.train.run.log import read_lines
from sparc.train.run.run_folder import RunRecord, load_initial, saved_steps
from sparc.train.run.run_summary import describe_folder
from sparc.train.step.learner import Learner


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def result(run):
    """What must be the same, byte for byte."""
    return (run / "model.safetensors").read_bytes(), (run / "metrics.jsonl").read_bytes()


@pytest.fixture(scope="module")
def reference_run(tmp_path_factory, small_cache, small_settings):
    """The undisturbed run that interrupted ones are compared with."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    job.run(str(small_cache), run, small_settings(validation=str(small_cache)))
    return run


@pytest.fixture
def run_and_interrupt(interrupt_after, small_cache):
    """Start or resume a run, and interrupt it after a number of batches."""

    def begin(run, settings, batches):
        with interrupt_after(batches):
            job.run(str(small_cache), run, settings)

    return begin


def test_what_a_run_leaves(reference_run, small_cache, small_settings):
    record = RunRecord.read(Folder(reference_run))
    assert (record.steps, record.steps_per_epoch) == (70, 14)
    assert record.train == small_settings(validation=str(small_cache))
    assert record.model.names == ("dino", "clip_image", "clip_text")
    assert record.data.manifest_digest == ActivationCache(small_cache).info.manifest_digest
    assert record.data.usable_rows == 913
    assert record.kernels == choose("auto", torch.device("cpu")).name
    assert {"python", "torch", "sparc"} <= record.versions.keys()
    steps = [(line["split"], line["step"]) for line in read_lines(Folder(reference_run))]
    expected = [("train", step) for step in range(10, 71, 10)]
    expected += [("validation", step) for step in range(14, 71, 14)]
    assert sorted(steps) == sorted(expected)
    assert [line["step"] for line in read_lines(Folder(reference_run), "timings.jsonl")] == list(
        range(10, 71, 10)
    )
    assert torch.equal(
        load(reference_run).encoder["dino"], load_model(reference_run).encoder["dino"]
    )


def test_metrics_tell_what_happened(reference_run):
    lines = [x for x in read_lines(Folder(reference_run)) if x["split"] == "train"]
    assert lines[-1]["loss"] < 0.7 * lines[0]["loss"]
    assert all(x["rows"] == 640 for x in lines)
    assert all(0 < value <= 4 for x in lines for value in x["l0"].values())
    assert all(0 <= value <= 1 for x in lines for value in x["chosen_alone"].values())
    # A line is the first of its epoch where the one before lies in another: mixing once an epoch.
    assert [x["step"] for x in lines if "mixing" in x] == [10, 20, 30, 50, 60]
    assert max(x["dead"]["dino"] for x in lines) > 0
    assert max(x["aux"]["dino"] for x in lines) > 0
    validation = [x for x in read_lines(Folder(reference_run)) if x["split"] == "validation"]
    assert all(x["rows"] == 913 for x in validation)


@pytest.mark.parametrize("batches", [0, 3, 8, 9, 10, 13, 14, 15, 29, 69])
def test_a_resumed_run_is_the_undisturbed_one(
    tmp_path, run_and_interrupt, reference_run, small_cache, small_settings, batches
):
    run = tmp_path / "run"
    settings = small_settings(validation=str(small_cache))
    run_and_interrupt(run, settings, batches)
    job.resume(run)
    assert result(run) == result(reference_run)


def test_inspect_is_not_behind_the_last_checkpoint(tmp_path, run_and_interrupt, small_settings):
    run, settings = tmp_path / "run", small_settings()
    assert (settings.checkpoint_every, settings.log_every) == (8, 10)
    for batches, step, saved in ((5, 0, "no checkpoint yet"), (17, 16, 16), (6, 20, 16)):
        run_and_interrupt(run, settings, batches)
        kept = saved if isinstance(saved, str) else f"last checkpoint at {saved}"
        assert f"step {step} of 70 ({kept}); continue with" in describe_folder(run)


def test_a_checkpoint_with_sums_of_another_version_is_refused(
    tmp_path, run_and_interrupt, small_settings
):
    run = tmp_path / "run"
    run_and_interrupt(run, small_settings(), 17)
    (folder,) = (run / "checkpoints").glob("step-*16")
    window = safetensors.torch.load_file(folder / "window.safetensors")
    safetensors.torch.save_file(
        {**window, "new": window["rows"].clone()}, folder / "window.safetensors"
    )
    state = unseal((folder / "state.json").read_bytes())
    digest = hashlib.sha256((folder / "window.safetensors").read_bytes()).hexdigest()
    state["files"]["window.safetensors"] = digest
    (folder / "state.json").write_bytes(seal(state))
    with pytest.raises(RunError, match=r"step 16 .*another version of SPARC \(new\); resume with"):
        job.resume(run)


def test_interrupted_again_and_again(
    tmp_path, run_and_interrupt, reference_run, small_cache, small_settings
):
    run = tmp_path / "run"
    for batches in (11, 9, 17, 8, 12):
        run_and_interrupt(run, small_settings(validation=str(small_cache)), batches)
    job.resume(run)
    assert result(run) == result(reference_run)


def test_a_damaged_last_checkpoint_costs_only_time(
    tmp_path, run_and_interrupt, capsys, reference_run, small_cache, small_settings
):
    run = tmp_path / "run"
    run_and_interrupt(run, small_settings(validation=str(small_cache)), 35)
    newest = run / "checkpoints/step-000000032/learner.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    job.resume(run)
    assert "step-000000032 is damaged" in capsys.readouterr().err
    assert result(run) == result(reference_run)


@pytest.mark.parametrize(
    "changes",
    [
        {"selection": "local"},
        {"selection": "batch"},
        {"recipe": "published"},
        {"recipe": "published", "error": "variance"},
        {
            "terms": ("distill=0.1",),
            "balance": 5e-4,
            "independent": 0.5,
            "noise": 0.25,
            "alive_by": "both",
        },
        {"align": ("0.4", "0.7=0.5", "1"), "selection": "batch", "align_lr": 0.1},
        {
            "rows": "any",
            "terms": ("distill=0.1",),
            "balance": 5e-4,
            "independent": 0.5,
            "noise": 0.25,
            "alive_by": "both",
            "align": ("0.5",),
            "error": "variance",
        },
        {"rows": "any", "recipe": "published", "selection": "batch"},
    ],
)
def test_other_kinds_of_runs_resume_bit_for_bit(
    tmp_path, run_and_interrupt, small_cache, small_settings, changes
):
    settings = small_settings(**changes, epochs=3, cross_weight=0.5, clip=1.0, schedule="cosine")
    settings = dataclasses.replace(settings, validation=str(small_cache))
    whole, run = tmp_path / "whole", tmp_path / "run"
    job.run(str(small_cache), whole, dataclasses.replace(settings, residency="stream"))
    run_and_interrupt(run, settings, 19)
    job.resume(run)
    assert result(run) == result(whole)


def test_rows_that_lack_streams_are_counted(tmp_path, small_cache, small_settings, capsys):
    """Of 1,000 rows 59 lack clip_text, 30 lack dino, and two of them both."""
    run, other = tmp_path / "run", tmp_path / "other"
    settings = small_settings(rows="any", steps=3, validation=str(small_cache))
    job.run(str(small_cache), run, settings)
    said = capsys.readouterr().err
    assert "dino, clip_image, clip_text: 1,000 rows in memory, 3 steps of 64 rows (15 an" in said
    assert (
        "a stream is missing in 87 rows, which train the others: 57 have dino and clip_image, "
        "28 have clip_image and clip_text, 2 have clip_image" in said
    )
    record = RunRecord.read(Folder(run))
    assert (record.data.usable_rows, record.steps_per_epoch) == (1000, 15)
    assert record.data.pair_rows == 913
    (validated,) = (line for line in read_lines(Folder(run)) if line["split"] == "validation")
    assert validated["rows"] == 1000
    assert "rows any" in describe_folder(run)
    job.run(str(small_cache), other, small_settings(steps=3))
    said = capsys.readouterr().err
    assert 'a stream is missing in 87 rows, which are left out: rows="any" trains' in said
    assert '"rows": "all"' not in (other / "config.json").read_text()


@pytest.mark.parametrize("recipe", ["joint", "published"])
def test_variances_are_recorded_where_errors_are_divided_by_them(
    tmp_path, small_cache, small_settings, reference_run, recipe
):
    run = tmp_path / "run"
    job.run(str(small_cache), run, small_settings(steps=3, error="variance", recipe=recipe))
    record = RunRecord.read(Folder(run))
    wanted = data_statistics(ActivationCache(small_cache), record.model, seed=42)
    assert record.data.variances == wanted.variances
    assert (load_initial(Folder(run)) is None) == (recipe == "published")
    assert "variances" not in (reference_run / "config.json").read_text()


def test_residency_has_no_influence(tmp_path, reference_run, small_cache, small_settings):
    run = tmp_path / "run"
    settings = small_settings(validation=str(small_cache), residency="stream")
    job.run(str(small_cache), run, settings)
    assert result(run) == result(reference_run)


def test_validation_has_no_influence(tmp_path, reference_run, small_cache, small_settings):
    job.run(str(small_cache), tmp_path / "run", small_settings())
    assert result(tmp_path / "run")[0] == result(reference_run)[0]
    trained = [line for line in read_lines(Folder(reference_run)) if line["split"] == "train"]
    assert read_lines(Folder(tmp_path / "run")) == trained


def test_the_untrained_model_is_that_of_step_0(
    tmp_path, monkeypatch, small_cache, small_settings, reference_run
):
    seen = []
    real = Learner.step

    def step(learner, *arguments, **options):
        if not seen:
            seen.append({k: v.clone() for k, v in learner.model.state_dict().items()})
        return real(learner, *arguments, **options)

    monkeypatch.setattr(Learner, "step", step)
    job.run(str(small_cache), tmp_path / "run", small_settings(steps=3))
    for run in (tmp_path / "run", reference_run):
        untrained = load_untrained(run)
        assert not any(weight.requires_grad for weight in untrained.parameters())
        for name, value in untrained.state_dict().items():
            assert torch.equal(value, seen[0][name])
    means = data_statistics(ActivationCache(small_cache), untrained.config, seed=42).means
    assert torch.equal(untrained.pre_bias["dino"], means["dino"])


def test_the_last_line_says_how_it_ended_and_what_comes_next(
    tmp_path, small_cache, small_settings, capsys
):
    for run, validation, measured in (
        (tmp_path / "run", "", "CACHE"),
        (tmp_path / "a run", str(small_cache), str(small_cache)),
    ):
        job.run(str(small_cache), run, small_settings(steps=12, validation=validation))
        *_, last = capsys.readouterr().err.splitlines()
        loss = {line["split"]: f"{line['loss']:.4f}" for line in read_lines(Folder(run))}
        held_out = f", validation loss {loss['validation']}" if validation else ""
        quoted = f"'{run}'" if " " in str(run) else run
        assert last == (
            f"{run}: trained for 12 steps, loss {loss['train']}{held_out}; measure it: "
            f"sparc-analyze run {quoted} {measured} REPORT"
        )


def test_a_finished_run_says_so(reference_run, small_cache, small_settings, capsys):
    before = result(reference_run)
    job.run(str(small_cache), reference_run, small_settings(validation=str(small_cache)))
    job.resume(reference_run)
    assert capsys.readouterr().err.count("is finished: 70 steps") == 2
    assert result(reference_run) == before


def test_a_finished_run_refuses_another_cache_but_not_its_own_deleted_one(
    tmp_path, small_settings, capsys
):
    caches = {name: tmp_path / name for name in ("cache", "moved", "rows", "streams")}
    features = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    write_arrays(caches["cache"], {"a": features})
    shutil.copytree(caches["cache"], caches["moved"])
    write_arrays(caches["rows"], {"a": features[:32]})
    write_arrays(caches["streams"], {"b": features})
    run, settings = tmp_path / "run", small_settings(steps=2)
    job.run(str(caches["cache"]), run, settings)
    for location, message in (
        (caches["rows"], "holds other rows .*give the same cache, another run folder, or"),
        (caches["streams"], "stream a is not the one"),
        (tmp_path / "nope", "nope is not an activation cache"),
        (run, "run is not an activation cache"),
    ):
        with pytest.raises(CacheError, match=message):
            job.run(str(location), run, settings)
    capsys.readouterr()
    job.run(str(caches["moved"]), run, settings)
    shutil.rmtree(caches["cache"])
    job.run(str(caches["cache"]), run, settings)
    job.resume(run)
    assert capsys.readouterr().err.count("is finished: 2 steps") == 3


def test_other_settings_are_refused_by_name(
    tmp_path, run_and_interrupt, reference_run, small_cache, small_settings
):
    settings = small_settings(validation=str(small_cache), k=5)
    with pytest.raises(RunError, match="has finished with k = 4, not 5"):
        job.run(str(small_cache), reference_run, settings)
    run_and_interrupt(tmp_path / "run", small_settings(), 12)
    with pytest.raises(RunError, match=r"was begun with lr = 0.003, not 0.1"):
        job.run(str(small_cache), tmp_path / "run", small_settings(lr=0.1))
    for read in (load_model, load):
        with pytest.raises(RunError, match=r"has not finished .*sparc-train resume .*-000000008"):
            read(tmp_path / "run")


def test_another_cache_is_refused(tmp_path, run_and_interrupt, small_cache, small_settings):
    run_and_interrupt(tmp_path / "run", small_settings(), 12)
    cache = ActivationCache(small_cache)
    features = {n: torch.rand(500, cache.streams[n].dim).numpy() for n in cache.stream_names}
    write_arrays(tmp_path / "other", features)
    with pytest.raises(CacheError, match="holds other rows"):
        job.run(str(tmp_path / "other"), tmp_path / "run", small_settings())


def test_a_moved_cache_is_the_same_cache(
    tmp_path, run_and_interrupt, small_cache, small_settings, reference_run
):
    run_and_interrupt(tmp_path / "run", small_settings(), 12)
    shutil.copytree(small_cache, tmp_path / "moved")
    job.run(str(tmp_path / "moved"), tmp_path / "run", small_settings())
    assert result(tmp_path / "run")[0] == result(reference_run)[0]


def test_folders_with_other_content_are_left_alone(tmp_path, small_cache, small_settings):
    (tmp_path / "thesis.tex").write_text("chapter 1")
    with pytest.raises(RunError, match=r"is not empty and not a run \(it holds thesis.tex\)"):
        job.run(str(small_cache), tmp_path, small_settings())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_behind_a_url_is_that_of_this_machine(
    reference_run, run_and_interrupt, small_cache, small_settings
):
    url = f"memory://runs-{uuid.uuid4().hex}/run"
    settings = small_settings(validation=str(small_cache))
    run_and_interrupt(url, settings, 37)
    assert saved_steps(Folder(url)) == [24, 32]
    # As of processes that were killed while they wrote a checkpoint, and while they removed one.
    Folder(url).write("checkpoints/step-000000040/config.json", b"{}")
    Folder(url).remove("checkpoints/step-000000024/state.json")
    assert saved_steps(Folder(url)) == [32]
    job.resume(url)
    local = Folder(reference_run)
    assert Folder(url).files() == local.files()
    for name in local.files():
        if name != "timings.jsonl":
            assert Folder(url).read(name) == local.read(name), name
    assert torch.equal(load(url).decoder["dino"], load(reference_run).decoder["dino"])
    job.run(str(small_cache), url, small_settings(steps=3), overwrite=True)
    assert RunRecord.read(Folder(url)).steps == 3
    with pytest.raises(SparcError, match="must be on this machine, not behind a URL"):
        job.run(str(small_cache), url, small_settings(tensorboard=True))


@pytest.mark.parametrize("device", ["abacus", "meta", "cuda:99"])
def test_devices_that_are_not_there(tmp_path, small_cache, small_settings, device):
    with pytest.raises(ConfigError, match=rf"device '?{device}'?(:| is not)"):
        job.run(str(small_cache), tmp_path / "run", small_settings(device=device))


def test_one_process_at_a_time(tmp_path, small_cache, small_settings):
    with exclusive(Folder(tmp_path / "run")), pytest.raises(LockedError):
        job.run(str(small_cache), tmp_path / "run", small_settings())


def test_divergence_is_told_and_the_last_good_state_kept(
    tmp_path, monkeypatch, small_cache, small_settings
):
    real, count = Learner.step, iter(range(1, 1000))

    def step(learner, batch, lr, *others, **options):
        return real(learner, batch, float("inf") if next(count) == 26 else lr, *others, **options)

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", step)
        with pytest.raises(
            RunError, match=r"not finite at step 27 .*step 24 is kept.*lr= below 0.003"
        ):
            job.run(str(small_cache), run, small_settings())
    assert not (run / "model.safetensors").exists()
    assert [line["step"] for line in read_lines(Folder(run))] == [10, 20]
    job.resume(run)
    job.run(str(small_cache), tmp_path / "whole", small_settings())
    assert result(run) == result(tmp_path / "whole")


def test_a_loss_beyond_all_bounds_has_diverged_too(tmp_path, small_cache, small_settings):
    """With steps this large it stays finite: Adam's steps have a length of their own."""
    with pytest.raises(RunError, match=r"the loss exceeded 1,000,000 .*at step 2 .*lr= below 1000"):
        job.run(str(small_cache), tmp_path / "run", small_settings(lr=1e3))
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_weights_that_are_not_finite_are_never_saved(
    tmp_path, monkeypatch, small_cache, small_settings
):
    """The last step before a checkpoint ruins the weights: no loss has seen them yet."""
    real, count = Learner.step, iter(range(1, 1000))

    def step(learner, batch, lr, *others, **options):
        return real(learner, batch, float("inf") if next(count) == 24 else lr, *others, **options)

    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(
        RunError, match=r"weights were not finite after the last step .*step 16 is kept"
    ):
        job.run(str(small_cache), tmp_path / "run", small_settings())


def test_images_and_texts_without_any_pair_are_trained_but_not_aligned(tmp_path, capsys):
    features = {"image": torch.rand(96, 8).numpy(), "text": torch.rand(96, 6).numpy()}
    features["image"][:48] = features["text"][48:] = 0
    write_arrays(tmp_path / "cache", features, rows_per_chunk=16)
    settings = {"latents": 16, "k": 2, "steps": 12, "batch_size": 16, "block_chunks": 1}
    settings |= {"log_every": 1, "validation": str(tmp_path / "cache")}
    job.run(str(tmp_path / "cache"), tmp_path / "run", TrainConfig(rows="any", **settings))
    said = capsys.readouterr().err
    assert "missing in 96 rows, which train the others: 48 have" in said
    assert "note: 0 usable rows that every pair of streams has are too few to align" in said
    for line in read_lines(Folder(tmp_path / "run")):
        # Chunks are blocks here, so that one of the streams is missing in all rows of a batch.
        own = [line["nmse"][name][name] is not None for name in ("image", "text")]
        assert sum(own) == (2 if line["split"] == "validation" else 1)
        assert line["nmse"]["image"]["text"] is None


def test_fewer_rows_than_a_batch(tmp_path, capsys, small_settings):
    features = {"a": torch.rand(40, 8).numpy(), "b": torch.rand(40, 6).numpy()}
    write_arrays(tmp_path / "cache", features)
    job.run(str(tmp_path / "cache"), tmp_path / "run", small_settings(steps=12))
    assert "40 usable rows, fewer than a batch of 64" in capsys.readouterr().err
    assert [line["rows"] for line in read_lines(Folder(tmp_path / "run"))] == [400, 80]


@pytest.mark.parametrize("kernels", ["auto", "torch"])
@pytest.mark.parametrize("installed", [True, False])
def test_numba_is_recommended_where_it_would_be_chosen(
    tmp_path, monkeypatch, capsys, small_cache, small_settings, kernels, installed
):
    if not installed:
        for module in ("numba_kernels", "screening.kernels"):
            monkeypatch.setitem(sys.modules, f"sparc.train.kernels.{module}", None)
        monkeypatch.setitem(sys.modules, "numba", None)
    job.run(str(small_cache), tmp_path / "run", small_settings(steps=1, kernels=kernels))
    recommended = "pip install numba " in capsys.readouterr().err
    assert recommended == (kernels == "auto" and not installed)


@pytest.mark.parametrize("streams", [("dino",), ("clip_text", "dino")])
def test_any_number_of_streams(tmp_path, small_cache, small_settings, streams):
    job.run(str(small_cache), tmp_path / "run", small_settings(streams=streams, steps=20))
    (*_, line) = read_lines(Folder(tmp_path / "run"))
    # In the cache's order, whatever the order of the options.
    assert list(line["nmse"]) == [s for s in ("dino", "clip_text") if s in streams]


def test_no_cross_loss_leaves_pairs_out(tmp_path, small_cache, small_settings):
    settings = small_settings(cross_weight=0.0, steps=20, validation=str(small_cache))
    job.run(str(small_cache), tmp_path / "run", settings)
    trained, validated = read_lines(Folder(tmp_path / "run"))[-2:]
    assert trained["nmse"]["dino"]["clip_text"] is None
    assert validated["nmse"]["dino"]["clip_text"] > 0


def test_a_validation_cache_of_other_encoders_is_refused(tmp_path, small_cache, small_settings):
    features = {n: torch.rand(50, 5).numpy() for n in ("dino", "clip_image", "clip_text")}
    write_arrays(tmp_path / "other", features)
    settings = small_settings(validation=str(tmp_path / "other"))
    with pytest.raises(CacheError, match=r"stream dino was made by another encoder \(dim: 5"):
        job.run(str(small_cache), tmp_path / "run", settings)


def test_settings_that_cannot_be_met_leave_nothing_behind(tmp_path, small_cache, small_settings):
    with pytest.raises(ConfigError, match="precision bfloat16 needs a GPU"):
        job.run(str(small_cache), tmp_path / "run", small_settings(precision="bfloat16"))
    job.run(str(small_cache), tmp_path / "run", small_settings(steps=2))


def test_settings_without_influence_may_change(
    tmp_path, run_and_interrupt, reference_run, small_cache, small_settings
):
    settings = small_settings(validation=str(small_cache))
    run_and_interrupt(tmp_path / "run", settings, 20)
    changed = dataclasses.replace(settings, residency="stream", checkpoint_every=100)
    job.run(str(small_cache), tmp_path / "run", changed)
    assert result(tmp_path / "run") == result(reference_run)
    assert saved_steps(Folder(tmp_path / "run")) == [8, 16]


@pytest.mark.parametrize(
    ("changes", "module"), [({"tensorboard": True}, "tensorboard"), ({"wandb": "p"}, "wandb")]
)
def test_missing_services_say_what_to_install(
    tmp_path, monkeypatch, small_cache, small_settings, changes, module
):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(SparcError, match=f"pip install {module}$"):
        job.run(str(small_cache), tmp_path / "run", small_settings(**changes))


def test_a_run_goes_on_with_the_kernels_that_it_began_with(
    tmp_path, monkeypatch, run_and_interrupt, small_cache, small_settings
):
    """So it ends with the same weights where a better implementation has been installed since."""
    settings = small_settings(steps=12, checkpoint_every=5)
    job.run(str(small_cache), tmp_path / "torch", small_settings(steps=12, kernels="torch"))
    with monkeypatch.context() as patch:
        patch.setattr(choice, "available", lambda _: iter(["torch"]))
        run_and_interrupt(tmp_path / "run", settings, 8)
    job.run(str(small_cache), tmp_path / "run", settings)
    expected, resumed = ((tmp_path / name / "model.safetensors") for name in ("torch", "run"))
    assert resumed.read_bytes() == expected.read_bytes()
