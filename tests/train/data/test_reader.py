"""The reader: the same batches wherever the rows live, from any position, for any process."""

import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from sparc.common.cache.arrays import write_arrays
from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import CacheError, ConfigError, DamagedCacheError, IncompleteCacheError
from sparc.common.timing.phases import Phase, Role
from sparc.train.data import residency
from sparc.train.data.ahead import BATCHES_AHEAD
from sparc.train.data.counting import count_rows
from sparc.train.data.order import Position, RowOrder
from sparc.train.data.reader import BatchReader
from sparc.train.data.rows import block_bytes

STREAMS = ("dino", "clip_image", "clip_text")


@pytest.fixture
def open_reader(small_cache):
    """Readers of the small cache, closed when the test ends."""
    readers = []

    def build(**changes):
        options = {"batch_size": 100, "block_chunks": 3, "seed": 7, **changes}
        streams = options.pop("streams", STREAMS)
        readers.append(BatchReader(ActivationCache(small_cache), streams, **options))
        return readers[-1]

    yield build
    for reader in readers:
        reader.close()


@pytest.fixture
def open_readers(open_reader, exchanges):
    """Readers of several processes, each opened in a thread of its own."""

    def build(world, **options):
        with ThreadPoolExecutor(world) as threads:
            return list(threads.map(lambda e: open_reader(exchange=e, **options), exchanges(world)))

    return build


def take(reader, count):
    return [{k: v.clone() for k, v in reader.next_batch().features.items()} for _ in range(count)]


def at_once(readers, function):
    """What a function returns for the readers of several processes, which wait for each other."""
    with ThreadPoolExecutor(len(readers)) as threads:
        return list(threads.map(function, readers))


def take_each(readers, count):
    return at_once(readers, lambda reader: take(reader, count))


def same(a, b):
    return all(torch.equal(x[name], y[name]) for x, y in zip(a, b, strict=True) for name in x)


@pytest.fixture(scope="module")
def expected(small_cache):
    """The batches of three epochs, built row by row from the arrays and the order alone."""
    cache = ActivationCache(small_cache)
    valid = cache.valid_rows(STREAMS)
    whole = {
        n: np.concatenate([cache.features(n, c) for c in range(cache.info.chunks)]) for n in STREAMS
    }
    order = RowOrder(
        usable=count_rows(cache, STREAMS, "all").by_chunk, block_chunks=3, batch_size=100, seed=7
    )
    batches = []
    for epoch in range(3):
        rows = []
        for number, block in enumerate(order.blocks(epoch)):
            there = [r for c in block.chunks for r in cache.info.chunk_rows(c) if valid[r]]
            rows += [there[i] for i in order.permutation(epoch, number, block.rows)]
        for start in range(0, len(rows) - 99, 100):
            picked = rows[start : start + 100]
            batches.append({n: torch.from_numpy(whole[n][picked]).float() for n in STREAMS})
    return batches


@pytest.mark.parametrize("residency", ["host", "stream", "auto", "device"])
def test_residency_never_changes_the_batches(open_reader, expected, residency):
    reader = open_reader(residency=residency)
    assert same(take(reader, len(expected)), expected)
    assert reader.position == Position(3, 0)


@pytest.mark.parametrize("residency", ["host", "stream", "device"])
@pytest.mark.parametrize("streams", [STREAMS, STREAMS[1:]])
def test_rows_that_lack_streams_come_with_those_that_they_have(
    small_cache, open_reader, open_readers, residency, streams
):
    cache = ActivationCache(small_cache)
    valid = np.stack([cache.valid_rows([name]) for name in streams], axis=1)
    reader = open_reader(residency=residency, streams=streams, rows="any", batch_size=50)
    assert reader.order.rows == valid.any(1).sum()
    assert sum(reader.counts.by_streams.values()) == reader.order.rows
    assert reader.counts.by_streams[streams] == valid.all(1).sum()
    assert reader.counts.pair_rows == (valid.T.astype(int) @ valid).min()
    halves = open_readers(2, residency=residency, streams=streams, rows="any", batch_size=50)
    rows = {
        tuple(row.tolist()): has for row, has in zip(_joined(cache, streams), valid, strict=True)
    }
    for _ in range(reader.order.steps_per_epoch):
        features, present = reader.next_batch()
        batch = torch.cat([features[name] for name in streams], dim=1)
        for row, has in zip(batch, present, strict=True):
            assert has.tolist() == rows[tuple(row.tolist())].tolist()
        parts = at_once(halves, BatchReader.next_batch)
        assert torch.equal(torch.cat([part.present for part in parts]), present)
        for name in streams:
            assert torch.equal(torch.cat([p.features[name] for p in parts]), features[name])


def _joined(cache, streams):
    whole = [[cache.features(n, c) for c in range(cache.info.chunks)] for n in streams]
    return np.concatenate([np.concatenate(chunks) for chunks in whole], axis=1).astype(np.float32)


def test_where_all_rows_are_complete_there_is_no_mask(open_reader, small_cache):
    one = open_reader(streams=("clip_image",), rows="any")
    assert one.next_batch().present is None
    assert open_reader(rows="all").next_batch().present is None
    assert open_reader(rows="any").next_batch().present is not None


@pytest.mark.parametrize("residency", ["host", "stream"])
def test_seeking_finds_every_batch_again(open_reader, expected, residency):
    reader = open_reader(residency=residency)
    per_epoch = reader.order.steps_per_epoch
    for number in (5, 0, len(expected) - 1, per_epoch, per_epoch - 1, per_epoch + 3):
        reader.seek(Position(number // per_epoch, number % per_epoch))
        assert same(take(reader, 1), expected[number : number + 1])


@pytest.mark.parametrize("residency", ["host", "stream"])
@pytest.mark.parametrize("world", [2, 4, 5])
def test_processes_share_every_batch(open_readers, expected, residency, world):
    """Blocks have 3 chunks: of 5 processes some read none of a block."""
    readers = open_readers(world, residency=residency)
    taken = take_each(readers, len(expected))
    for number, whole in enumerate(expected):
        for name in STREAMS:
            joined = torch.cat([batches[number][name] for batches in taken])
            assert torch.equal(joined, whole[name])


@pytest.mark.parametrize("residency", ["host", "stream"])
def test_every_process_may_need_whole_batches(open_readers, expected, residency):
    for reader in open_readers(3, residency=residency, needs="whole", batch_size=99):
        assert reader.order.batch_rows == 99
    readers = open_readers(2, residency=residency, needs="whole")
    for batches in take_each(readers, len(expected)):
        assert same(batches, expected)


@pytest.mark.parametrize("begin", [1, 5, 9])
def test_processes_begin_at_any_batch(open_readers, expected, begin):
    readers = open_readers(2, residency="stream")
    per_epoch = readers[0].order.steps_per_epoch
    for reader in readers:
        reader.seek(Position(begin // per_epoch, begin % per_epoch))
    taken = take_each(readers, len(expected) - begin)
    for number, whole in enumerate(expected[begin:]):
        joined = [torch.cat([batches[number][name] for batches in taken]) for name in STREAMS]
        assert all(torch.equal(x, whole[n]) for x, n in zip(joined, STREAMS, strict=True))
    with pytest.raises(ValueError, match="cannot go to another batch"):
        readers[0].seek(Position(0, 0))


@pytest.mark.parametrize("residency", ["host", "stream"])
def test_every_chunk_is_read_by_one_process(open_readers, small_cache, monkeypatch, residency):
    """Of an epoch; and a process is sent no more than what it learns from."""
    read, lock = Counter(), threading.Lock()
    real = ActivationCache.features

    def features(cache, stream, chunk, **options):
        with lock:
            read[stream, chunk] += 1
        return real(cache, stream, chunk, **options)

    monkeypatch.setattr(ActivationCache, "features", features)
    # One block an epoch: the next epoch's is read meanwhile.
    readers = open_readers(4, residency=residency, block_chunks=16)
    steps = readers[0].order.steps_per_epoch
    take_each(readers, steps - BATCHES_AHEAD)
    info = ActivationCache(small_cache).info
    times = {"host": {1}, "stream": {1, 2}}[residency]
    assert set(read) == {(name, chunk) for name in STREAMS for chunk in range(info.chunks)}
    assert set(read.values()) <= times


def test_processes_choose_a_residency_that_fits_all(open_reader, exchanges, monkeypatch):
    free = {0: 1 << 40, 1: 0}
    ranks = threading.local()
    monkeypatch.setattr(residency, "free_memory", lambda _: free[ranks.mine])

    def build(exchange):
        ranks.mine = exchange.rank
        return open_reader(exchange=exchange)

    with ThreadPoolExecutor(2) as threads:
        readers = list(threads.map(build, exchanges(2)))
    assert [reader.residency for reader in readers] == ["stream", "stream"]


def test_rows_that_are_not_valid_in_a_chosen_stream_are_left_out(open_reader):
    assert open_reader(streams=("clip_image",)).order.rows == 1000
    assert open_reader(streams=("dino",)).order.rows == 970
    assert open_reader().order.rows == len(
        set(range(1000)) - {*range(0, 1000, 17)} - {*range(500, 530)}
    )
    for batch in take(open_reader(), 20):
        assert all(rows.any(dim=1).all() for rows in batch.values())


def test_batches_cannot_be_shared_unevenly(open_readers):
    with pytest.raises(ConfigError, match="batch of 100 rows cannot be shared by 3 processes"):
        open_readers(3)


def test_no_row_in_common_is_said(tmp_path):
    a, b = np.ones((10, 4), np.float32), np.ones((10, 3), np.float32)
    a[::2], b[1::2] = 0, 0
    cache = write_arrays(tmp_path / "cache", {"a": a, "b": b})
    with pytest.raises(CacheError, match="no row is valid in all of a, b"):
        BatchReader(cache, ("a", "b"), batch_size=2, block_chunks=1, seed=0)


def make_cache(folder, rows=640):
    features = np.random.default_rng(0).standard_normal((rows, 8)).astype(np.float32)
    return write_arrays(folder, {"a": features}, rows_per_chunk=64)


def test_an_incomplete_cache_is_refused(tmp_path):
    cache = make_cache(tmp_path / "cache")
    (tmp_path / "cache/activations.zarr/a/features/c/3/0").unlink()
    with pytest.raises(IncompleteCacheError, match="lacks 1 of 10 chunks"):
        BatchReader(cache, ("a",), batch_size=2, block_chunks=1, seed=0)


@pytest.mark.parametrize("residency", ["host", "stream"])
def test_damage_reaches_the_trainer_and_does_not_hang(tmp_path, residency):
    cache = make_cache(tmp_path / "cache")
    path = tmp_path / "cache/activations.zarr/a/features/c/3/0"
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)

    def read_everything():
        options = {"batch_size": 64, "block_chunks": 2, "seed": 0, "residency": residency}
        with BatchReader(cache, ("a",), **options) as reader:
            for _ in range(20):
                reader.next_batch()

    with pytest.raises(DamagedCacheError, match="chunk 3 of a/features"):
        read_everything()


def test_a_stream_that_no_row_has_is_refused(tmp_path):
    there, nowhere = np.ones((8, 3), np.float32), np.zeros((8, 3), np.float32)
    cache = write_arrays(tmp_path, {"a": there, "b": nowhere, "c": nowhere})
    for streams, message in (
        (("a", "b"), "no row is valid in b; .* streams= leaves it out"),
        (("b", "c"), "no row is valid in one of b, c"),
    ):
        with pytest.raises(CacheError, match=message):
            count_rows(cache, streams, "any")
    with pytest.raises(CacheError, match="no row is valid in all of a, b"):
        count_rows(cache, ("a", "b"), "all")


def test_a_reader_can_be_closed_at_any_time(small_cache):
    cache = ActivationCache(small_cache)
    for count in range(4):
        options = {"batch_size": 50, "block_chunks": 2, "seed": 0, "residency": "stream"}
        with BatchReader(cache, STREAMS, **options) as reader:
            take(reader, count)


@pytest.mark.parametrize(
    ("residency", "helpers"), [("host", [Role.PICKER]), ("stream", [Role.PICKER, Role.READER])]
)
def test_waiting_for_batches_is_counted_and_what_was_done_meanwhile(
    open_reader, residency, helpers
) -> None:
    reader = open_reader(residency=residency)
    take(reader, 1)
    first = reader.times.shares().seconds[Phase.STARVED]
    assert first > 0
    take(reader, 1)
    assert reader.times.shares().seconds[Phase.STARVED] > first
    shares = list(reader.shares())
    assert [one.role for one in shares] == helpers
    assert shares[0].seconds[Phase.PICK] > 0
    if residency == "stream":
        assert shares[1].seconds[Phase.READ] > 0
        assert shares[0].seconds[Phase.STARVED] > 0


MEASURE = """
import resource, sys, threading, time
from pathlib import Path
from sparc.common.cache.reader import ActivationCache
from sparc.train.data.reader import BatchReader

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

options = {"batch_size": 512, "block_chunks": 2, "seed": 0, "residency": "stream"}
cache = ActivationCache(sys.argv[1])
before = largest = resident()
with BatchReader(cache, ("a",), **options) as reader:
    for _ in range(2 * reader.order.steps_per_epoch):
        reader.next_batch()
        largest = max(largest, resident())
print(largest - before)
"""


def test_streaming_takes_no_more_memory_for_more_rows(tmp_path):
    """Two blocks of 2 chunks of 4 MB: 16 MB, whether the cache has 16 MB or 64 MB."""
    grown = []
    for chunks in (4, 16):
        features = np.ones((2048 * chunks, 512), np.float32)
        cache = write_arrays(tmp_path / str(chunks), {"a": features}, rows_per_chunk=2048)
        assert block_bytes(cache, ("a",), 2) == 2 * 2048 * 512 * 4
        command = [sys.executable, "-c", MEASURE, str(tmp_path / str(chunks))]
        grown.append(int(subprocess.run(command, capture_output=True, check=True).stdout))
    assert grown[1] < grown[0] + 8e6
    assert grown[1] < 48e6
