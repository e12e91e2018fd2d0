"""Computing the codes that a report lacks on the workers of a cluster.

A worker reads features, encodes them on its CPU and writes the codes of whole chunks; what it sends
is a number. The bytes are those that `sparc.analyze.codes.encode` writes in one process, and where
a worker dies its chunks are written once more.
"""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Literal

from sparc.analyze.codes.code_sets import PERMUTED, CodeSet, of_model
from sparc.analyze.codes.encode import encode_both, encode_jointly
from sparc.analyze.codes.parts import chunk_features, permuted_chunks, permuted_features
from sparc.analyze.codes.permutation import Permutation
from sparc.analyze.codes.store import CodeStore
from sparc.analyze.maths.reduction import Reducer
from sparc.common.cache.reader import ActivationCache
from sparc.common.progress import say
from sparc.common.text import amount
from sparc.train.model.network import Sparc


@dataclasses.dataclass(frozen=True)
class _Work:
    """What all tasks need.

    Attributes:
        store: The report's codes.
        location: Where the cache lies: an open one cannot be sent.
        model: The model, on the CPU.
        batch_size: As for `encode_both`.
        sets: Which codes.
        units: What each task makes of them: a chunk, or the chunks of a block of permuted rows.
        permutation: Which rows are encoded together in the permuted control.
    """

    store: CodeStore
    location: str
    model: Sparc
    batch_size: int
    sets: Sequence[CodeSet]
    units: Sequence[int]
    permutation: Permutation | None = None

    @cached_property
    def cache(self) -> ActivationCache:
        """The cache, opened once by each worker."""
        return ActivationCache(self.location)


def encode_missing_there(
    reducer: Reducer,
    store: CodeStore,
    cache: ActivationCache,
    model: Sparc,
    *,
    control: Literal["trained", "untrained"],
    batch_size: int,
) -> None:
    """As `encode.encode_missing`, on the workers of a cluster.

    Args:
        reducer: Runs tasks on the cluster.
        store: The report's codes; the workers see its folder.
        cache: The cache; the workers see its folder.
        model: The model, on the CPU.
        control: Which control the model is.
        batch_size: As for `encode_both`.

    Raises:
        SparcError: Workers of the cluster died.
    """
    sets = of_model(control)
    missing = sorted({chunk for code_set in sets for chunk in store.missing(code_set)})
    if missing:
        _say(f"codes ({control})", len(missing))
        work = _Work(store, cache.folder.location, model, batch_size, sets, missing)
        reducer.reduce(_encode, _total, work, len(missing))


def encode_permuted_there(
    reducer: Reducer,
    store: CodeStore,
    cache: ActivationCache,
    model: Sparc,
    permutation: Permutation,
    *,
    batch_size: int,
) -> None:
    """As `encode.encode_permuted`, on the workers of a cluster; arguments as above.

    Raises:
        SparcError: Workers of the cluster died.
    """
    missing = set(store.missing(PERMUTED))
    blocks = [
        number for number, chunks in enumerate(permutation.blocks) if not missing.isdisjoint(chunks)
    ]
    if blocks:
        _say("codes (permuted)", len(missing))
        work = _Work(
            store, cache.folder.location, model, batch_size, [PERMUTED], blocks, permutation
        )
        reducer.reduce(_encode_permuted, _total, work, len(blocks))


def _say(what: str, chunks: int) -> None:
    say(f"{what}: {amount(chunks, 'chunk')} to be written by the workers of the cluster")


def _total(written: Sequence[int]) -> int:
    return sum(written)


def _encode(work: _Work, number: int) -> int:
    """Write a chunk, unless that was done by a worker that died later; how many were written."""
    store, chunk = work.store, work.units[number]
    if all(store.has(code_set, chunk) for code_set in work.sets):
        return 0
    features = chunk_features(work.cache, store, chunk)
    both = encode_both(work.model, features, store.valid_rows(chunk), batch_size=work.batch_size)
    for code_set, codes in zip(work.sets, both, strict=True):
        store.write(code_set, chunk, codes)
    return 1


def _encode_permuted(work: _Work, number: int) -> int:
    """Write the missing chunks of a block; how many were written."""
    store, permutation, block = work.store, work.permutation, work.units[number]
    assert permutation is not None
    chunks = permutation.blocks[block]
    missing = {chunk for chunk in chunks if not store.has(PERMUTED, chunk)}
    if not missing:
        return 0
    features = permuted_features(work.cache, store, permutation, block)
    for chunk, rows, part in permuted_chunks(store, permutation, block, features):
        if chunk in missing and len(rows):
            codes = encode_jointly(work.model, part, rows, batch_size=work.batch_size)
            store.write(PERMUTED, chunk, codes)
    return len(missing)
