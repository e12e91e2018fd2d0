import pytest
import torch

from sparc.common.workers import Workers
from sparc.train.kernels.choice import choose
from sparc.train.step.rows import share_rows

KERNELS = choose("torch", torch.device("cpu"))


@pytest.mark.parametrize(
    ("rows", "threads", "lengths"),
    [
        (256, 1, [128, 128]),  # no more than the kernels want
        (256, 2, [128, 128]),
        (256, 3, [86, 86, 84]),  # something for every worker
        (3, 8, [1, 1, 1]),
        (0, 2, [0]),
    ],
)
def test_rows_are_shared_among_workers(rows, threads, lengths):
    parts = share_rows(torch.empty(rows, 5), KERNELS, Workers(threads))
    assert [part.stop - part.start for part in parts] == lengths
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
