"""A new selector is one class and one line in the registry: here one that a test defines."""

import pytest
import torch
from different_kernels import different_kernels

from sparc.common.files.folder import Folder
from sparc.train.loading import load
from sparc.train.model.selectors.registry import SELECTORS, SelectorEntry
from sparc.train.model.selectors.selector import Selector, selector_of
from sparc.train.run.log import read_lines

KERNELS = different_kernels(torch.device("cpu"))


class AboveHalf(Selector):
    """Latents whose score is at least half of the row's largest."""

    own_mode = "joint"

    def keep(self, scores, k, threshold):
        return scores >= scores.amax(1, keepdim=True) / 2


@pytest.fixture(autouse=True)
def half(monkeypatch):
    entry = SelectorEntry("those above half", f"{__name__}:AboveHalf", widest=2)
    monkeypatch.setitem(SELECTORS, "half-here", entry)


@pytest.mark.parametrize("kernels", KERNELS)
def test_it_trains_and_encodes(small_cache, tmp_path, call, kernels):
    run = tmp_path / "run"
    sizes = ("--latents", 96, "--k", 4, "--steps", 30, "--batch-size", 64, "--lr", 3e-3)
    done = call(
        "train", "run", small_cache, run, *sizes, "--selection", "half-here", "--kernels", kernels
    )
    assert done.returncode == 0, done.stderr
    model = load(run)
    assert (model.config.selection, model.config.k_max) == ("half-here", 8)
    (line,) = read_lines(Folder(run))
    assert all(0 < value < 8 for value in line["l0"].values())
    draws = torch.Generator().manual_seed(0)
    features = {s.name: torch.randn(9, s.dim, generator=draws) for s in model.config.streams}
    logits = {n: model.logits(n, model.normalize(n, x)) for n, x in features.items()}
    total = sum(logits.values())
    eighth = total.sort(dim=1, descending=True).values[:, 7:8]
    selected = (total >= total.amax(1, keepdim=True) / 2) & (total >= eighth)
    assert selected.sum(1).unique().numel() > 1
    for name, codes in model.encode(features).items():
        expected = logits[name].relu() * selected
        dense = torch.zeros_like(expected).scatter(1, codes.indices, codes.values)
        torch.testing.assert_close(dense, expected)


def test_a_name_that_is_not_registered_is_refused(small_cache, tmp_path, call):
    done = call("train", "run", small_cache, tmp_path / "run", "--selection", "third")
    assert done.returncode == 2
    assert f"selection must be one of {', '.join(SELECTORS)}, not 'third'" in done.stderr
    assert "half-here" in done.stderr


def test_the_help_lists_them(call):
    shown = "".join(call("train", "run", "--help").stdout.split())
    assert "--selection<global|local|" in shown
    assert "".join(SELECTORS["batch"].summary.split()) in shown


@pytest.mark.parametrize("name", list(SELECTORS))
def test_every_entry_names_a_selector(name):
    assert isinstance(selector_of(name), Selector)
