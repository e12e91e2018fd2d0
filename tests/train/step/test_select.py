"""What the tests of the learner cannot reach on a CPU."""

import pytest
import torch

from sparc.train.kernels.choice import choose
from sparc.train.step.noise import Inputs
from sparc.train.step.selection.select import select_candidates

KERNELS = choose("torch", torch.device("cpu"))


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("selection", ["global", "local"])
def test_values_are_exact_whatever_selected_them(build_model, draw_batch, precision, selection):
    model = build_model(selection=selection)
    batch = draw_batch(model, 12)
    before = torch.backends.cuda.matmul.allow_tf32
    with torch.no_grad():
        rough = select_candidates(model, Inputs(batch), precision=precision, kernels=KERNELS)
        for position, name in enumerate(model.config.names):
            indices = rough.indices[:, position if selection == "local" else 0]
            logits = model.logits(name, model.normalize(name, batch[name]))
            exact = logits.gather(1, indices).relu()
            torch.testing.assert_close(rough.values[:, position], exact, rtol=1e-12, atol=1e-12)
    assert torch.backends.cuda.matmul.allow_tf32 == before
