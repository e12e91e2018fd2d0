"""The extraction job: every chunk that some stream lacks is encoded and written, in order.

Devices encode, this module writes: each chunk as soon as its turn comes, so that a job that was
stopped anywhere goes on with the next chunk, and ends with the same bytes.
"""

import dataclasses
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import torch

from sparc.common.cache.features import bad_features
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.resume import recognize
from sparc.common.cache.writer import CacheWriter
from sparc.common.devices import choose_devices
from sparc.common.errors import CacheError
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive
from sparc.common.progress import progress, say
from sparc.common.streams.info import StreamInfo
from sparc.common.text import amount, shorten, size
from sparc.extract.config import ExtractConfig
from sparc.extract.datasets.base import Dataset
from sparc.extract.encoders import StreamSpec, build_encoders
from sparc.extract.encoders.encoder import Encoders
from sparc.extract.encoders.libraries import packages_of
from sparc.extract.encoding.chunks import ChunkTable, lacking, require_inputs
from sparc.extract.encoding.loader import ImageLoader
from sparc.extract.encoding.replica import ChunkFeatures, ChunkQueue, Replica
from sparc.extract.restorer import Restorer

BuildEncoders = Callable[[Mapping[str, StreamSpec], torch.device], Encoders]


class Summary(NamedTuple):
    """What a job did.

    Attributes:
        cache: The cache, complete in the job's streams.
        encoded_rows: Rows that this run wrote for at least one stream.
        seconds: How long encoding took, without building the encoders.
        rejected: By stream, how many rows of the cache have no feature.
        cut: By text stream, captions that were longer than the encoder's context.
    """

    cache: ActivationCache
    encoded_rows: int
    seconds: float
    rejected: Mapping[str, int]
    cut: Mapping[str, int]

    def __str__(self) -> str:
        info = self.cache.info
        if self.encoded_rows:
            rate = self.encoded_rows / max(self.seconds, 1e-9)
            done = f"{amount(self.encoded_rows, 'row')} encoded, {rate:,.1f} rows/s"
        else:
            done = "nothing was left to do"
        parts = [f"{done}. {self.cache.folder} holds {amount(info.rows, 'row')}"]
        for name, rejected in self.rejected.items():
            note = f", {rejected:,} without a feature" if rejected else ""
            cut = self.cut.get(name, 0)
            note += f", {amount(cut, 'caption')} cut at the encoder's context" if cut else ""
            parts.append(f"{name} (dim {self.cache.stream(name).dim}{note})")
        return ", ".join(parts) + f"; {size(self.cache.folder.size())}."


def run(
    dataset: Dataset,
    location: str | os.PathLike[str] | Folder,
    config: ExtractConfig,
    *,
    build: BuildEncoders = build_encoders,
) -> Summary:
    """Extract a dataset's features into a cache, or go on with an interrupted extraction.

    Args:
        dataset: The rows and their images.
        location: The cache's folder or URL.
        config: Streams and settings; `dry_run` is the caller's business.
        build: What builds the encoders of all streams on a device.

    Raises:
        DatasetError: The dataset has nothing that a stream could encode.
        CacheError: The folder holds something else, or a stream was made in another way; a
            feature does not fit float16; or no row of a stream has a feature.
        EncoderError: An encoder cannot be built, or its batch does not fit the device.
        LockedError: Another process writes to the cache.
    """
    devices = choose_devices(config.devices or config.device)
    manifest = dataset.manifest()
    require_inputs(manifest.rows, config.specs)
    folder = location if isinstance(location, Folder) else Folder(location)
    with exclusive(folder, recognize):
        writer = CacheWriter.open(
            folder,
            manifest,
            rows_per_chunk=config.rows_per_chunk,
            repair=config.repair,
            packages=packages_of(config.specs.values()),
        )
        say(f"loading {amount(len(config.specs), 'encoder')} on {', '.join(map(str, devices))}")
        replicas = _replicas(devices, config, build)
        missing = {
            name: writer.open_stream(_stream_info(name, replicas[0], config))
            for name in config.specs
        }
        started = time.monotonic()
        table = ChunkTable(manifest.rows)
        with ImageLoader(dataset, config.threads) as loader:
            restorer = Restorer(writer, table, replicas[0], loader)
            for name in config.specs:
                missing[name] += restorer.restore_reasons(name, thorough=config.repair)
            work = lacking(missing)
            encoded_rows = sum(len(writer.info.chunk_rows(chunk)) for chunk in work)
            if work:
                chunks = (
                    table.chunk(index, writer.info.chunk_rows(index), streams)
                    for index, streams in work.items()
                )
                in_order = _encode(
                    replicas,
                    ChunkQueue(chunks, ahead=2 * len(replicas) + 1),
                    loader,
                    already=writer.info.rows - encoded_rows,
                    total=writer.info.rows,
                    order=list(work),
                )
                with closing(in_order):
                    _write(writer, in_order)
        for name in replicas[0].texts:
            restorer.restore_cut(name)
        writer.finish()
        seconds = time.monotonic() - started
    cache = ActivationCache(folder)
    rejected = _rejected(cache, tuple(config.specs))
    cut = {name: cache.cut(name) for name in replicas[0].texts}
    return Summary(cache, encoded_rows, seconds, rejected, cut)


def _replicas(
    devices: list[torch.device], config: ExtractConfig, build: BuildEncoders
) -> list[Replica]:
    on_cpu = sum(device.type == "cpu" for device in devices)
    threads = max(1, torch.get_num_threads() // max(on_cpu, 1))
    replicas = []
    for device in devices:
        encoders = build(config.specs, device)
        replicas.append(
            Replica(
                device,
                encoders.images,
                encoders.texts,
                batch_size=config.batch_size,
                threads=threads,
            )
        )
    return replicas


def _stream_info(name: str, replica: Replica, config: ExtractConfig) -> StreamInfo:
    encoder = replica.encoders[name]
    precision = "bfloat16 autocast" if replica.device.type == "cuda" else "float32"
    return StreamInfo(
        name=name,
        modality=config.specs[name].modality,
        dim=encoder.dim,
        dtype=config.dtype,
        compression=config.compression,
        keep_bits=config.keep_bits,
        origin=dataclasses.replace(
            encoder.origin, precision=precision, batch_size=config.batch_size
        ),
    )


def _encode(
    replicas: list[Replica],
    chunks: ChunkQueue,
    loader: ImageLoader,
    *,
    already: int,
    total: int,
    order: list[int],
) -> Generator[ChunkFeatures, None, None]:
    """Encode on all devices at once; the chunks come out in order, however they get done."""
    events: queue.SimpleQueue[ChunkFeatures | int | BaseException] = queue.SimpleQueue()
    with (
        progress(total, "extracting", initial=already) as bar,
        _threads(replicas, chunks, loader, events.put),
    ):
        early: dict[int, ChunkFeatures] = {}
        for index in order:
            while index not in early:
                event = events.get()
                if isinstance(event, BaseException):
                    raise event
                if isinstance(event, int):
                    bar.update(event)
                else:
                    early[event.chunk.index] = event
            yield early.pop(index)
            chunks.written()


@contextmanager
def _threads(
    replicas: list[Replica],
    chunks: ChunkQueue,
    loader: ImageLoader,
    tell: Callable[[ChunkFeatures | int | BaseException], None],
) -> Iterator[None]:
    """A thread a device, for as long as the context lasts."""

    def work(replica: Replica) -> None:
        try:
            for features in replica.run(chunks, loader, encoded=tell):
                tell(features)
        except BaseException as error:  # raised again by the thread that waits for features
            tell(error)

    threads = [
        threading.Thread(target=work, args=(replica,), name=f"encode on {replica.device}")
        for replica in replicas
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


def _write(writer: CacheWriter, chunks: Iterator[ChunkFeatures]) -> None:
    """Write chunks in order."""
    cache = ActivationCache(writer.folder)
    for chunk, features, reasons, cut in chunks:
        for name in chunk.streams:
            stream, values, why = cache.stream(name), features[name], reasons[name]
            if chunk.carried and stream.modality == "image":
                _carry(cache, name, chunk.rows, chunk.carried, values, why)
            found = bad_features(values, chunk.rows.start, dtype=stream.dtype)
            for row, reason in found.items():
                why.setdefault(row, reason)
            writer.write(name, chunk.index, values, why, cut=cut.get(name))


def _carry(
    cache: ActivationCache,
    stream: str,
    rows: range,
    carried: int,
    values: npt.NDArray[np.float32],
    reasons: dict[int, str],
) -> None:
    """Take over the feature, or the reason, of the image that began in the chunk before."""
    before = rows.start // cache.info.rows_per_chunk - 1
    if cache.valid(stream, before)[-1]:
        values[:carried] = cache.features(stream, before)[-1]
        return
    rejects = cache.rejects_so_far()
    same = pc.and_(
        pc.equal(rejects.column("row"), rows.start - 1), pc.equal(rejects.column("stream"), stream)
    )
    (reason,) = rejects.filter(same).column("reason").to_pylist()
    reasons.update(dict.fromkeys(rows[:carried], reason))


def _rejected(cache: ActivationCache, streams: tuple[str, ...]) -> dict[str, int]:
    """How many rows of each stream have no feature; refuses a stream that has none at all."""
    rejects = cache.rejects()
    counts = {}
    for name in streams:
        mine = rejects.filter(pc.equal(rejects.column("stream"), name))
        counts[name] = len(mine)
        if len(mine) == cache.info.rows:
            ((reason, _),) = Counter(mine.column("reason").to_pylist()).most_common(1)
            raise CacheError(
                f"stream {name}: no row has a feature (most often: {shorten(reason, 100)}); "
                "correct the dataset and extract into another folder"
            )
    return counts
