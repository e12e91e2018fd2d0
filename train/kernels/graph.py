"""A training step recorded once as a CUDA graph, and replayed.

A step launches some hundred kernels, and with a small batch the host takes longer to launch them
than the GPU to run them. A graph launches them all at once. Must not know what a step computes,
only that it reads its batch and memory of the device, and does not wait for the device.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

EAGER_STEPS = 3
"""Steps of a shape before it is recorded: they compile kernels and load libraries."""


class StepGraph:
    """A recorded computation on a batch of one shape.

    Args:
        compute: From a batch to figures; everything that it changes is on the device.
        batch: By stream, (rows, dim): an example of the shape.
    """

    def __init__(
        self, compute: Callable[[Mapping[str, Tensor]], Tensor], batch: Mapping[str, Tensor]
    ) -> None:
        self._batch = {name: torch.empty_like(features) for name, features in batch.items()}
        self._graph = torch.cuda.CUDAGraph()
        # Threads that read ahead use the device at the same time.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._figures = compute(self._batch)

    def __call__(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Replay the computation on a batch.

        Args:
            batch: By stream, of the recorded shape.
        """
        for name, features in self._batch.items():
            features.copy_(batch[name])
        self._graph.replay()
        return self._figures.clone()  # the next replay overwrites them


class StepGraphs:
    """Recordings of a computation by the shape of its batch."""

    def __init__(self, compute: Callable[[Mapping[str, Tensor]], Tensor]) -> None:
        self._compute = compute
        self._count: dict[tuple[object, ...], int] = {}
        self._graphs: dict[tuple[object, ...], StepGraph] = {}

    def __call__(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Compute a batch: directly the first few times, then by a recording.

        Args:
            batch: By stream, (rows, dim).
        """
        shape = tuple((name, x.shape, x.dtype) for name, x in batch.items())
        self._count[shape] = self._count.get(shape, 0) + 1
        if self._count[shape] <= EAGER_STEPS:
            return self._compute(batch)
        if shape not in self._graphs:
            self._graphs = {shape: StepGraph(self._compute, batch)}  # one is enough to keep
        return self._graphs[shape](batch)
