import pytest
import torch

from sparc.train.data import residency

CPU = torch.device("cpu")


@pytest.mark.parametrize(("bytes", "choice"), [(100, "host"), (499, "host"), (501, "stream")])
def test_auto_takes_memory_while_half_of_it_is_enough(monkeypatch, bytes, choice):
    monkeypatch.setattr(residency, "free_memory", lambda _: 1000)
    assert residency.choose_residency("auto", CPU, bytes) == choice


def test_every_process_of_a_machine_counts(monkeypatch):
    monkeypatch.setattr(residency, "free_memory", lambda _: 1000)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert residency.choose_residency("auto", CPU, 200) == "stream"
    assert residency.choose_residency("host", CPU, 200) == "host"


def test_free_memory_is_plausible():
    assert 10_000_000 < residency.free_memory(CPU) < 10**14
