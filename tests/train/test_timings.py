"""What a training says about its time, in its run and at its end."""

import pytest

from sparc.common.files.folder import Folder
from sparc.common.timing import timekeeper
from sparc.common.timing.phases import Phase, Role
from sparc.common.timing.shares import Shares
from sparc.train.config import TrainConfig
from sparc.train.job import run
from sparc.train.run.log import read_lines
from sparc.train.timings import advice


def test_lines_hold_all_time_since_the_line_before_and_the_end_adds_them_up(
    small_cache, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(timekeeper, "LONG", 0.0)
    settings = TrainConfig(
        latents=64,
        k=4,
        kernels="torch",
        steps=12,
        batch_size=50,
        log_every=4,
        checkpoint_every=6,
        validation=str(small_cache),
        residency="stream",
        block_chunks=2,
    )
    run(str(small_cache), str(tmp_path / "run"), settings)
    lines = read_lines(Folder(tmp_path / "run"), "timings.jsonl")
    assert [line["step"] for line in lines] == [4, 8, 12]
    for line in lines:
        trainer, picker, reader = line["threads"]
        assert [trainer["role"], picker["role"], reader["role"]] == ["trainer", "picker", "reader"]
        seconds = trainer["seconds"]
        assert sum(seconds.values()) == pytest.approx(line["seconds"], abs=1e-4)
        assert line["waiting"] == pytest.approx(seconds["starved"] / line["seconds"], abs=1e-3)
        assert line["rows_per_second"] == pytest.approx(200 / line["seconds"], rel=1e-3)
    assert "save" in lines[1]["threads"][0]["seconds"]
    said = capsys.readouterr().err
    (block,) = (part for part in said.split("\ntime: ")[1:])
    assert block.startswith("600 rows in ")
    first = block.splitlines()[1]
    assert first.startswith("  trainer: ")
    assert "step " in first
    assert sum(int(part.split()[-1][:-1]) for part in first.partition("; ")[2].split(", ")) == 100


def test_advice_names_what_bounds_a_training_only_where_one_thing_does() -> None:
    def said(trainer: dict[Phase, float], picker: dict[Phase, float] | None = None) -> str:
        picking = [Shares(Role.PICKER, "", 1, 0, picker)] if picker else []
        return advice([Shares(Role.TRAINER, "", 1, 10, trainer), *picking])

    waiting = {Phase.STARVED: 4.0, Phase.STEP: 6.0}
    assert said(waiting, {Phase.STARVED: 8, Phase.PICK: 2}).startswith(
        "reading the cache is the bound: steps wait 40% of the time for rows; "
    )
    assert said(waiting, {Phase.PICK: 8, Phase.STARVED: 2}).startswith("picking rows is the bound")
    assert said({Phase.EXCHANGE: 5, Phase.STEP: 5}).startswith("exchanges between processes take")
    assert said({Phase.VALIDATE: 5, Phase.STEP: 5}).startswith("validation takes 50%")
    assert said({Phase.SAVE: 3, Phase.STEP: 7}).startswith("checkpoints take 30%")
    assert said({Phase.STEP: 9, Phase.STARVED: 1}).startswith("the steps are the bound")
    assert said({Phase.STEP: 6, Phase.STARVED: 2, Phase.SAVE: 2}) == ""
    assert advice([]) == ""
