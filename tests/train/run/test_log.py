"""Where figures go: files that survive an interruption, and services if they are asked for."""

import json
import sys
import types
import uuid

import pytest

from sparc.common.errors import RunError, SparcError
from sparc.common.files.folder import Folder
from sparc.train import job
from sparc.train.run.log import _held, _open_log, _until, flatten, read_lines
from sparc.train.run.log_lines import seal_line


def test_nested_figures_get_names():
    line = {"loss": 0.5, "nmse": {"a": {"b": 1.0, "c": None}}, "split": "train", "dead": {"a": 3}}
    assert dict(flatten(line)) == {"loss": 0.5, "nmse/a/b": 1.0, "dead/a": 3}


def line(step, **changes):
    return {"step": step, "seconds": 0.5, "rows_per_second": 10.0, "waiting": 0.25, **changes}


def test_a_line_half_written_is_no_line(tmp_path):
    file = tmp_path / "timings.jsonl"
    whole = b"".join(map(seal_line, (line(1), line(2))))
    for rest in (seal_line(line(3))[:n] for n in range(len(seal_line(line(3))))):
        file.write_bytes(whole + rest)
        assert read_lines(Folder(tmp_path), file.name) == [line(1), line(2)]
    assert read_lines(Folder(tmp_path)) == []


def test_every_flipped_bit_of_a_log_is_noticed(tmp_path):
    file = tmp_path / "timings.jsonl"
    whole = b"".join(map(seal_line, (line(1), line(2))))
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        with pytest.raises(RunError, match=r"timings.jsonl is damaged \(line [123]: .*\): remove"):
            read_lines(Folder(tmp_path), file.name)


def test_logs_of_earlier_versions_are_read_and_gone_on_with(tmp_path):
    file = tmp_path / "timings.jsonl"
    plain = json.dumps(line(1)) + "\n"
    file.write_text(plain)
    assert read_lines(Folder(tmp_path), file.name) == [line(1)]
    log = _open_log(Folder(tmp_path), file.name, _until(Folder(tmp_path), 1))
    log.append(line(2))
    log.close()
    assert read_lines(Folder(tmp_path), file.name) == [line(1), line(2)]
    assert file.read_text().startswith(plain)


@pytest.mark.parametrize(
    "damaged",
    [b"\xff", b"[" * 100_000, b"{}", b"[1]", b'{"step": 1, "rows_per_second": {}, "waiting": 1}'],
)
def test_what_an_earlier_version_did_not_seal_ends_in_no_traceback_either(tmp_path, damaged):
    (tmp_path / "timings.jsonl").write_bytes(damaged + b"\n")
    with pytest.raises(RunError, match=r"timings.jsonl is damaged \(line 1: "):
        read_lines(Folder(tmp_path), "timings.jsonl")


FIGURES = {
    "step": 4,
    "rows": 8,
    "split": "train",
    "loss": None,
    "nmse": {"a": {"a": 0.5}},
    **{name: {"a": 0.25} for name in ("explained_variance", "l0", "dead", "chosen_alone")},
}


@pytest.mark.parametrize(
    "changes",
    [{"step": 1.5}, {"split": None}, {"nmse": 3}, {"nmse": {"a": {}}}, {"l0": {}}, {"dead": 3},
     {"loss": "low"}, {"chosen_alone": {"a": []}}, {"explained_variance_pairs": {"b": {"a": 1}}},
     {"explained_variance_pairs": 3}, {"explained_variance_pairs": {"a": {"a": "much"}}}],
)  # fmt: skip
def test_a_line_of_metrics_that_lacks_a_figure_is_damaged(tmp_path, changes):
    file = tmp_path / "metrics.jsonl"
    file.write_text(json.dumps(FIGURES) + "\n")
    assert read_lines(Folder(tmp_path)) == [FIGURES]
    file.write_text(json.dumps({**FIGURES, **changes}) + "\n")
    with pytest.raises(RunError, match=r"metrics.jsonl is damaged \(line 1: "):
        read_lines(Folder(tmp_path))


def test_lines_after_the_checkpoint_are_cut_off_and_others_are_held_to(tmp_path):
    file, run = tmp_path / "metrics.jsonl", Folder(tmp_path)
    log = _open_log(run, file.name, _held(run, None))
    log.append({"step": 1})
    logged = log.sync()
    log.append({"step": 2})
    log.close()
    assert _held(run, logged) == seal_line({"step": 1})
    for damaged in ('{"step": 3}\n', '{"step": 1}', ""):
        file.write_text(damaged)
        with pytest.raises(RunError, match=r"metrics.jsonl does not hold .*: remove it to "):
            _held(run, logged)
    file.unlink()
    assert _held(run, logged) == b""


def test_behind_a_url_a_log_is_there_as_far_as_it_was_synced(tmp_path):
    run, lines = Folder(f"memory://{uuid.uuid4().hex}/run"), [line(step) for step in (1, 2, 3)]
    log = _open_log(run, "timings.jsonl", b"")
    log.append(lines[0])
    assert read_lines(run, "timings.jsonl") == []
    logged = log.sync()
    log.append(lines[1])
    log.close()
    assert read_lines(run, "timings.jsonl") == lines[:1]
    log = _open_log(run, "timings.jsonl", _until(run, 1))
    log.append(lines[2])
    assert log.sync().size > logged.size
    assert read_lines(run, "timings.jsonl") == [lines[0], lines[2]]


def test_timings_are_kept_as_far_as_they_can_be_read(tmp_path):
    file, run = tmp_path / "timings.jsonl", Folder(tmp_path)
    assert _until(run, 5) == b""
    file.write_bytes(b'{"step": 1}\n\xff\n{"step"\n{"step": 5}\n{"step": 6}\n{"step": 2}')
    assert _until(run, 5) == b'{"step": 1}\n{"step": 5}\n'
    sealed = [seal_line({"step": step}) for step in (1, 2, 3)]
    file.write_bytes(sealed[0] + sealed[1].replace(b"2,", b"3,") + sealed[2])
    assert _until(run, 5) == sealed[0] + sealed[2]


@pytest.mark.parametrize("service", [{"tensorboard": True}, {"wandb": "project"}])
def test_without_its_package_nothing_is_begun(
    tmp_path, small_cache, small_settings, monkeypatch, service
):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    grid = tmp_path / "grid.toml"
    grid.write_text("k = [2, 4]")
    settings = small_settings(**service)
    with pytest.raises(SparcError, match=f"pip install {next(iter(service))}$"):
        job.run(str(small_cache), tmp_path / "run", settings)
    with pytest.raises(SparcError, match=f"pip install {next(iter(service))}$"):
        job.run_sweep(str(small_cache), tmp_path / "sweep", settings, grid)
    assert [path.name for path in tmp_path.iterdir()] == ["grid.toml"]


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
    lines = read_lines(Folder(run))
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
