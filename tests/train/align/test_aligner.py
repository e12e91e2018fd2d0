"""Aligning in training is the aligning of finished runs, after the steps that the settings name."""

import pytest
import torch

from sparc.common.cache.arrays import write_arrays
from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import CacheError, ConfigError
from sparc.train import AlignConfig, align_run, load
from sparc.train.config import TrainConfig
from sparc.train.job import run


@pytest.mark.parametrize("selection", ["global", "batch"])
def test_after_the_last_step_it_is_that_of_the_finished_run(
    small_cache, small_settings, tmp_path, selection
):
    settings = small_settings(steps=20, device="cpu", selection=selection)
    run(str(small_cache), tmp_path / "plain", settings)
    by_hand = align_run(
        tmp_path / "plain", small_cache, tmp_path / "by_hand", AlignConfig(mix=0.5, device="cpu")
    )
    settings = small_settings(steps=20, device="cpu", selection=selection, align=("1=0.5",))
    run(str(small_cache), tmp_path / "trained", settings)
    trained = load(tmp_path / "trained")
    for name, tensor in by_hand.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], tensor, rtol=0, atol=0)


def test_shares_are_steps_and_a_share_is_counted_once():
    settings = TrainConfig(align=("0.25", "0.5=0.7", "1=0.5"))
    assert settings.mixes_by_step(70) == {18: 1.0, 35: 0.7, 70: 0.5}
    assert TrainConfig(align=("0.25", "0.5=0.7", "1")).settling_from(70) == 35
    assert TrainConfig(align=("1",)).settling_from(70) == float("inf")
    assert TrainConfig(align=("0.001",)).mixes_by_step(70) == {1: 1.0}
    for wrong in ("0", "1.5", "0.5=2", "half"):
        with pytest.raises(ConfigError, match="align= wants SHARE or SHARE=MIX"):
            TrainConfig(align=(wrong,))
    with pytest.raises(ConfigError, match=r"gives the share 0\.5 twice"):
        TrainConfig(align=("0.5", "0.50=0.3"))


def test_too_few_rows_are_said_before_the_first_step(small_cache, small_settings, tmp_path):
    rows = ActivationCache(small_cache).aligned(0, ("dino", "clip_text")).features
    cache = write_arrays(tmp_path / "few", {name: x[:10] for name, x in rows.items()})
    settings = small_settings(steps=4, batch_size=4, device="cpu", align=("1",))
    with pytest.raises(CacheError, match="too few for the covariance of dino"):
        run(cache.folder.location, tmp_path / "run", settings)
    assert (
        not (tmp_path / "run/metrics.jsonl").exists()
        or not (tmp_path / "run/metrics.jsonl").read_bytes()
    )
