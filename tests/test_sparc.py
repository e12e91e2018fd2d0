"""`import sparc`: what a notebook gets, and what it costs."""

import inspect
import shutil
import subprocess
import sys

import numpy as np
import pytest

import sparc
import sparc.analyze as analyze_stage
import sparc.extract as extract_stage
import sparc.train as train_stage

SMALL = {"latents": 16, "k": 4, "batch_size": 16, "steps": 6, "device": "cpu", "kernels": "torch"}
SECONDS = 0.2


def python(code: str) -> str:
    """What a new process prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_import_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, time; begin = time.process_time(); import sparc; "
        "print(time.process_time() - begin); "
        "print(*sys.modules)"
    )
    seconds, modules = min(
        (python(code).split("\n") for _ in range(3)), key=lambda lines: float(lines[0])
    )
    assert float(seconds) < SECONDS
    assert {"torch", "numpy", "pyarrow", "zarr", "typer"}.isdisjoint(modules.split())


def test_a_checkout_that_is_not_installed_says_so(tmp_path) -> None:
    """Its folder `sparc` hides what is installed from a Python that starts there."""
    (tmp_path / "sparc").mkdir()
    shutil.copy(sparc.__file__, tmp_path / "sparc")
    here = [sys.executable, "-S", "-c", "import sparc"]  # -S: not even an editable install helps
    done = subprocess.run(here, cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == (
        f"ModuleNotFoundError: {tmp_path / 'sparc'} is SPARC's source and not installed from here: "
        "type `pip install -e .` in its folder, or start Python in another folder"
    )


def test_all_that_is_public_is_documented() -> None:
    assert set(sparc.__all__) <= set(dir(sparc))
    for name in sparc.__all__:
        assert inspect.getdoc(getattr(sparc, name)), name
    with pytest.raises(AttributeError, match="module 'sparc' has no attribute 'nothing'"):
        sparc.nothing  # noqa: B018


def test_a_stage_is_a_function_and_a_package() -> None:
    from sparc.train import TrainConfig

    stages = (
        (extract_stage, sparc.extract),
        (train_stage, sparc.train),
        (analyze_stage, sparc.analyze),
    )
    for stage, function in stages:
        assert stage is function
        assert inspect.ismodule(stage)
        assert all(hasattr(stage, name) for name in stage.__all__)
        assert "settings" in inspect.signature(stage).parameters
    assert train_stage.TrainConfig is TrainConfig


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    """With a cache of two streams, the run of it and the run's report, all from Python."""
    folder = tmp_path_factory.mktemp("python")
    hidden = np.random.default_rng(0).normal(size=(60, 6))
    features = {
        name: (hidden @ np.random.default_rng(dim).normal(size=(6, dim))).astype(np.float32)
        for name, dim in (("dino", 10), ("clip", 8))
    }
    sparc.write_arrays(folder / "cache", features, captions=[f"caption {n}" for n in range(60)])
    sparc.train(folder / "cache", folder / "run", **SMALL)
    sparc.analyze(folder / "run", folder / "cache", folder / "report", device="cpu")
    return folder


def test_training_returns_the_model_of_the_run(folder) -> None:
    again = sparc.train(str(folder / "cache"), str(folder / "run"), **SMALL)
    loaded = sparc.load(folder / "run")
    assert all((again.state_dict()[n] == w).all() for n, w in loaded.state_dict().items())
    same = sparc.train(folder / "cache", folder / "run", train_stage.TrainConfig(**SMALL))
    assert isinstance(same, sparc.Sparc)


def test_an_open_cache_stands_for_its_folder_and_a_model_for_none(folder) -> None:
    cache = sparc.ActivationCache(folder / "cache")
    model = sparc.train(cache, folder / "run", **SMALL)
    assert sparc.analyze(folder / "run", cache, folder / "report", device="cpu").tables
    with pytest.raises(sparc.SparcError, match="the run: give its folder or URL, not a Sparc"):
        sparc.analyze(model, cache, folder / "report")
    with pytest.raises(sparc.SparcError, match="the cache: give its folder or URL, not a dict"):
        sparc.train({"dino": [1.0]}, folder / "run")


def test_a_report_is_opened_again(folder) -> None:
    report = sparc.analyze(str(folder / "run"), str(folder / "cache"), str(folder / "report"))
    assert report.tables == sparc.Report(folder / "report").tables


def test_other_features_in_the_same_cache_are_not_what_run_and_report_are_of(tmp_path) -> None:
    cache, run, report = (tmp_path / name for name in ("cache", "run", "report"))
    features, others = np.random.default_rng(0).normal(size=(2, 60, 8)).astype(np.float32)

    def work() -> None:
        sparc.train(cache, run, **SMALL)
        sparc.analyze(run, cache, report, device="cpu")

    sparc.write_arrays(cache, {"a": features})
    work()
    sparc.write_arrays(cache, {"a": features}, overwrite=True)
    work()
    sparc.write_arrays(cache, {"a": others}, overwrite=True)
    with pytest.raises(sparc.SparcError, match=r"stream a is not the one .* overwrite=True"):
        sparc.train(cache, run, **SMALL)
    with pytest.raises(sparc.SparcError, match=r"a report on something else, .*features: "):
        sparc.analyze(run, cache, report, device="cpu")
    sparc.analyze(run, cache, tmp_path / "on other rows", device="cpu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent": 3}, "sparc.train: unknown setting 'latent'; did you mean 'latents'"),
        ({"latents": "many"}, "sparc.train: latents must be of type int, not 'many'"),
        ({"latents": 16.5}, "sparc.train: latents must be of type int, not 16.5"),
        ({"k": np.int64(99), "latents": 16}, "k (99) cannot exceed latents (16)"),
        ({"config": train_stage.TrainConfig(), "k": 3}, "sparc.train: k beside a config"),
    ],
)
def test_a_setting_that_is_wrong_is_named(folder, settings, message) -> None:
    with pytest.raises(sparc.SparcError) as caught:
        sparc.train(folder / "cache", folder / "other", **settings)
    assert message in str(caught.value)
    assert not (folder / "other").exists()
