"""The datasets of `tests/benchmarks/bench_datasets.py`, small: counted here, measured there."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[2] / "benchmarks/bench_datasets.py"


@pytest.fixture
def bench(monkeypatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_datasets", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "IMAGES", 30)
    monkeypatch.setattr(module, "SAMPLES_A_SHARD", 30)
    return module


def test_many_shards(tmp_path, bench, manifest) -> None:
    bench.make_shards(tmp_path, 40)
    result = manifest()
    assert result.rows.num_rows == 1200
    assert len(set(result.rows["caption"].to_pylist())) == 1200
    (used,) = result.account.used
    assert (used.files, used.used) == (40, (".jpg", ".txt"))
    assert ".json url" in used.unused


def test_labels_of_more_images_than_there_are(tmp_path, bench, manifest, monkeypatch, capsys):
    """In several blocks and several comparisons, with more strangers than are kept."""
    from sparc.extract.datasets.labels import table

    bench.make_labels(tmp_path, 3000)
    whole = manifest(labels=tmp_path / "labels.csv")
    said = capsys.readouterr().err
    assert "20 images of 30 labelled, by file name without suffix; 1,860 of 2,000" in said
    monkeypatch.setattr(table, "_BLOCK", 1 << 12)
    monkeypatch.setattr(table, "_ROWS_AT_ONCE", 100)
    monkeypatch.setattr(table, "_KEPT_STRANGERS", 500)
    in_parts = manifest(labels=tmp_path / "labels.csv")
    assert (in_parts.rows, in_parts.classes) == (whole.rows, whole.classes)


def test_narratives_of_more_images_than_there_are(tmp_path, bench, manifest) -> None:
    bench.make_narratives(tmp_path, 50)
    result = manifest()
    assert result.rows.num_rows == 50
    assert result.rows["caption"][3].as_py() == "In image 3 there is a dog."
