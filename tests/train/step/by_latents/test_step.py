"""Processes that share the latents make the steps of one process, in float64."""

import concurrent.futures
import threading

import pytest
import torch

from sparc.train.config import TrainConfig
from sparc.train.step.by_latents.learner import SharedLearner
from sparc.train.step.by_latents.models import joined
from sparc.train.step.learner import Learner
from sparc.train.step.selection import select


class Threads:
    """The peers of a thread that stands for a process."""

    def __init__(self, rank, world, board, barrier):
        self.rank, self.world = rank, world
        self._board, self._barrier = board, barrier

    def gather(self, rows):
        return torch.cat(self._all(rows))

    def swap(self, parts):
        assert len(parts) == self.world
        return torch.stack([of_process[self.rank] for of_process in self._all(parts)])

    def _all(self, tensor):
        self._board[self.rank] = tensor
        self._barrier.wait()
        every = list(self._board)
        assert len({(x.dtype, x.shape) for x in every}) == 1
        self._barrier.wait()
        return every


def in_threads(world, function):
    barrier, board = threading.Barrier(world, timeout=60), [None] * world

    def run(rank):
        try:
            return function(Threads(rank, world, board, barrier))
        except BaseException:
            barrier.abort()
            raise

    with concurrent.futures.ThreadPoolExecutor(world) as pool:
        return [future.result() for future in [pool.submit(run, rank) for rank in range(world)]]


TWINS = "latents that are equal"
COARSE = "coarse products", "coarse products of rows that lack streams"
CASES = {
    "joint": ({}, {}),
    "without cross": ({"cross_weight": 0.0}, {}),
    "local": ({}, {"selection": "local"}),
    "batch": ({"independent": 0.4}, {"selection": "batch"}),
    "published": ({"recipe": "published"}, {}),
    "published local": ({"recipe": "published"}, {"selection": "local"}),
    "one stream": ({}, {"dims": (7,)}),
    "all at once": (
        {
            "independent": 0.5,
            "alive_by": "both",
            "balance": 0.01,
            "noise": 0.1,
            "terms": ("distill=0.3", "group_sparse=0.01"),
            "error": "variance",
        },
        {},
    ),
    "rows that lack streams": (
        {
            "rows": "any",
            "independent": 0.5,
            "alive_by": "both",
            "balance": 0.01,
            "terms": ("distill=0.3",),
        },
        {},
    ),
    COARSE[0]: ({}, {}),
    COARSE[1]: ({"rows": "any", "independent": 0.5}, {"selection": "batch"}),
    TWINS: ({}, {"normalize": "none"}),
    "thresholds of rows that lack streams": ({"rows": "any"}, {"selection": "batch"}),
}


@pytest.mark.parametrize(
    ("case", "world"), [*((case, 4) for case in CASES), ("all at once", 2), ("batch", 2)]
)
def test_the_steps_are_those_of_one_process(build_model, draw_batch, case, world, monkeypatch):
    monkeypatch.setattr("sparc.train.step.recipes.published.DEAD_AFTER_STEPS", 2)
    monkeypatch.setattr("sparc.train.step.recipes.published.REINITIALIZE_EVERY", 3)
    options, shape = CASES[case]
    if case in COARSE:  # as on a GPU with another precision
        exactly = select._products
        monkeypatch.setattr(
            "sparc.train.step.selection.select._products",
            lambda *given: tuple(x.bfloat16().double() for x in exactly(*given)),
        )
    given = {"recipe": "joint", "dead_after": 25, "auxk": 4, "clip": 0.2, "kernels": "torch"}
    settings = TrainConfig(**{**given, **options})
    # Four processes own fewer latents than a row may use of all candidates.
    build = {"latents": 96, "k": 5, **shape}

    def new_model():
        model = build_model(**build)
        if case == TWINS:  # and owned by different processes
            for parameter in model.parameters():
                exact = (parameter.detach() * 16).round() / 16  # so that products are
                parameter.detach().copy_(exact)
                if len(exact) == 96:
                    parameter.detach()[48:] = exact[:48]
        return model

    whole = new_model()
    streams, rows, steps = len(whole.config.names), 12, 6
    variances = [0.9] * streams if settings.error == "variance" else []
    batches = [draw_batch(whole, rows, seed=seed) for seed in range(steps)]
    if case == TWINS:
        batches = [{name: (x * 4).round() for name, x in batches[0].items()}]
    draws = torch.Generator().manual_seed(0)
    present = None
    if settings.rows == "any":
        present = torch.rand(steps, rows, streams, generator=draws) > 0.3
        present[:, :, 0] |= ~present.any(2)

    alone = Learner(whole, settings, variances=variances)
    if case in COARSE:
        alone._selection._precision = "bfloat16"
    expected = [
        alone.step(batch, 1e-2, present=None if present is None else present[step])
        for step, batch in enumerate(batches)
    ]

    def steps_of(peers):
        learner = SharedLearner(new_model(), settings, variances=variances, peers=peers)
        if case in COARSE:
            learner._selecting._precision = "bfloat16"
        part = slice(peers.rank * rows // world, (peers.rank + 1) * rows // world)
        sums = [
            learner.step(
                {name: x[part] for name, x in batch.items()},
                1e-2,
                present=None if present is None else present[step, part],
            )
            for step, batch in enumerate(batches)
        ]
        weights = dict(joined(learner.model.state_dict(), peers))
        layout, tensors = learner.state_in_turn()
        state = dict(tensors)
        assert {k: (x.shape, x.dtype) for k, x in state.items()} == {
            k: (x.shape, x.dtype) for k, x in layout.items()
        }
        return sums, weights, state

    results = in_threads(world, steps_of)
    for step, of_whole in enumerate(expected):
        parts = [sums[step] for sums, _, _ in results]
        actual = sum(parts[1:], parts[0]).named()
        for name, total in of_whole.named().items():
            if name not in ("chosen", "chosen_alone"):  # of the leading rows of each home
                torch.testing.assert_close(
                    actual[name], total, rtol=1e-10, atol=1e-10, equal_nan=True
                )
    for _, weights, state in results:
        for name, tensor in whole.state_dict().items():
            torch.testing.assert_close(weights[name], tensor, rtol=0, atol=1e-9, equal_nan=True)
        for name, tensor in alone.state().items():
            torch.testing.assert_close(state[name], tensor, rtol=1e-8, atol=1e-10)
    if case == TWINS:
        values = whole.latent_bias["s0"].detach()
        assert not torch.equal(values[:48], values[48:])  # one of two equal ones was taken
    else:
        assert sum(alone.dead_counts().values()) > 0
