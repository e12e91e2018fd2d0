"""A run takes the place of another where that is asked for, and of nothing else."""

import numpy as np
import pytest

from sparc.common.cache.arrays import write_arrays
from sparc.common.errors import RunError
from sparc.train import job
from sparc.train.config import TrainConfig
from sparc.train.loading import load

SMALL = {"k": 3, "steps": 2, "device": "cpu", "kernels": "torch"}


@pytest.fixture
def cache(tmp_path):
    write_arrays(tmp_path / "cache", {"a": np.random.default_rng(0).standard_normal((30, 5))})
    return tmp_path / "cache"


def test_another_run_takes_the_place(cache, tmp_path, call) -> None:
    job.run(str(cache), tmp_path / "run", TrainConfig(latents=8, **SMALL))
    command = ("train", "run", cache, tmp_path / "run", "--latents=9", "--k=3", "--steps=2")
    refused = call(*command, "--device=cpu", "--kernels=torch")
    assert "has finished with latents = 8, not 9" in refused.stderr
    assert "--overwrite" in refused.stderr
    done = call(*command, "--device=cpu", "--kernels=torch", "--overwrite")
    assert done.returncode == 0, done.stderr
    assert load(tmp_path / "run").config.latents == 9


def test_what_services_logged_goes_with_the_run(cache, tmp_path) -> None:
    job.run(str(cache), tmp_path / "run", TrainConfig(latents=8, **SMALL))
    for service in ("tensorboard", "wandb"):
        (tmp_path / "run" / service / "first").mkdir(parents=True)
    job.run(str(cache), tmp_path / "run", TrainConfig(latents=9, **SMALL), overwrite=True)
    assert load(tmp_path / "run").config.latents == 9
    assert not (tmp_path / "run/wandb").exists()


def test_nothing_else_is_removed(cache, tmp_path) -> None:
    settings = TrainConfig(latents=8, **SMALL)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").write_text("somebody's only photo")
    with pytest.raises(RunError, match=r"not a run .it holds cat\.jpg"):
        job.run(str(cache), tmp_path / "photos", settings, overwrite=True)
    assert (tmp_path / "photos/cat.jpg").exists()
    job.run(str(cache), tmp_path / "run", settings, overwrite=True)  # there is none yet
    before = (tmp_path / "run/model.safetensors").read_bytes()
    (tmp_path / "run/notes.txt").write_text("what this run is about")
    with pytest.raises(RunError, match=r"holds notes\.txt besides the run, so nothing is overwr"):
        job.run(str(cache), tmp_path / "run", settings, overwrite=True)
    (tmp_path / "run/notes.txt").unlink()
    assert (tmp_path / "run/model.safetensors").read_bytes() == before
    with pytest.raises(Exception, match="not an activation cache"):
        job.run(str(tmp_path / "nowhere"), tmp_path / "run", settings, overwrite=True)
    assert (tmp_path / "run/model.safetensors").read_bytes() == before
