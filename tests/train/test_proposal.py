"""Latents and k that fit the data, where nobody gave them."""

import json

import numpy as np
import pytest

from sparc.common.cache.arrays import write_arrays
from sparc.train import job
from sparc.train.config import TrainConfig
from sparc.train.proposal import with_size


@pytest.mark.parametrize(
    ("rows", "width", "size"),
    [
        (600_000, 768, (8192, 64)),  # as published
        (32_768, 512, (8192, 64)),
        (32_767, 768, (4096, 64)),
        (600_000, 20, (256, 8)),
        (3_000, 384, (512, 16)),
        (300, 20, (64, 4)),
        (41, 768, (16, 4)),
        (2, 1, (16, 4)),
    ],
)
def test_the_size_fits_rows_and_values(rows, width, size) -> None:
    sized = with_size(TrainConfig(), rows=rows, width=width)
    assert (sized.latents, sized.k) == size


def test_what_is_given_stays_and_the_recipe_decides_by_it() -> None:
    data = {"rows": 300, "width": 20}
    assert with_size(TrainConfig(k=100), **data).latents == 100
    assert with_size(TrainConfig(latents=1024), **data).k == 32
    assert with_size(TrainConfig(latents=2), **data).k == 2
    assert with_size(TrainConfig(), **data) == TrainConfig(latents=64, k=4)
    published = with_size(TrainConfig(recipe="published"), **data)
    assert (published.latents, published.k) == (8192, 64)


@pytest.fixture
def cache(tmp_path) -> str:
    draws = np.random.default_rng(0)
    features = {name: draws.standard_normal((70, dim)) for name, dim in (("a", 9), ("b", 5))}
    write_arrays(tmp_path / "cache", features)
    return str(tmp_path / "cache")


def recorded(run) -> tuple[int, int]:
    settings = json.loads((run / "config.json").read_text())["train"]
    return settings["latents"], settings["k"]


def test_a_run_records_what_was_proposed_and_says_it(cache, tmp_path, capsys) -> None:
    few = {"steps": 2, "device": "cpu", "kernels": "torch"}
    job.run(cache, tmp_path / "run", TrainConfig(**few))
    said = capsys.readouterr().err
    assert "16 latents, 4 a row, for 70 rows of up to 9 values; choose others with" in said
    assert "note: 70 rows are few" in said
    assert recorded(tmp_path / "run") == (16, 4)
    job.run(cache, tmp_path / "run", TrainConfig(**few))  # the same command again
    assert "run is finished" in capsys.readouterr().err
    job.run(cache, tmp_path / "other", TrainConfig(latents=99, k=7, **few))
    assert "99 latents are more than the 70 rows to learn from" in capsys.readouterr().err
    job.run(cache, tmp_path / "other", TrainConfig(**few))  # with the size that it has
    assert recorded(tmp_path / "other") == (99, 7)


def test_a_sweep_has_a_size_for_each_run(cache, tmp_path, capsys) -> None:
    (tmp_path / "grid.toml").write_text("latents = [16, 512]\n")
    settings = TrainConfig(steps=2, device="cpu", kernels="torch")
    for said in ("512 latents, 16 a row", "is finished"):
        job.run_sweep(cache, tmp_path / "sweep", settings, tmp_path / "grid.toml")
        assert said in capsys.readouterr().err
    assert recorded(tmp_path / "sweep/latents=16") == (16, 4)
    assert recorded(tmp_path / "sweep/latents=512") == (512, 16)
