"""A new implementation is one class and one line in the registry: here one that a test defines."""

import dataclasses
import sys

import pytest
import torch

from sparc.common import processor
from sparc.common.errors import ConfigError
from sparc.common.files.folder import Folder
from sparc.common.lazy import import_home
from sparc.train import cli  # noqa: F401 - before a test registers more, which its help would list
from sparc.train.kernels import choice
from sparc.train.kernels.registry import KERNELS, KernelsEntry
from sparc.train.kernels.torch_kernels import TorchKernels
from sparc.train.loading import load
from sparc.train.run.run_folder import RunRecord

CPU = torch.device("cpu")


class CountedKernels(TorchKernels):
    """Those in PyTorch, which say how often codes were compared."""

    name = "counted-here"
    comparisons = 0

    def compare(self, *arguments):
        type(self).comparisons += 1
        return super().compare(*arguments)


COUNTED = KernelsEntry("counted, on a CPU", f"{__name__}:CountedKernels", device="cpu")


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setattr(CountedKernels, "comparisons", 0)
    monkeypatch.setitem(KERNELS, "counted-here", COUNTED)


def test_a_model_is_trained_with_it(small_cache, tmp_path, call, counted):
    settings = ("--latents", 96, "--k", 4, "--steps", 5, "--batch-size", 64, "--device", "cpu")
    for name in ("counted-here", "torch"):
        done = call("train", "run", small_cache, tmp_path / name, *settings, "--kernels", name)
        assert done.returncode == 0, done.stderr
        assert f"{name} kernels" in done.stderr
    assert CountedKernels.comparisons > 0
    assert RunRecord.read(Folder(tmp_path / "counted-here")).kernels == "counted-here"
    one, other = (load(tmp_path / name).state_dict() for name in ("counted-here", "torch"))
    assert all(torch.equal(one[key], other[key]) for key in other)


def test_auto_takes_the_first_that_runs(monkeypatch):
    missing = KernelsEntry("", "sparc.train.kernels.not_installed:Kernels")
    entries = {"missing": missing, "counted-here": COUNTED, **KERNELS}
    monkeypatch.setattr(choice, "KERNELS", entries)
    assert next(choice.available(CPU)) == choice.choose("auto", CPU).name == "counted-here"
    assert choice.choose("auto", torch.device("meta")).name == "torch"


def test_auto_never_takes_one_after_those_that_run_anywhere(monkeypatch):
    anywhere = dataclasses.replace(COUNTED, device="")
    monkeypatch.setattr(choice, "KERNELS", {**KERNELS, "counted-here": anywhere})
    for device in (CPU, torch.device("meta"), torch.device("cuda")):
        assert "counted-here" in choice.available(device)
        assert next(choice.available(device)) != "counted-here"


def test_one_that_cannot_be_imported_is_left_to_others(monkeypatch, tmp_path):
    (tmp_path / "no_cache.py").write_text('raise RuntimeError("cannot cache function")')
    monkeypatch.syspath_prepend(tmp_path)
    broken = KernelsEntry("", "no_cache:Kernels")
    monkeypatch.setattr(choice, "KERNELS", {"broken": broken, **KERNELS})
    assert choice.choose("auto", CPU).name != "broken"
    monkeypatch.setitem(KERNELS, "broken", broken)
    with pytest.raises(ConfigError, match="kernels broken: cannot cache function; use kernels aut"):
        choice.choose("broken", CPU)


def test_it_is_refused_where_it_does_not_run(counted):
    with pytest.raises(ConfigError, match="kernels counted-here needs a CPU, not device meta"):
        choice.choose("counted-here", torch.device("meta"))


def test_the_help_lists_it(call):
    shown = " ".join(call("train", "run", "--help").stdout.split())
    assert "<auto|" in shown
    assert f"numba: {KERNELS['numba'].summary};" in shown


def test_a_name_that_is_not_registered_is_refused(small_cache, tmp_path, call, counted):
    done = call("train", "run", small_cache, tmp_path / "run", "--kernels", "fast")
    assert done.returncode == 2
    assert f"kernels must be one of {', '.join(('auto', *KERNELS))}, not 'fast'" in done.stderr
    assert "counted-here" in done.stderr


@pytest.mark.parametrize(("bfloat16", "gain"), [(True, "third"), (False, "fifth")])
def test_what_is_faster_is_recommended_where_it_is_not_installed(monkeypatch, bfloat16, gain):
    monkeypatch.setattr(processor, "bfloat16_is_fast", lambda: bfloat16)
    monkeypatch.setattr(processor, "multiplies_bfloat16", lambda: True)
    assert list(choice.advice(CPU)) == []
    homes = (entry.home.partition(":")[0] for entry in KERNELS.values() if entry.package == "numba")
    for module in ("numba", *homes):
        monkeypatch.setitem(sys.modules, module, None)
    assert list(choice.advice(CPU)) == [f"pip install numba makes steps about a {gain} faster"]
    assert list(choice.advice(torch.device("meta"))) == []


@pytest.mark.parametrize(
    ("intel", "features", "chosen"),
    [
        (False, ["avx512_bf16"], "screened"),
        (True, ["avx512_bf16", "amx_tile"], "screened"),
        (True, ["avx512_bf16"], "numba"),
        (False, [], "numba"),
    ],
)
def test_screening_is_left_to_cpus_that_multiply_bfloat16_fast(
    monkeypatch, intel, features, chosen
):
    """Intel's AVX512-BF16 without AMX takes longer than float32; a run that began so goes on."""
    pytest.importorskip("numba")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(processor, "_is_intel", lambda: intel)
    monkeypatch.setattr(processor, "_has", features.__contains__)
    assert choice.choose("auto", CPU).name == chosen
    assert (choice.screen_of(CPU, 4096, 64) is not None) == (chosen == "screened")
    runs = "screened" if "avx512_bf16" in features else "auto"
    assert choice.kept("auto", "screened", CPU) == runs


@pytest.mark.parametrize("name", list(KERNELS))
def test_every_entry_names_an_implementation_of_its_name(name):
    if KERNELS[name].package:
        pytest.importorskip(KERNELS[name].package)
    if name == "triton":
        pytest.importorskip("sparc.train.kernels.triton.tiles", exc_type=ImportError)  # too old
    assert import_home(KERNELS[name].home).name == name
