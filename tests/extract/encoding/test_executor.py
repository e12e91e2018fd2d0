"""Who encodes: threads, or whatever else keeps to the protocol."""

import pickle
import threading
from contextlib import closing

import pytest
import torch

from sparc.common.cache.info import CacheInfo
from sparc.extract import extraction, job
from sparc.extract.config import ExtractConfig
from sparc.extract.encoders import parse_spec
from sparc.extract.encoding.chunk_queue import ChunkQueue
from sparc.extract.encoding.chunks import ChunkTable, Work, lacking
from sparc.extract.encoding.executor import ThreadExecutor
from sparc.extract.encoding.loader import ImageLoader
from sparc.extract.encoding.replica import build_replicas

CAPTIONS = [[f"image {i}"] * (1 + i % 3) for i in range(40)]
REPLICAS = 3


@pytest.fixture
def dataset(fake_dataset):
    return fake_dataset(CAPTIONS)


@pytest.fixture
def work(dataset):
    rows = dataset.manifest().rows
    info = CacheInfo(
        dataset="fake",
        dataset_format="fake",
        split="",
        rows=len(rows),
        rows_per_chunk=4,
        manifest_digest="",
        streams=(),
        versions={},
    )
    # The text stream has the first chunks already, the image stream one of the last.
    missing = {"a": [c for c in range(info.chunks) if c != 17], "t": range(2, info.chunks)}
    return Work(ChunkTable(rows), info, lacking(missing))


@pytest.fixture
def replicas(fake_encoders):
    specs = {"a": parse_spec("timm:a"), "t": parse_spec("transformers:t")}
    build = fake_encoders(delay=0.001)
    return build_replicas([torch.device("cpu")] * REPLICAS, specs, build, batch_size=2)


class Watched(Work):
    """Work that counts the chunks handed out."""

    handed_out = 0

    def __iter__(self):
        for chunk in super().__iter__():
            Watched.handed_out += 1
            yield chunk


@pytest.fixture
def watched(work, monkeypatch):
    monkeypatch.setattr(Watched, "handed_out", 0)
    return Watched(work.table, work.info, work.streams)


def test_chunks_come_in_order_and_never_far_ahead_of_what_was_written(watched, replicas, dataset):
    rows = []
    with ImageLoader(dataset, 2) as loader:
        chunks = ThreadExecutor(replicas, loader).encode(watched, rows_done=rows.append)
        for written, (features, index) in enumerate(zip(chunks, watched.streams, strict=True)):
            assert features.chunk.index == index
            assert tuple(features.features) == tuple(watched.streams[index])
            assert written < Watched.handed_out <= written + 2 * REPLICAS + 1
    assert sum(rows) == watched.rows == watched.info.rows


def test_closing_stops_the_threads(watched, replicas, dataset):
    with ImageLoader(dataset, 2) as loader:
        executor = ThreadExecutor(replicas, loader)
        with closing(executor.encode(watched, rows_done=lambda _: None)) as chunks:
            next(chunks)
        assert Watched.handed_out < len(watched.streams)
        assert not [t for t in threading.enumerate() if t.name.startswith("encode on")]


class OneAfterTheOther:
    """An executor without threads, whose chunks and features cross a border of processes."""

    def __init__(self, replicas, loader):
        self.replica, self.loader = replicas[0], loader

    def encode(self, work, *, rows_done):
        for chunk in work:
            queue = ChunkQueue(iter([pickle.loads(pickle.dumps(chunk))]), ahead=2)
            for features in self.replica.run(queue, self.loader, rows_done=rows_done):
                yield pickle.loads(pickle.dumps(features))


def test_a_job_writes_the_same_bytes_whoever_encodes(
    fake_dataset, fake_encoders, fake_streams, tmp_path, monkeypatch
):
    config = ExtractConfig(streams=fake_streams, rows_per_chunk=7, batch_size=3, workers=2)
    dataset = fake_dataset(CAPTIONS, broken=[5])
    job.run(dataset, tmp_path / "threads", config, build=fake_encoders())
    monkeypatch.setattr(extraction, "ThreadExecutor", OneAfterTheOther)
    job.run(dataset, tmp_path / "other", config, build=fake_encoders())
    names = [p.relative_to(tmp_path / "threads") for p in (tmp_path / "threads").rglob("*")]
    files = [name for name in names if (tmp_path / "threads" / name).is_file()]
    assert len(files) > 50
    for name in files:
        assert (tmp_path / "other" / name).read_bytes() == (
            tmp_path / "threads" / name
        ).read_bytes(), name
