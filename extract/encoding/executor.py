"""Who encodes the chunks of a job: here threads of this process, one for each device.

`Executor` is the seam between a job and whatever encodes in its process: a job knows which chunks
are to be done and how they are written, an executor knows where encoders run. On a cluster each
worker encodes a chunk at a time with a `Replica` of its own, and writes it
(`sparc.extract.cluster`).
"""

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch

from sparc.extract.encoding.chunk_queue import ChunkQueue
from sparc.extract.encoding.chunks import ChunkFeatures, Work
from sparc.extract.encoding.loader import ImageLoader
from sparc.extract.encoding.replica import Replica


class Executor(Protocol):
    """Encodes chunks, wherever it likes and in any order."""

    def encode(
        self, work: Work, *, rows_done: Callable[[int], object]
    ) -> Generator[ChunkFeatures, None, None]:
        """The features of all chunks of the work, in its order.

        Once the next chunk is asked for, the last one has been written: an executor that runs ahead
        should not be many chunks ahead of that. Closing the generator stops the work.

        Args:
            work: The chunks that some streams lack, in order.
            rows_done: Shows progress. Called with the number of rows encoded since the last call,
                only in the thread that iterates: others, and other processes, send their numbers
                there.

        Raises:
            EncoderError: A batch does not fit a device's memory.
        """
        ...


class ThreadExecutor:
    """An executor with a thread for each replica.

    Args:
        replicas: The encoders on each device.
        loader: Loads the images.
    """

    def __init__(self, replicas: Sequence[Replica], loader: ImageLoader) -> None:
        self._replicas = replicas
        self._loader = loader

    def encode(
        self, work: Work, *, rows_done: Callable[[int], object]
    ) -> Generator[ChunkFeatures, None, None]:
        """See `Executor.encode`."""
        chunks = ChunkQueue(iter(work), ahead=2 * len(self._replicas) + 1)
        # What threads hand over: a chunk, a number of encoded rows, or the error that ended them.
        events: queue.SimpleQueue[ChunkFeatures | int | BaseException] = queue.SimpleQueue()
        with self._threads(chunks, events.put):
            early: dict[int, ChunkFeatures] = {}
            for index in work.streams:
                while index not in early:
                    event = events.get()
                    if isinstance(event, BaseException):
                        raise event
                    if isinstance(event, int):
                        rows_done(event)
                    else:
                        early[event.chunk.index] = event
                yield early.pop(index)
                chunks.written()

    @contextmanager
    def _threads(
        self, chunks: ChunkQueue, put: Callable[[ChunkFeatures | int | BaseException], None]
    ) -> Iterator[None]:
        """The threads, for as long as the context lasts."""

        def encode_on(replica: Replica) -> None:
            try:
                for features in replica.run(chunks, self._loader, rows_done=put):
                    put(features)
            except BaseException as error:  # raised again by the thread that waits for features
                put(error)

        threads = [
            threading.Thread(target=encode_on, args=(replica,), name=f"encode on {replica.device}")
            for replica in self._replicas
        ]
        pytorch_threads = torch.get_num_threads()
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            chunks.stop()
            for thread in threads:
                thread.join()
            # What a replica set for its own thread would hold for threads that begin later, too.
            torch.set_num_threads(pytorch_threads)
