"""`sparc doctor` says what is there, and what to type for what is not."""

import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from sparc.pipelines.doctor import report, software
from sparc.pipelines.doctor.software import _FOR


def test_the_command_shows_a_line_for_each_thing_and_ends_well():
    done = subprocess.run(
        [sys.executable, "-m", "sparc.pipelines.commands", "doctor"],
        capture_output=True,
        text=True,
        env={"PATH": "", "HF_HUB_OFFLINE": "1", "HOME": "/nowhere"},
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    topics = [line[2:].split()[0] for line in done.stdout.splitlines() if line[2:3].strip()]
    assert {"sparc", "packages", "machine", "cpu", "gpu", "kernels", "hub"} <= set(topics)
    assert f"Python {sys.version.split()[0]}" in done.stdout
    assert "not asked, since HF_HUB_OFFLINE is set" in done.stdout
    assert done.stdout.splitlines()[-1] == "SPARC can run here"


def test_every_extra_for_users_is_explained():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(project["optional-dependencies"]) == {*_FOR, "demo", "dev", "docs"}


@pytest.fixture
def versions(monkeypatch):
    """What is installed, which a test may change; None: it is not."""
    changed = {}
    real = importlib.metadata.version

    def version(name):
        if name not in changed:
            return real(name)
        if changed[name] is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return changed[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    return changed


def test_what_is_missing_or_too_old_has_a_line_that_installs_it(versions):
    versions.update({"timm": "0.9.2", "numba": None})
    by_text = {finding.text: finding for finding in software.software()}
    (old,) = [finding for finding in by_text.values() if finding.topic == "package"]
    (needed,) = [text for text in importlib.metadata.requires("sparc-sae") if "timm>" in text]
    bound = needed.removeprefix("timm")
    assert (old.text, old.is_fault) == (f"timm is 0.9.2, needed is {bound}", True)
    assert old.advice == f"`pip install 'timm{bound}'`"
    (numba,) = [finding for text, finding in by_text.items() if text.startswith("numba:")]
    assert "(numba is not installed)" in numba.text
    assert not numba.is_fault
    assert numba.advice.startswith("`pip install 'numba>=")
    shown = list(report.lines([old, numba]))
    assert shown[0].startswith("! package")
    assert shown[2].startswith("- extra")
    assert shown[-1] == "SPARC will not run like this: mend what is marked !"


def test_a_hub_out_of_reach_has_a_way_out(monkeypatch):
    from sparc.pipelines.doctor import hub

    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    for reachable in (True, False):
        monkeypatch.setattr(hub, "hub_is_reachable", lambda answer=reachable: answer)
        finding = next(iter(hub.hub()))
        assert finding.text.startswith("in reach" if reachable else "out of reach")
        assert ("--stream" in finding.advice) == (not reachable)


def test_a_gpu_that_pytorch_cannot_use_is_named(monkeypatch, tmp_path):
    from sparc.pipelines.doctor import machine

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "nvidia-smi").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (gpu,) = [finding for finding in machine.machine() if finding.topic == "gpu"]
    assert "though nvidia-smi is there" in gpu.text
    assert "a build of PyTorch" in gpu.advice


def test_gpus_are_listed_with_what_they_can_do(monkeypatch):
    from sparc.pipelines.doctor import machine

    class Properties:
        name, total_memory, major, minor = "Some GPU", 80 << 30, 7, 5

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    (gpu,) = [finding for finding in machine.machine() if finding.topic == "gpu"]
    assert gpu.text.startswith("cuda:0 Some GPU, 85.9 GB, compute capability 7.5, no bfloat16")
