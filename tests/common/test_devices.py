import subprocess
import sys

import pytest
import torch

from sparc.common.devices import check_device, choose_device, choose_devices
from sparc.common.errors import ConfigError


@pytest.fixture
def gpus(monkeypatch):
    """Makes PyTorch report that number of GPUs."""

    def report(number: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: number)

    return report


@pytest.mark.parametrize(
    ("name", "there", "index", "device"),
    [
        ("auto", 0, 0, "cpu"),
        ("auto", 2, 0, "cuda:0"),
        ("auto", 2, 1, "cuda:1"),
        ("cpu", 2, 1, "cpu"),
        ("cuda", 2, 1, "cuda:1"),
        ("cuda:0", 2, 1, "cuda:0"),
    ],
)
def test_a_name_means_one_device(gpus, name, there, index, device) -> None:
    gpus(there)
    assert choose_device(name, index=index) == torch.device(device)


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "mps", "meta", "CPU"])
def test_a_name_that_is_none_is_refused(name) -> None:
    for refuse in (check_device, choose_device, choose_devices):
        with pytest.raises(ConfigError, match=f"unknown device '{name}': use auto, cpu, cuda"):
            refuse(name)


def test_a_gpu_that_is_not_there_is_refused(gpus) -> None:
    gpus(1)
    with pytest.raises(ConfigError, match=r"cuda:1 is not there: this machine offers 1 GPU$"):
        choose_device("cuda:1")
    with pytest.raises(ConfigError, match="cuda:3 is not there"):
        choose_device("auto", index=3)
    gpus(0)
    with pytest.raises(ConfigError, match="cuda:0 is not there: this machine offers 0 GPUs"):
        choose_device("cuda")
    with pytest.raises(ConfigError, match="no GPU is available here"):
        choose_devices("all")


def test_several_devices(gpus) -> None:
    gpus(2)
    assert choose_devices("all") == [torch.device("cuda:0"), torch.device("cuda:1")]
    assert choose_devices("cuda:1,cuda:0") == [torch.device("cuda:1"), torch.device("cuda:0")]
    assert choose_devices("cpu,cpu") == [torch.device("cpu"), torch.device("cpu")]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("cpu,cuda:0", "devices cpu,cuda:0: the CPU and GPUs compute in other precisions"),
        ("auto,cpu", "devices auto,cpu: the CPU and GPUs compute in other precisions"),
        ("cuda:1,cuda:1", "devices cuda:1,cuda:1: cuda:1 is named twice"),
        ("cuda,cuda:1,cuda:0", "devices cuda,cuda:1,cuda:0: cuda:0 is named twice"),
    ],
)
def test_devices_that_cannot_make_one_stream_together_are_refused(gpus, names, message) -> None:
    gpus(2)
    with pytest.raises(ConfigError, match=message):
        choose_devices(names)


def test_checking_a_name_imports_no_torch() -> None:
    code = (
        "import sys; from sparc.common.devices import check_device; check_device('cuda:1'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
