"""`--start-from`: streams that begin at the weights of another model."""

import shutil

import pytest
import torch

from sparc.common.cache.arrays import write_arrays
from sparc.common.errors import CacheError, RunError
from sparc.train import (
    ModelConfig,
    SaveConfig,
    StreamShape,
    create_model,
    load,
    save_run,
    take_streams,
)
from sparc.train.align.command import align_run
from sparc.train.align.config import AlignConfig
from sparc.train.job import resume, run, run_sweep
from sparc.train.loading import load_untrained


@pytest.fixture(scope="module")
def first(small_cache, tmp_path_factory, small_settings):
    folder = tmp_path_factory.mktemp("runs") / "first"
    run(str(small_cache), folder, small_settings(steps=10, device="cpu"))
    return folder


@pytest.fixture(scope="module")
def settings(small_settings, first):
    """Settings of a run whose stream `dino` starts from the first run."""
    save_run(first, first.parent / "dino", SaveConfig(streams=("dino",)))

    def build(**changes):
        start = {"latents": 0, "k": 0, "start_from": (str(first.parent / "dino"),)}
        return small_settings(**{**start, "steps": 12, "device": "cpu", **changes})

    return build


def test_a_stream_starts_at_the_weights_of_another_model(
    settings, first, small_cache, tmp_path, call
):
    folder = tmp_path / "run"
    typed = (
        "train",
        "run",
        small_cache,
        folder,
        f"--start-from={first.parent / 'dino'}",
        "--steps=2",
    )
    done = call(*typed, "--device=cpu", "--recipe=joint")
    assert done.returncode == 0, done.stderr
    begins = f"start: dino from {first.parent / 'dino'}; clip_image and clip_text at random"
    assert begins in done.stderr
    other, begun, trained = load(first), load_untrained(folder), load(folder)
    assert (trained.config.latents, trained.config.k) == (96, 4)
    for name in ("encoder", "decoder", "latent_bias", "pre_bias"):
        ours, theirs = getattr(begun, name), getattr(other, name)
        torch.testing.assert_close(ours["dino"], theirs["dino"])
        assert not torch.equal(getattr(trained, name)["dino"], theirs["dino"])
    assert not torch.allclose(begun.encoder["clip_text"], other.encoder["clip_text"], atol=1e-3)
    shown = call("train", "inspect", folder).stdout
    assert f"start_from ['{first.parent / 'dino'}']" in shown
    align_run(folder, small_cache, tmp_path / "aligned", AlignConfig(device="cpu", rows=900))
    again = load_untrained(tmp_path / "aligned")
    assert torch.equal(again.encoder["dino"], begun.encoder["dino"])


def test_an_interrupted_run_needs_its_start_no_more(
    settings, first, small_cache, tmp_path, interrupt_after
):
    whole = tmp_path / "whole"
    run(str(small_cache), whole, settings())
    save_run(first, tmp_path / "gone", SaveConfig(streams=("dino",)))
    cut = settings(start_from=(str(tmp_path / "gone"),))
    with interrupt_after(9):
        run(str(small_cache), tmp_path / "cut", cut)
    for path in (tmp_path / "gone").iterdir():
        path.unlink()
    run(str(small_cache), tmp_path / "cut", cut)
    for name, tensor in load(whole).state_dict().items():
        assert torch.equal(load(tmp_path / "cut").state_dict()[name], tensor)
    with pytest.raises(RunError, match="with start_from = "):
        run(str(small_cache), whole, settings(start_from=()))


def test_a_dictionary_of_raw_features_is_scaled_to_the_run(settings, tmp_path):
    draws = torch.Generator().manual_seed(0)
    features = torch.randn(200, 9, generator=draws)
    features *= 3 / features.norm(dim=1, keepdim=True)
    write_arrays(tmp_path / "cache", {"dino": features.numpy()}, dtype="float32")
    config = ModelConfig(streams=(StreamShape("dino", 9),), latents=32, k=4, normalize="none")
    model = create_model(config, seed=1).requires_grad_(False)
    lengths = torch.linspace(0.5, 2, 32)
    lengths[7] = 0
    model.decoder["dino"].mul_(lengths[:, None])
    model.latent_bias["dino"].copy_(torch.randn(32, generator=draws))
    model.pre_bias["dino"].copy_(torch.randn(9, generator=draws))
    model.save(tmp_path / "raw")
    folder = tmp_path / "run"
    run(str(tmp_path / "cache"), folder, settings(start_from=(str(tmp_path / "raw"),), steps=1))
    begun = load_untrained(folder)
    torch.testing.assert_close(begun.decoder["dino"].norm(dim=1), torch.ones(32))
    logits = 3 * begun.logits("dino", begun.normalize("dino", features))
    wanted = model.logits("dino", features) * lengths
    kept = lengths > 0  # where the decoder is empty, a latent starts at random
    torch.testing.assert_close(logits[:, kept], wanted[:, kept], rtol=1e-4, atol=1e-4)
    rebuilt = begun.decode(begun.encode(features, stream="dino"), "dino")
    top = wanted.scatter(1, wanted.topk(4).indices, 0)
    codes = (wanted - top).relu() / lengths.where(kept, 1)
    exact = (codes @ model.decoder["dino"] + model.pre_bias["dino"]) / 3
    used = (logits.topk(4).indices != 7).all(1)
    assert used.sum() > 100
    torch.testing.assert_close(rebuilt[used], exact[used], rtol=1e-4, atol=1e-4)


def test_a_start_that_does_not_fit_is_refused(settings, first, small_cache, tmp_path):
    model = take_streams(load(first), ["dino"], {"dino": "vit"})
    model.save(tmp_path / "vit")
    take_streams(load(first), ["clip_text"], {"clip_text": "dino"}).save(tmp_path / "narrow")
    saved = str(first.parent / "dino")
    for changes, kind, message in [
        ({"start_from": (str(tmp_path / "vit"),)}, RunError, "none of the run's streams"),
        ({"latents": 128}, RunError, "has 96 latents, the run 128: leave latents= out"),
        ({"start_from": (str(tmp_path / "narrow"),)}, CacheError, r"\(dim: 24, not 12\)"),
        ({"start_from": (saved, str(first))}, RunError, "dino would start from"),
        (
            {"start_from": (str(tmp_path / "nothing"),)},
            RunError,
            "sparc-train import. makes a model",
        ),
    ]:
        with pytest.raises(kind, match=message):
            run(str(small_cache), tmp_path / "run", settings(**changes))
        assert not (tmp_path / "run").exists()


def test_a_sweep_fetches_no_start_that_it_records(settings, first, small_cache, tmp_path):
    grid, folder, start = tmp_path / "grid.toml", tmp_path / "sweep", tmp_path / "start"
    grid.write_text("k = [2, 4]\n")
    save_run(first, start, SaveConfig(streams=("dino",)))
    run_sweep(str(small_cache), folder, settings(start_from=(str(start),), steps=2), grid)
    whole = load(folder / "k=4")
    shutil.rmtree(folder / "k=4")
    start.rename(tmp_path / "elsewhere")
    with pytest.raises(RunError, match=r"starts from .*, which is no folder of this machine"):
        resume(folder)
    (tmp_path / "elsewhere").rename(start)
    resume(folder)
    for name, tensor in load(folder / "k=4").state_dict().items():
        assert torch.equal(whole.state_dict()[name], tensor)
