import json
import os

import pytest
import torch

from sparc.common.documents import seal, unseal
from sparc.common.errors import RunError, UnsafeError
from sparc.common.files.folder import Folder
from sparc.train import load
from sparc.train.config import ModelConfig, StreamShape
from sparc.train.data.order import Position
from sparc.train.model.initialize import initial_model
from sparc.train.model.network import Sparc
from sparc.train.model.tensors_in_turn import TensorsInTurn
from sparc.train.run.checkpoint import (
    Checkpoint,
    Logged,
    good_steps,
    load_checkpoint,
    save_checkpoint,
)
from sparc.train.run.run_folder import saved_steps

CONFIG = ModelConfig(streams=(StreamShape("a", 4),), latents=6, k=2)


def checkpoint(step):
    return Checkpoint(
        step=step,
        position=Position(1, 2),
        learner=TensorsInTurn.of({"first.encoder.a": torch.full((6, 4), float(step))}),
        window={"rows": torch.tensor(7.0, dtype=torch.float64)},
        logged=Logged(12, "ab"),
    )


@pytest.fixture
def run(tmp_path):
    for step in (10, 20, 30):
        model = initial_model(CONFIG, seed=step, means=None)
        save_checkpoint(Folder(tmp_path), model, checkpoint(step))
    return tmp_path


def test_the_newest_are_kept_and_come_back(run):
    assert saved_steps(Folder(run)) == good_steps(Folder(run), CONFIG) == [20, 30]
    model = Sparc(CONFIG)
    found = load_checkpoint(Folder(run), 30, model)
    assert (found.step, found.position) == (30, Position(1, 2))
    assert torch.equal(found.learner.layout["first.encoder.a"], torch.full((6, 4), 30.0))
    assert found.window["rows"] == 7
    assert found.logged == Logged(12, "ab")
    expected = initial_model(CONFIG, seed=30, means=None)
    assert torch.equal(model.encoder["a"], expected.encoder["a"])


def test_a_checkpoint_is_itself_a_model(run):
    expected = initial_model(CONFIG, seed=20, means=None)
    loaded = load(run / "checkpoints/step-000000020")
    assert torch.equal(loaded.encoder["a"], expected.encoder["a"])


@pytest.mark.parametrize(
    "name", ["model.safetensors", "learner.safetensors", "window.safetensors", "state.json"]
)
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_checkpoint_is_not_used(run, capsys, name, damage):
    path = run / "checkpoints/step-000000030" / name
    content = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[0 if name == "state.json" else -1] ^= 0xFF
        path.write_bytes(content)
    assert good_steps(Folder(run), CONFIG) == [20]
    assert "step-000000030 is damaged" in capsys.readouterr().err


def test_a_checkpoint_under_the_name_of_another_step_is_not_used(run, capsys):
    (run / "checkpoints/step-000000030").rename(run / "checkpoints/step-000000040")
    assert good_steps(Folder(run), CONFIG) == [20]
    assert "it is of step 30" in capsys.readouterr().err


def test_the_order_is_that_of_steps_whatever_the_clock_said(run):
    os.utime(run / "checkpoints/step-000000020", (2e9, 2e9))
    os.utime(run / "checkpoints/step-000000030", (0, 0))
    assert good_steps(Folder(run), CONFIG) == [20, 30]
    save_checkpoint(Folder(run), Sparc(CONFIG), checkpoint(40))
    assert saved_steps(Folder(run)) == [30, 40]


def test_what_an_interrupted_save_leaves_is_no_checkpoint(run):
    left = run / "checkpoints/step-000000040.partial"
    left.mkdir()
    (left / "state.json").write_text("{")
    assert saved_steps(Folder(run)) == [20, 30]
    save_checkpoint(Folder(run), Sparc(CONFIG), checkpoint(40))
    assert good_steps(Folder(run), CONFIG) == [30, 40]
    assert not left.exists()


def test_loading_says_what_is_damaged(run):
    (run / "checkpoints/step-000000030/state.json").write_text(json.dumps({"step": 30}))
    with pytest.raises(RunError, match="step-000000030 is damaged"):
        load_checkpoint(Folder(run), 30, Sparc(CONFIG))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "learner.safetensors"])
def test_a_file_that_is_far_too_long_is_refused_before_it_is_read(run, name):
    with (run / "checkpoints/step-000000030" / name).open("r+b") as file:
        file.truncate(1 << 40)  # reading its holes would take minutes
    with pytest.raises(UnsafeError, match=f"{name} has .*, more than"):
        good_steps(Folder(run), CONFIG)


@pytest.mark.parametrize("place", ["epoch", "step_of_epoch", "size"])
@pytest.mark.parametrize("value", [[1], "7", -1, 1.5, None])
def test_counts_that_are_none_are_refused(run, place, value):
    file = run / "checkpoints/step-000000030/state.json"
    state = unseal(file.read_bytes())
    (state["logged"] if place == "size" else state)[place] = value
    file.write_bytes(seal(state))
    with pytest.raises(RunError, match="does not count from zero"):
        load_checkpoint(Folder(run), 30, Sparc(CONFIG))
