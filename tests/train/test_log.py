"""Where figures go: files that survive an interruption, and services if they are asked for."""

import sys
import types

import pytest

from sparc.common.errors import RunError
from sparc.train import job
from sparc.train.log import flatten, read_lines


def test_nested_figures_get_names():
    line = {"loss": 0.5, "nmse": {"a": {"b": 1.0, "c": None}}, "split": "train", "dead": {"a": 3}}
    assert dict(flatten(line)) == {"loss": 0.5, "nmse/a/b": 1.0, "dead/a": 3}


def test_a_line_half_written_is_no_line(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert read_lines(tmp_path) == [{"step": 1}, {"step": 2}]
    (tmp_path / "metrics.jsonl").write_text('{"step": 1\n{"step": 2}\n')
    with pytest.raises(RunError, match=r"metrics.jsonl is damaged"):
        read_lines(tmp_path)
    assert read_lines(tmp_path, "timings.jsonl") == []


@pytest.fixture
def fake_services(monkeypatch):
    """Stand-ins for the two packages; returns what they were told."""
    told = {"tensorboard": [], "wandb": []}

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            told["tensorboard"].append(("begin", folder, purge_step))

        def add_scalar(self, name, value, step):
            told["tensorboard"].append((name, value, step))

        def close(self):
            told["tensorboard"].append("end")

    def init(**options):
        told["wandb"].append(options)
        return types.SimpleNamespace(
            log=told["wandb"].append, finish=lambda: told["wandb"].append("end")
        )

    tensorboard = types.ModuleType("torch.utils.tensorboard")
    tensorboard.SummaryWriter = SummaryWriter
    wandb = types.ModuleType("wandb")
    wandb.init = init
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", tensorboard)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    return told


def test_services_are_told_every_figure(tmp_path, small_cache, small_settings, fake_services):
    run = tmp_path / "run"
    job.run(str(small_cache), run, small_settings(steps=20, tensorboard=True, wandb="project"))
    lines = read_lines(run)
    board = fake_services["tensorboard"]
    assert board[0] == ("begin", str(run / "tensorboard"), 1)
    assert board[-1] == "end"
    for line in lines:
        assert ("train/loss", line["loss"], line["step"]) in board
        value = line["nmse"]["dino"]["clip_text"]
        assert ("train/nmse/dino/clip_text", value, line["step"]) in board
    weights = fake_services["wandb"]
    assert (weights[0]["project"], weights[0]["name"]) == ("project", "run")
    assert weights[0]["config"]["train"]["latents"] == 96
    logged = [each for each in weights[1:-1] if "train/loss" in each]
    assert [each["step"] for each in logged] == [10, 20]
    assert any("time/rows_per_second" in each for each in weights[1:-1])
