"""Computing the codes that a report lacks, chunk by chunk.

Nearly all of the work is the products of features and encoders. Meanwhile the next chunk is read
and the previous one written. This module must not know what is measured on codes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from sparc.analyze.codes.batch_codes import batch_encoder
from sparc.analyze.codes.code_rows import CodeRows, concatenate
from sparc.analyze.codes.code_sets import PERMUTED, CodeSet, of_model
from sparc.analyze.codes.parts import chunk_features, permuted_chunks, permuted_features
from sparc.analyze.codes.permutation import Permutation
from sparc.analyze.codes.store import CodeStore
from sparc.analyze.timings import AnalysisTimes
from sparc.common.cache.reader import ActivationCache
from sparc.common.progress import progress
from sparc.common.timing.phases import Phase
from sparc.common.timing.stopwatch import Stopwatch
from sparc.common.workers import Workers
from sparc.train.model.codes import Mode
from sparc.train.model.network import Sparc

T = TypeVar("T")

Features = Mapping[str, npt.NDArray[Any]]


def encode_both(
    model: Sparc, features: Features, rows: npt.NDArray[np.int64], *, batch_size: int
) -> tuple[CodeRows, CodeRows]:
    """Joint and independent codes of some rows, from the same products.

    Args:
        model: The model, on the device to use.
        features: By stream, (n, dim) raw features.
        rows: Which rows of the cache they are, (n,).
        batch_size: Rows per product: (batch_size, L) logits are held for each stream.

    Returns:
        The joint codes and the independent ones.
    """
    joint, independent = _encode(("joint", "independent"), model, features, rows, batch_size)
    return joint, independent


def encode_jointly(
    model: Sparc, features: Features, rows: npt.NDArray[np.int64], *, batch_size: int
) -> CodeRows:
    """Joint codes only; arguments as for `encode_both`."""
    (codes,) = _encode(("joint",), model, features, rows, batch_size)
    return codes


def encode_missing(
    store: CodeStore,
    cache: ActivationCache,
    model: Sparc,
    *,
    control: Literal["trained", "untrained"],
    batch_size: int,
    times: AnalysisTimes,
) -> None:
    """Write both modes' codes of the chunks that lack them.

    Args:
        store: The report's codes.
        cache: The cache.
        model: The trained model, or for `untrained` the one of step 0.
        control: Which control the model is.
        batch_size: As for `encode_both`.
        times: Where the time goes.
    """
    sets = of_model(control)
    missing = sorted({chunk for code_set in sets for chunk in store.missing(code_set)})
    if not missing:
        return

    def read(chunk: int) -> tuple[int, Features]:
        with times.reading.at(Phase.READ):
            return chunk, chunk_features(cache, store, chunk)

    name = "codes" if control == "trained" else f"codes ({control})"
    with _writing(store, missing, name, times) as write:
        for chunk, features in _ahead(read, missing, times):
            rows = store.valid_rows(chunk)
            with times.codes.at(Phase.ENCODE):
                both = encode_both(model, features, rows, batch_size=batch_size)
            times.codes.add_rows(len(rows) * len(sets))
            write(chunk, dict(zip(sets, both, strict=True)))


def encode_permuted(
    store: CodeStore,
    cache: ActivationCache,
    model: Sparc,
    permutation: Permutation,
    *,
    batch_size: int,
    times: AnalysisTimes,
) -> None:
    """Write the missing chunks of the control `permuted_before`: joint codes of unrelated images.

    Args:
        store: The report's codes.
        cache: The cache.
        model: The trained model.
        permutation: Which rows are encoded together.
        batch_size: As for `encode_both`.
        times: Where the time goes.
    """
    missing = store.missing(PERMUTED)
    if not missing:
        return
    wanted = set(missing)
    with _writing(store, missing, "codes (permuted)", times) as write:
        for block, chunks in enumerate(permutation.blocks):
            if wanted.isdisjoint(chunks):
                continue
            with times.codes.at(Phase.READ):
                features = permuted_features(cache, store, permutation, block)
            for chunk, rows, part in permuted_chunks(store, permutation, block, features):
                if chunk in wanted:
                    with times.codes.at(Phase.ENCODE):
                        codes = encode_jointly(model, part, rows, batch_size=batch_size)
                    times.codes.add_rows(len(rows))
                    write(chunk, {PERMUTED: codes})


def _encode(
    modes: Sequence[Mode],
    model: Sparc,
    features: Features,
    rows: npt.NDArray[np.int64],
    batch_size: int,
) -> list[CodeRows]:
    """Codes of some rows in each mode."""
    device = next(model.parameters()).device
    streams = [name for name in model.config.names if name in features]
    batches = [slice(start, start + batch_size) for start in range(0, len(rows), batch_size)]

    @torch.inference_mode()
    def encode(batches: Sequence[slice]) -> list[list[list[CodeRows]]]:
        """By batch and block, the codes in each mode."""
        encoder = batch_encoder(model, streams, min(batch_size, len(rows)))
        result = []
        for batch in batches:
            raw = {
                stream: torch.from_numpy(features[stream][batch]).to(device).float()
                for stream in streams
            }
            result.append(encoder.encode(raw, rows[batch], modes))
        return result

    # On a CPU each thread encodes whole batches: dividing every product among the threads would
    # leave them waiting for the steps that only one thread can do.
    workers = Workers.of(device)
    count = workers.threads
    with workers.one_thread_each():
        shares = workers.map(lambda i: encode(batches[i::count]), range(count))
    blocks = [block for i in range(len(batches)) for block in shares[i % count][i // count]]
    return [concatenate(parts) for parts in zip(*blocks, strict=True)]


def _ahead(function: Callable[[int], T], items: Iterable[int], times: AnalysisTimes) -> Iterator[T]:
    """The results for items, in order; each is computed while the one before it is used."""

    def result(of: Future[T]) -> T:
        with times.codes.at(Phase.STARVED):
            return of.result()

    with _one_thread(times.reading) as pool:
        waiting: Future[T] | None = None
        for item in items:
            ready, waiting = waiting, pool.submit(function, item)
            if ready is not None:
                yield result(ready)
        if waiting is not None:
            yield result(waiting)


@contextmanager
def _writing(
    store: CodeStore, missing: list[int], name: str, times: AnalysisTimes
) -> Iterator[Callable[[int, Mapping[CodeSet, CodeRows]], None]]:
    """A function that writes chunks in the background, one at a time, and shows progress."""
    total = sum(store.counts)
    left = sum(store.counts[chunk] for chunk in missing)
    with progress(total, name, initial=total - left) as bar, _one_thread(times.writing) as pool:
        waiting: list[Future[None]] = []

        def write_all(chunk: int, sets: Mapping[CodeSet, CodeRows]) -> None:
            with times.writing.at(Phase.WRITE):
                for code_set, codes in sets.items():
                    store.write(code_set, chunk, codes)

        def wait() -> None:
            if waiting:
                with times.codes.at(Phase.BLOCKED):
                    waiting.pop().result()

        def write(chunk: int, sets: Mapping[CodeSet, CodeRows]) -> None:
            wait()
            waiting.append(pool.submit(write_all, chunk, sets))
            bar.update(store.counts[chunk])
            times.keeper.show(bar)

        yield write
        wait()


@contextmanager
def _one_thread(times: Stopwatch) -> Iterator[ThreadPoolExecutor]:
    """A thread whose time counts."""
    with ThreadPoolExecutor(1, initializer=times.start) as pool:
        try:
            yield pool
        finally:
            pool.submit(times.stop)
