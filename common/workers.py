"""A few threads that share pieces of a computation in PyTorch.

A step is hundreds of small operations. Where each of them is spread over all cores, the cores wait
for one another hundreds of times, and for a neighbour's program as often. So a step is cut into
pieces that do not depend on each other, and every piece is worked out by one thread from beginning
to end. What comes out does not depend on the number of threads. Must not know what the pieces are.
"""

import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import torch

Piece = TypeVar("Piece")
Result = TypeVar("Result")


class Workers:
    """Works out pieces, several at a time.

    Args:
        threads: How many; 1 works in the caller's thread.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads

    @classmethod
    def of(cls, device: torch.device) -> "Workers":
        """As many as PyTorch's threads where a CPU computes; a GPU needs no more than one."""
        return cls(torch.get_num_threads() if device.type == "cpu" else 1)

    def map(self, function: Callable[[Piece], Result], pieces: Iterable[Piece]) -> list[Result]:
        """The results of a function for all pieces, in their order.

        Args:
            function: Called without gradients being recorded; must not wait for another piece.
            pieces: What it is called with, the largest first so that no thread is idle at the end.

        Raises:
            Exception: Whatever the function raised for the first piece that failed.
        """
        if self.threads == 1:
            with torch.no_grad():
                return [function(piece) for piece in pieces]
        return list(_pool(self.threads).map(function, pieces))

    @contextmanager
    def one_thread_each(self) -> Iterator[None]:
        """Let what the caller does between two calls of `map` take one thread as well.

        A thread that PyTorch lent to one operation goes on spinning for a while, in the way of the
        workers.
        """
        with torch_threads(1) if self.threads > 1 else nullcontext():
            yield


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let PyTorch compute with that many threads for a while, in the calling thread.

    PyTorch has no such setting that holds for one call: this one is restored afterwards.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that live as long as the process, shared by all callers that ask for this number."""
    ready = threading.Barrier(threads + 1)

    def begin() -> None:
        # Both are settings of the thread. A thread that was not asked for the first takes over
        # what was last set in any thread as soon as it computes.
        torch.get_num_threads()
        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
        ready.wait()

    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, "sparc-worker", initializer=begin)
    for _ in range(threads):
        pool.submit(int)
    ready.wait()
    torch.set_num_threads(before)  # for threads that begin later
    return pool
