"""Several models on one pass over the data, each what it would be alone."""

import pyarrow.parquet as pq
import pytest
import torch

from sparc.common.errors import ConfigError, RunError
from sparc.common.files.folder import Folder
from sparc.train import job
from sparc.train.data.reader import BatchReader
from sparc.train.run.run_summary import describe_folder
from sparc.train.run.sweep import Sweep, read_index
from sparc.train.step.learner import Learner

GRID = "k = [3, 4]\nseed = [1, 2]\n"
NAMES = ["k=3,seed=1", "k=3,seed=2", "k=4,seed=1", "k=4,seed=2"]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def grid(tmp_path):
    def write(text):
        path = tmp_path / "grid.toml"
        path.write_text(text)
        return path

    return write


def result(run):
    return (run / "model.safetensors").read_bytes(), (run / "metrics.jsonl").read_bytes()


@pytest.fixture(scope="module")
def alone(tmp_path_factory, small_cache, small_settings):
    """The results of separate runs."""
    folder = tmp_path_factory.mktemp("alone")
    for k in (3, 4):
        for seed in (1, 2):
            run = folder / f"k={k},seed={seed}"
            job.run(str(small_cache), run, small_settings(k=k, seed=seed))
    return folder


def test_every_run_is_that_of_a_separate_run(tmp_path, grid, alone, small_cache, small_settings):
    folder = tmp_path / "sweep"
    job.run_sweep(str(small_cache), folder, small_settings(), grid(GRID))
    for name in NAMES:
        assert result(folder / name) == result(alone / name)
    index = pq.read_table(folder / "runs.parquet").to_pylist()
    assert [row["run"] for row in index] == NAMES
    assert [(row["k"], row["seed"]) for row in index] == [(3, 1), (3, 2), (4, 1), (4, 2)]
    assert all(row["finished"] and row["step"] == 70 and row["failure"] is None for row in index)
    assert all(0 < row["loss"] < 2 and row["l0"] <= row["k"] for row in index)
    shown = describe_folder(folder)
    assert "4 runs, 4 finished" in shown
    assert all(name in shown for name in NAMES)
    file = folder / "runs.parquet"
    pq.write_table(pq.read_table(file).rename_columns({"cross_nmse": "cross_nmsa"}), file)
    with pytest.raises(RunError, match=r"runs.parquet is damaged \(it has other columns"):
        read_index(Folder(folder))


def test_the_weight_of_a_loss_term_is_varied_as_separate_runs_have_it(
    tmp_path, grid, small_cache, small_settings
):
    folder, text = tmp_path / "sweep", "term.distill = [0, 0.5]\nk = [4]\n"
    job.run_sweep(str(small_cache), folder, small_settings(steps=6), grid(text))
    index = read_index(Folder(folder)).to_pylist()
    assert [row["run"] for row in index] == ["term.distill=0,k=4", "term.distill=0.5,k=4"]
    assert [row["term.distill"] for row in index] == [0.0, 0.5]
    assert all(row["finished"] for row in index)
    settings = small_settings(steps=6, k=4, terms=("distill=0.5",))
    job.run(str(small_cache), tmp_path / "alone", settings)
    shown = describe_folder(tmp_path / "alone")
    (changed,) = [line for line in shown.splitlines() if line.startswith("settings other than")]
    assert "terms ['distill=0.5']" in changed
    assert "steps 6" in changed
    assert "schedule" not in changed
    assert result(folder / index[1]["run"]) == result(tmp_path / "alone")
    assert result(folder / index[0]["run"]) != result(folder / index[1]["run"])


@pytest.mark.parametrize(("batches", "saved"), [(0, 0), (5, 0), (20, 16), (33, 32)])
def test_an_interrupted_sweep_goes_on(
    tmp_path, interrupt_after, grid, alone, small_cache, small_settings, batches, saved
):
    folder = tmp_path / "sweep"
    with interrupt_after(batches):
        job.run_sweep(str(small_cache), folder, small_settings(), grid(GRID))
    index = pq.read_table(folder / "runs.parquet").to_pylist()
    assert all(row["step"] == saved for row in index)
    # As if killed between two saves: one run has lost its newest checkpoint.
    newest = folder / NAMES[2] / "checkpoints/step-000000032"
    if newest.exists():
        (newest / "state.json").unlink()
    job.resume(folder)
    for name in NAMES:
        assert result(folder / name) == result(alone / name)


def test_a_run_that_diverges_does_not_stop_the_others(
    tmp_path, monkeypatch, grid, alone, small_cache, small_settings
):
    real = Learner.step

    def step(learner, batch, lr, *others, **options):
        ruined = learner.model.config.k == 3 and learner.settings.seed == 2
        return real(learner, batch, float("inf") if ruined else lr, *others, **options)

    monkeypatch.setattr(Learner, "step", step)
    folder = tmp_path / "sweep"
    with pytest.raises(RunError, match=r"1 of 4 runs diverged \(k=3,seed=2\)"):
        job.run_sweep(str(small_cache), folder, small_settings(), grid(GRID))
    index = {row["run"]: row for row in pq.read_table(folder / "runs.parquet").to_pylist()}
    assert "diverged" in index["k=3,seed=2"]["failure"]
    for name in (NAMES[0], *NAMES[2:]):
        assert result(folder / name) == result(alone / name)
    with pytest.raises(RunError, match="1 of 4 runs diverged"):
        job.resume(folder)


def test_a_sweep_of_which_no_run_goes_on_remembers_it(
    tmp_path, monkeypatch, grid, small_cache, small_settings, capsys
):
    folder, several = tmp_path / "sweep", grid("lr = [1e30, 1e31]")
    message = r"2 of 2 runs diverged \(lr=1e\+30, lr=1e\+31\); .*runs.parquet says where"
    with pytest.raises(RunError, match=message):
        job.run_sweep(str(small_cache), folder, small_settings(), several)
    assert capsys.readouterr().err.count("training diverged") == 2
    index = pq.read_table(folder / "runs.parquet").to_pylist()
    assert all("at step 2" in row["failure"] and not row["finished"] for row in index)
    shown = describe_folder(folder)
    assert shown.count("diverged") == 2
    assert "sparc-train resume" not in shown
    monkeypatch.delattr(BatchReader, "next_batch")  # they are not trained again
    with pytest.raises(RunError, match=message):
        job.resume(folder)


def test_a_finished_sweep_and_another_one(tmp_path, grid, small_cache, small_settings, capsys):
    folder, settings = tmp_path / "sweep", small_settings(steps=8)
    job.run_sweep(str(small_cache), folder, settings, grid("cross_weight = [0, 1.0]"))
    *_, last = capsys.readouterr().err.splitlines()
    assert last == f"2 runs trained in {folder}; compare them: sparc-train inspect {folder}"
    job.run_sweep(str(small_cache), folder, settings, grid("cross_weight = [0, 1.0]"))
    assert capsys.readouterr().err.count("is finished") == 2
    with pytest.raises(RunError, match=r"holds another sweep \(cross_weight=2.0 is not in it\)"):
        job.run_sweep(str(small_cache), folder, settings, grid("cross_weight = [0, 1.0, 2.0]"))
    other = small_settings(steps=8, lr=0.1)
    with pytest.raises(RunError, match=r"cross_weight=0: lr = 0.003, not 0.1"):
        job.run_sweep(str(small_cache), folder, other, grid("cross_weight = [0, 1.0]"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch_size = [1, 2]", "cannot vary 'batch_size'"),
        ("terms = [['distill=1']]", r"cannot vary 'terms', only .*term\.distill"),
        ("term.distill = [-1]", "wants NAME=WEIGHT"),
        ("k = 3", "k must be a list of values"),
        ("k = []", "k must be a list of values"),
        ("k = [1, 1]", "lists a value twice"),
        ("k = ['a']", "k must be of type int"),
        ("k = [97]", r"k \(97\) cannot exceed latents \(96\)"),
        ("", "varies nothing"),
        ("k = ", "is not valid TOML"),
    ],
)
def test_mistakes_in_the_grid_are_named(grid, small_settings, text, message):
    with pytest.raises(ConfigError, match=message):
        Sweep.plan(grid(text), "cache", small_settings())


def test_a_missing_grid(tmp_path, small_settings):
    with pytest.raises(ConfigError, match="cannot read sweep"):
        Sweep.plan(tmp_path / "none.toml", "cache", small_settings())
