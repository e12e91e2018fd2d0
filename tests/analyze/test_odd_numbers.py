"""Reports on what nobody would choose to measure: every figure is a number or is not there."""

import math

import numpy as np
import pytest

from sparc.analyze import AnalyzeConfig, analyze
from sparc.analyze.browse.build import browse
from sparc.common.cache.arrays import write_arrays
from sparc.common.errors import ReportError
from sparc.common.files.folder import Folder
from sparc.train import ModelConfig, StreamShape, create_model
from sparc.train.config import TrainConfig
from sparc.train.job import run
from sparc.train.run.log import read_lines

SETTINGS = AnalyzeConfig(device="cpu", scheduler="sync", top_rows=3)


@pytest.fixture
def write_cache(tmp_path, classes):
    def write(rows, **changes):
        generator = np.random.default_rng(rows)
        features = {"a": generator.normal(size=(rows, 6)), "t": generator.normal(size=(rows, 4))}
        return write_arrays(
            tmp_path / "cache",
            {**features, **changes},
            modality={"t": "text"},
            captions=[f"word {row % 3}" for row in range(rows)],
            label_ids=[[row % 2] for row in range(rows)],
            classes=classes([None, None]),
            rows_per_chunk=16,
        )

    return write


def require_numbers(report):
    """No figure is NaN or infinite; null stands where there is nothing to say."""
    assert all(value is None or math.isfinite(value) for value in report.summary.values())
    for name in report.tables:
        for column in report.table(name).columns:
            for value in column.to_pylist():
                assert not isinstance(value, float) or math.isfinite(value), name


@pytest.mark.parametrize(
    ("rows", "latents", "k"),
    [
        pytest.param(1, 8, 2, id="one row"),
        pytest.param(3, 8, 8, id="all latents, and fewer rows than them"),
    ],
)
def test_few_rows(write_cache, tmp_path, rows, latents, k):
    cache = write_cache(rows)
    settings = TrainConfig(
        recipe="joint", latents=latents, k=k, auxk=2, steps=4, log_every=2, device="cpu"
    )
    run(str(cache.folder), tmp_path / "run", settings)
    assert all(math.isfinite(line["loss"]) for line in read_lines(Folder(tmp_path / "run")))
    report = analyze(tmp_path / "run", cache.folder.local, tmp_path / "report", SETTINGS)
    assert report.info.rows == rows
    require_numbers(report)


def test_a_model_whose_latents_are_all_dead(write_cache, tmp_path):
    cache = write_cache(40, a=np.ones((40, 6)))  # constant as well
    streams = (StreamShape("a", 6), StreamShape("t", 4))
    model = create_model(ModelConfig(streams=streams, latents=8, k=2))
    for bias in model.latent_bias.values():
        bias.data.fill_(-100)
    model.save(tmp_path / "model")
    report = analyze(tmp_path / "model", cache.folder.local, tmp_path / "report", SETTINGS)
    require_numbers(report)
    assert report.summary["alive_nowhere/independent/trained"] == 8
    assert report.summary["nmse_self/joint/trained"] == pytest.approx(1)
    with pytest.raises(ReportError, match="no latent is active on any row"):
        browse(report, tmp_path / "site")
