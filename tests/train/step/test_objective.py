"""What the tests of the learner cannot reach on a CPU, and how rows are shared out."""

import pytest
import torch

from sparc.common.workers import Workers
from sparc.train.kernels import choose
from sparc.train.step.objective import pair_weights, select, share_rows

KERNELS = choose("torch", torch.device("cpu"))


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("selection", ["global", "local"])
def test_values_are_exact_whatever_selected_them(build_model, draw_batch, precision, selection):
    model = build_model(selection=selection)
    batch = draw_batch(model, 12)
    before = torch.backends.cuda.matmul.allow_tf32
    with torch.no_grad():
        rough = select(model, batch, precision=precision, kernels=KERNELS)
        for position, name in enumerate(model.config.names):
            indices = rough.indices[:, position if selection == "local" else 0]
            logits = model.logits(name, model.normalize(name, batch[name]))
            exact = logits.gather(1, indices).relu()
            torch.testing.assert_close(rough.values[:, position], exact, rtol=1e-12, atol=1e-12)
    assert torch.backends.cuda.matmul.allow_tf32 == before


def test_weights_of_pairs():
    assert pair_weights(1, 3.0).tolist() == [[1.0]]
    assert pair_weights(2, 0.5).tolist() == [[0.5, 0.25], [0.25, 0.5]]
    assert pair_weights(3, 1.0).sum() == pytest.approx(2.0)


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
