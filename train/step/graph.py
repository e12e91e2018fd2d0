"""A training step recorded once as a CUDA graph, and replayed.

A step is some hundred launches, each of which takes the host longer than a small batch takes the
GPU. A graph launches them all at once. Must not know what a step computes, but that it reads its
batch and what lies on the device, and waits for nothing.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

EAGER_STEPS = 3
"""Steps of a shape before it is recorded: kernels are compiled and libraries loaded in them."""


class StepGraph:
    """A recorded computation on a batch of one shape.

    Args:
        compute: From a batch to figures; everything that it changes lies on the device.
        batch: By stream, (rows, dim): an example of the shape.
    """

    def __init__(
        self, compute: Callable[[Mapping[str, Tensor]], Tensor], batch: Mapping[str, Tensor]
    ) -> None:
        self._batch = {name: torch.empty_like(each) for name, each in batch.items()}
        self._graph = torch.cuda.CUDAGraph()
        # Threads that read ahead use the device meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._figures = compute(self._batch)

    def __call__(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Do on a batch what was recorded.

        Args:
            batch: Of the shape that was recorded.
        """
        for name, each in self._batch.items():
            each.copy_(batch[name])
        self._graph.replay()
        return self._figures.clone()  # the next replay writes there again


class StepGraphs:
    """Recordings of a computation by the shape of its batch."""

    def __init__(self, compute: Callable[[Mapping[str, Tensor]], Tensor]) -> None:
        self._compute = compute
        self._seen: dict[tuple[object, ...], int] = {}
        self._graphs: dict[tuple[object, ...], StepGraph] = {}

    def __call__(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The computation on a batch: the first few times as it stands, then recorded.

        Args:
            batch: By stream, (rows, dim).
        """
        shape = tuple((name, each.shape, each.dtype) for name, each in batch.items())
        self._seen[shape] = self._seen.get(shape, 0) + 1
        if self._seen[shape] <= EAGER_STEPS:
            return self._compute(batch)
        if shape not in self._graphs:
            self._graphs = {shape: StepGraph(self._compute, batch)}  # one is enough to keep
        return self._graphs[shape](batch)
