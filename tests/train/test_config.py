"""The recipe decides defaults: in Python, on the command line, in files, sweeps and records."""

import dataclasses
import json

import numpy as np
import pytest

from sparc.common.cache import write_arrays
from sparc.common.defaults import changed
from sparc.common.errors import CacheError, ConfigError
from sparc.common.files.folder import Folder
from sparc.train import job, load
from sparc.train.config import TrainConfig
from sparc.train.run.run_folder import RunRecord
from sparc.train.run.sweep import Sweep
from sparc.train.step.recipes.registry import RECIPES, RecipeEntry
from sparc.train.step.terms.registry import TERMS, TermEntry

SIZES = ("--latents", 96, "--k", 4, "--steps", 8, "--batch-size", 64, "--device", "cpu")
OURS = TrainConfig(latents=1024)


@pytest.fixture
def train(small_cache, tmp_path, call):
    """Train with the default recipe; its record."""

    def run(*options, name="run"):
        done = call("train", "run", small_cache, tmp_path / name, *SIZES, *options)
        assert done.returncode == 0, done.stderr
        return json.loads((tmp_path / name / "config.json").read_text())["train"]

    return run


def result(run):
    return (run / "model.safetensors").read_bytes(), (run / "metrics.jsonl").read_bytes()


def assert_same_weights(one, other):
    models = [load(run).state_dict() for run in (one, other)]
    assert all((models[0][name] == value).all() for name, value in models[1].items())


def test_the_recipes_set_these_numbers():
    assert OURS.recipe == "aligned"
    assert (OURS.lr, OURS.schedule, OURS.dead_after) == (1e-3, "tail", 0)
    assert OURS.align == ("0.25", "0.5", "0.8", "1=0.7")
    for recipe in ("joint", "published"):
        config = TrainConfig(recipe=recipe, latents=1024)
        assert (config.lr, config.schedule, config.dead_after) == (1e-4, "constant", 256_000)
        assert (config.terms, config.align, config.noise) == ((), (), 0)


def test_the_rate_falls_with_the_root_of_many_latents():
    assert [TrainConfig(latents=n).lr for n in (512, 4096, 8192)] == [1e-3, 1e-3, 7.07e-4]


def test_a_latent_is_dead_after_a_tenth_of_the_run():
    assert [OURS.rows_to_death(rows) for rows in (5, 128_000, 10**9)] == [1, 12_800, 256_000]
    assert changed(OURS, dead_after=7).rows_to_death(128_000) == 7


def test_a_run_records_the_numbers_that_it_used(train):
    record = train("--noise", 0)
    expected = dataclasses.replace(TrainConfig(latents=96), noise=0.0)
    assert (record["lr"], record["align"]) == (expected.lr, list(expected.align))
    assert (record["recipe"], record["alive_by"]) == ("aligned", "both")
    assert "noise" not in record  # as declared, 0: an option that is typed wins


def test_a_record_means_its_numbers_whatever_the_recipe_sets_later(train, tmp_path, monkeypatch):
    train("--noise", 0)
    before = RunRecord.read(Folder(tmp_path / "run")).train
    settings = {**RECIPES["aligned"].settings, "clip": 1.0, "error": "variance", "lr": 7.0}
    later = dataclasses.replace(RECIPES["aligned"], settings=settings)
    monkeypatch.setitem(RECIPES, "aligned", later)
    assert TrainConfig().clip == 1
    assert RunRecord.read(Folder(tmp_path / "run")).train == before


def test_the_former_default_is_joint(train):
    assert TrainConfig(recipe="default") == TrainConfig(recipe="joint")
    assert train("--recipe", "default")["recipe"] == "joint"


def test_a_file_names_a_recipe_and_what_differs_from_it(train, tmp_path):
    file = tmp_path / "train.toml"
    file.write_text('[train]\nrecipe = "joint"\nnoise = 0.1\n')
    record = train("--config", file)
    assert (record["lr"], record["noise"], "align" in record) == (1e-4, 0.1, False)


def test_a_sweep_of_recipes_makes_the_runs_that_each_makes(small_cache, tmp_path):
    grid = tmp_path / "grid.toml"
    grid.write_text('recipe = ["aligned", "joint", "published"]\nlatents = [64, 96]\n')
    base = TrainConfig(k=4, steps=8, batch_size=64, log_every=4, noise=0, device="cpu")
    job.run_sweep(str(small_cache), tmp_path / "sweep", base, grid)
    recorded = Sweep.read(Folder(tmp_path / "sweep")).settings
    for recipe in ("aligned", "joint"):
        name, settings = f"recipe={recipe},latents=96", changed(base, recipe=recipe, latents=96)
        assert recorded[name] == settings
        job.run(str(small_cache), tmp_path / recipe, settings)
        assert result(tmp_path / "sweep" / name) == result(tmp_path / recipe)


def test_a_sweep_of_a_terms_weight_keeps_the_other_terms_of_the_recipe(tmp_path, monkeypatch):
    settings = {**RECIPES["aligned"].settings, "terms": ("pull=0.5", "distill=0.1")}
    monkeypatch.setitem(
        RECIPES, "aligned", dataclasses.replace(RECIPES["aligned"], settings=settings)
    )
    monkeypatch.setitem(TERMS, "pull", TermEntry("of a test", "nowhere:Pull"))
    grid = tmp_path / "grid.toml"
    grid.write_text('recipe = ["aligned", "joint"]\nterm.distill = [0.0, 0.3]\n')
    sweep = Sweep.plan(grid, "cache", TrainConfig())
    weights = {name: settings.terms for name, settings in sweep.settings.items()}
    assert weights["recipe=aligned,term.distill=0.3"] == ("pull=0.5", "distill=0.3")
    assert weights["recipe=joint,term.distill=0.0"] == ("distill=0.0",)
    assert sweep.settings["recipe=joint,term.distill=0.3"].lr == 1e-4


def test_a_new_recipe_has_settings(monkeypatch):
    home = "sparc.train.step.recipes.recipe:Recipe"
    settings = {"clip": 0.5, "lr": lambda config: config.k / 100, "align": ("1",)}
    monkeypatch.setitem(RECIPES, "new", RecipeEntry("of a test", home, settings=settings))
    config = TrainConfig(recipe="new", k=8)
    assert (config.clip, config.lr, config.align) == (0.5, 0.08, ("1",))
    assert TrainConfig(recipe="new", k=8, clip=0).clip == 0
    monkeypatch.setitem(RECIPES, "wrong", RecipeEntry("", home, settings={"seed": 7}))
    with pytest.raises(ConfigError, match="recipe wrong cannot set 'seed', only one of latents"):
        TrainConfig(recipe="wrong", k=8)


@pytest.mark.parametrize(
    "options",
    [
        ("--selection", "local"),
        ("--selection", "batch"),
        ("--stream", "dino"),
        ("--steps", 1),
        ("--latents", 2000),  # more than rows
        ("--align", "none", "--term", "distill=0.03"),
    ],
)
def test_the_default_recipe_trains_with(train, tmp_path, options):
    record = train(*options)
    assert record["recipe"] == "aligned"
    assert all(weight.isfinite().all() for weight in load(tmp_path / "run").state_dict().values())


def test_with_local_selection_there_are_no_joint_batches_to_learn_from():
    local = TrainConfig(selection="local")
    assert (local.independent, local.alive_by) == (0, "any")
    assert local.align == OURS.align


def test_a_single_stream_is_not_aligned(train, tmp_path):
    train("--stream", "dino", "--noise", 0)
    train("--stream", "dino", "--noise", 0, "--align", "none", name="never")
    assert_same_weights(tmp_path / "run", tmp_path / "never")


def test_too_few_rows_are_aligned_only_if_that_is_asked_for(tmp_path, capsys):
    draws = np.random.default_rng(0)
    features = {name: draws.standard_normal((9, dim)) for name, dim in (("a", 24), ("b", 5))}
    write_arrays(tmp_path / "cache", features)
    few = TrainConfig(latents=16, k=2, steps=3, device="cpu")
    asked = changed(few, align=("0.5",))
    with pytest.raises(CacheError, match=r"at least 12 are needed; align=.*none.* trains without"):
        job.run(str(tmp_path / "cache"), tmp_path / "run", asked)
    job.run(str(tmp_path / "cache"), tmp_path / "run", few)  # nothing was written
    note = "9 usable rows are too few to align encoders as recipe aligned does, which needs 12"
    assert note in capsys.readouterr().err
    job.run(str(tmp_path / "cache"), tmp_path / "never", changed(few, align=("none",)))
    assert "too few" not in capsys.readouterr().err
    assert_same_weights(tmp_path / "run", tmp_path / "never")
