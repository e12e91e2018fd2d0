"""Caches, runs and reports that version 0.1.0 wrote (commit 8009ac4) stay readable.

The archive holds a cache of three streams, a finished run, one with the published recipe, a sweep,
a run that was killed, and a report with its search index. `resumed.safetensors` holds the weights
that the same version (commit 8abdd01) gives to the killed run when it resumes it.
"""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sparc.analyze import Report, Searcher
from sparc.common.cache import ActivationCache
from sparc.train import load


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_cache_is_read_and_verified(earlier: Path, call) -> None:
    cache = ActivationCache(earlier / "cache")
    assert cache.info.rows == 96
    assert cache.valid_rows(["a", "b", "words"]).sum() == 95
    assert call("extract", "verify", earlier / "cache").returncode == 0


@pytest.mark.parametrize("run", ["run", "published", "sweep/lr=0.001", "sweep/lr=0.01"])
def test_a_run_is_loaded_and_its_codes_rebuild_features(earlier: Path, run: str) -> None:
    model = load(earlier / run)
    cache = ActivationCache(earlier / "cache")
    aligned = cache.aligned(0, model.config.names)
    codes = model.encode(aligned.tensors())
    assert {c.indices.shape for c in codes.values()} == {(len(aligned), 4)}
    assert torch.isfinite(model.decode(codes["a"], "words")).all()


def test_an_interrupted_run_is_resumed_to_the_same_weights(earlier: Path, call) -> None:
    command = ("train", "run", earlier / "cache", earlier / "interrupted", "--latents", "16",
               "--batch-size", "16", "--dead-after", "100", "--device", "cpu", "--kernels",
               "torch", "--k", "4", "--steps", "3000", "--checkpoint-every", "20")  # fmt: skip
    refused = call(*command)  # the default recipe is another one now
    assert "was begun with recipe = joint, not aligned: continue with `spa" in refused.stderr
    resumed = call(*command, "--recipe", "default")  # as it was called then
    assert resumed.returncode == 0, resumed.stderr
    assert "step 80" in resumed.stderr
    weights = load_file(earlier / "interrupted/model.safetensors")
    expected = load_file(Path(__file__).with_name("resumed.safetensors"))
    assert weights.keys() == expected.keys()
    # Processors and releases of PyTorch sum in other orders, which moves weights by 2e-6; another
    # state of the optimizer, such as its second moments times 1.01, moves them by 4e-3.
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, rtol=0, atol=5e-5, msg=name)


def test_a_report_is_read_and_searched(earlier: Path, call, tmp_path: Path) -> None:
    report = Report(earlier / "report")
    shown = call("analyze", "compare", earlier / "report")
    assert shown.returncode == 0, shown.stderr
    assert len(report.table("agreement")) > 0
    index = {p: digest(p) for p in (earlier / "report/index").rglob("*") if p.is_file()}
    searcher = Searcher(report, "a", run=earlier / "run", cache=earlier / "cache")
    matches = searcher.row(8, source="words")
    assert np.isfinite(matches["score"].to_numpy()).all()
    after = {p: digest(p) for p in (earlier / "report/index").rglob("*") if p.is_file()}
    assert after == index  # it is used as it is


def test_measuring_again_adds_what_is_newer_and_keeps_the_rest(earlier: Path, call) -> None:
    report = Report(earlier / "report")
    tables = {name: report.table(name) for name in report.tables}
    figures = dict(report.summary)
    command = ("analyze", "run", earlier / "run", earlier / "cache", earlier / "report")
    again = call(*command)
    assert again.returncode == 0, again.stderr
    report = Report(earlier / "report")
    assert {"row_overlap", "twins", "twin_means"} <= set(report.tables) - set(tables)
    for name, table in tables.items():
        assert report.table(name).equals(table)
    assert figures.items() <= report.summary.items()
    before = {p: digest(p) for p in sorted((earlier / "report").rglob("*.parquet"))}
    assert call(*command).returncode == 0
    assert {p: digest(p) for p in sorted((earlier / "report").rglob("*.parquet"))} == before
