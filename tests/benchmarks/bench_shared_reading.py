"""What every one of N processes reads for an epoch of training, by three ways of sharing batches.

    python tests/benchmarks/bench_shared_reading.py [FOLDER]

Makes a cache of 768 + 512 + 512 values a row (float16), and counts for 1, 2 and 4 processes, an
epoch each, what does not depend on the machine's load:

- `all`: every process reads all chunks and picks its rows.
- `rows`: every process reads just its rows from the files, without their checksums: the bytes of
  pages of 4 KiB that they lie on, and the requests that an object store would get (runs of rows).
- `shared`: every process reads one chunk in N, and they exchange rows (what training does); once
  with its own part of each batch, once with whole batches.

Bytes are of one process: the most of any. CPU seconds are those of its reading threads too.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sparc.common.cache.arrays import write_arrays
from sparc.common.cache.reader import ActivationCache
from sparc.common.text import size
from sparc.train.data.order import Position, RowOrder
from sparc.train.data.plan import Needs, Sharing, plan
from sparc.train.data.reader import BatchReader
from sparc.train.distributed.exchange import GlooExchange
from sparc.train.distributed.processes import TIMEOUT

DIMS = {"dino": 768, "clip_image": 512, "clip_text": 512}
ROWS, ROWS_PER_CHUNK, BLOCK_CHUNKS, BATCH = 1 << 16, 1 << 10, 8, 1 << 10
PAGE = 4096


class Counts(NamedTuple):
    """Of one process, for an epoch."""

    read: int
    requests: int
    taken: int
    seconds: float


def read_an_epoch(cache: ActivationCache, exchange: Any, needs: Needs) -> Counts:
    """Take an epoch's batches, and count what was read and what others sent."""
    read, requests, taken = 0, 0, 0
    features, trade, gather = (
        ActivationCache.features,
        GlooExchange.trade,
        GlooExchange.gather,
    )

    def counted_features(*arguments: Any, **options: Any) -> Any:
        nonlocal read, requests
        values = features(*arguments, **options)
        read, requests = read + values.nbytes, requests + 1
        return values

    def counted_trade(mine: Any, given: Any, out: Any, *, to: Any, of: Any) -> None:
        nonlocal taken
        trade(mine, given, out, to=to, of=of)
        taken += out.nbytes * (sum(of) - of[mine.rank]) // max(1, sum(of))

    def counted_gather(mine: Any, given: Any, out: Any = None) -> Any:
        nonlocal taken
        joined = gather(mine, given, out)
        taken += joined.nbytes - given.nbytes
        return joined

    ActivationCache.features = counted_features
    GlooExchange.trade, GlooExchange.gather = counted_trade, counted_gather
    began = time.process_time()
    with BatchReader(
        cache,
        tuple(DIMS),
        batch_size=BATCH,
        block_chunks=BLOCK_CHUNKS,
        seed=0,
        residency="stream",
        exchange=exchange,
        needs=needs,
    ) as reader:
        steps, blocks = reader.order.steps_per_epoch, -(-ROWS // ROWS_PER_CHUNK // BLOCK_CHUNKS)
        for _ in range(steps - steps // blocks):  # the last block comes while these are used
            reader.next_batch()
        if exchange is not None:  # nobody leaves while others still take rows
            torch.distributed.barrier()
    return Counts(read, requests, taken, time.process_time() - began)


def process(folder: Path, rank: int, world: int, needs: Needs, place: Path, out: Any) -> None:
    torch.set_num_threads(1)
    exchange = None
    if world > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{place}", rank=rank, world_size=world, timeout=TIMEOUT
        )
        exchange = GlooExchange(rank, world)
    out.put(read_an_epoch(ActivationCache(folder), exchange, needs))


def shared(folder: Path, world: int, needs: Needs) -> Counts:
    context = multiprocessing.get_context("spawn")
    out: Any = context.Queue()
    with tempfile.TemporaryDirectory() as place:
        arguments = (world, needs, Path(place) / "store", out)
        workers = [
            context.Process(target=process, args=(folder, r, *arguments)) for r in range(world)
        ]
        for worker in workers:
            worker.start()
        counts = [out.get(timeout=300) for _ in workers]
        for worker in workers:
            worker.join()
    return Counts(*map(max, zip(*counts, strict=True)))


def only_rows(world: int) -> Counts:
    """The pages on which the first process's rows lie, and runs of neighbouring rows."""
    order = RowOrder(
        usable=(ROWS_PER_CHUNK,) * (ROWS // ROWS_PER_CHUNK),
        block_chunks=BLOCK_CHUNKS,
        batch_size=BATCH,
        seed=0,
    )
    pages = requests = 0
    blocks = plan(order, Position(0, 0), Sharing(0, world))
    for planned, _ in zip(blocks, order.blocks(0), strict=False):
        rows = np.sort(planned.wanted[0])
        requests += len(DIMS) * (1 + int(np.count_nonzero(np.diff(rows) != 1)))
        for dim in DIMS.values():
            first, last = rows * 2 * dim // PAGE, ((rows + 1) * 2 * dim - 1) // PAGE
            pages += len(np.union1d(first, last))
    return Counts(pages * PAGE, requests, 0, float("nan"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary) / "cache"
        if not folder.exists():
            generator = np.random.default_rng(0)
            features = {
                n: generator.standard_normal((ROWS, d), np.float32) for n, d in DIMS.items()
            }
            write_arrays(folder, features, dtype="float16", rows_per_chunk=ROWS_PER_CHUNK)
        whole = 2 * ROWS * sum(DIMS.values())
        print(f"{ROWS:,} rows, {size(whole)}; {os.cpu_count()} cores")
        print(f"{'N':>2} {'way':14} {'read':>9} {'requests':>9} {'taken':>9} {'CPU s':>6}")
        one = shared(folder, 1, "part")
        for world in (1, 2, 4):
            ways = {"all": one, "rows": only_rows(world)}
            if world > 1:
                ways["shared, part"] = shared(folder, world, "part")
                ways["shared, whole"] = shared(folder, world, "whole")
            for way, counts in ways.items():
                print(
                    f"{world:2} {way:14} {size(counts.read):>9} {counts.requests:>9,} "
                    f"{size(counts.taken):>9} {counts.seconds:6.2f}"
                )


if __name__ == "__main__":
    main()
