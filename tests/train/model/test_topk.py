"""The k largest of many numbers, against a plain sort."""

import pytest
import torch

from sparc.train.model.topk import largest


@pytest.fixture(autouse=True, params=[1, 2])
def threads(request):
    """One thread and several find the largest in different ways."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("latents", [1, 7, 64, 96, 640, 1024, 4104, 8192])
@pytest.mark.parametrize("k", [1, 2, 10])
def test_largest(latents, k):
    k = min(k, latents)
    logits = torch.randn(50, latents, generator=torch.Generator().manual_seed(latents))
    expected = logits.sort(dim=1, descending=True).values[:, :k]
    found = logits.gather(1, largest(logits, k)).sort(dim=1, descending=True).values
    assert torch.equal(found, expected)


def test_neighbours_in_one_group():
    """All of the largest share a group's maximum."""
    logits = torch.zeros(3, 1024)
    logits[:, 5::128] = torch.arange(1.0, 9.0)
    assert largest(logits, 8).sort(dim=1).values.tolist() == [list(range(5, 1024, 128))] * 3


@pytest.mark.parametrize("latents", [7, 40, 1024])
@pytest.mark.parametrize("kind", ["all", "many", "few"])
def test_of_equal_ones_the_first_are_taken(latents, kind):
    """So what is chosen does not depend on how latents are divided before they are compared."""
    draws = torch.Generator().manual_seed(latents)
    numbers = torch.randn(50, latents, generator=draws)
    logits = {"all": numbers * 0, "many": (2 * numbers).round(), "few": numbers}[kind]
    if kind == "few":
        logits[::7, latents // 2 :] = -torch.inf
        logits[::3, 1] = logits[::3, -1] = 4.5
    expected = logits.sort(dim=1, descending=True, stable=True).indices[:, :6]
    found = largest(logits, 6).sort(dim=1).values
    assert torch.equal(found, expected.sort(dim=1).values)
