"""What a job and its workers tell one another: all of it is small, and no feature is among it."""

import dataclasses

from sparc.common.files.folder import Folder
from sparc.common.streams.info import StreamInfo
from sparc.common.timing.shares import Shares
from sparc.extract.config import ExtractConfig
from sparc.extract.datasets.base import Dataset
from sparc.extract.encoding.replica import BuildEncoders


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker must know to make chunks.

    Attributes:
        token: Of this run of the command, as the cache announces it.
        dataset: Pickled as the way to open it: a worker reads it itself.
        cache: The cache's folder, as an absolute path, or its URL.
        config: Streams and settings, with specs that hold in any working directory.
        build: Builds the encoders of all streams on a device.
    """

    token: str
    dataset: Dataset
    cache: str
    config: ExtractConfig
    build: BuildEncoders

    @property
    def folder(self) -> Folder:
        """The cache's folder."""
        return Folder(self.cache)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspection:
    """What a worker is, before it loads anything.

    Attributes:
        name: What its starter called it.
        versions: Version by package, of the software on which the features depend.
        host: Its machine.
        cores: Which this process may use there.
        threads: How many tasks it runs at once.
        device: Where it would encode, such as `cpu` or `cuda:0`.
        gpu: Which GPU of its machine that is; empty on a CPU.
        resources: The names of what it offers as `--resources`.
    """

    name: str
    versions: dict[str, str]
    host: str
    cores: int
    threads: int
    device: str
    gpu: str
    resources: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Readiness:
    """What a worker would make, once its encoders are loaded.

    Attributes:
        streams: What each stream is, with the digest of its weights.
        manifest_digest: Of the rows that the worker sees in the dataset.
        first_image: Digest of the bytes of the first image; empty where it cannot be read.
    """

    streams: tuple[StreamInfo, ...]
    manifest_digest: str
    first_image: str


@dataclasses.dataclass(frozen=True)
class Order:
    """A chunk that is to be made.

    Attributes:
        chunk: Which chunk.
        streams: The streams that lack it.
        pictured: Whether it lacks thumbnails.
    """

    chunk: int
    streams: tuple[str, ...]
    pictured: bool


@dataclasses.dataclass(frozen=True)
class MadeStream:
    """What was written of one stream of a chunk.

    Attributes:
        stream: Which stream.
        checksums: The CRC32C in which the objects of `features` and of `valid` end.
        rejected: How many rows have no feature.
        reasons: The most frequent reasons why, shortened, with their numbers of rows.
    """

    stream: str
    checksums: tuple[int, int]
    rejected: int
    reasons: tuple[tuple[str, int], ...]


@dataclasses.dataclass(frozen=True)
class Made:
    """A chunk that was encoded and written, whole.

    Attributes:
        chunk: Which chunk.
        streams: What was written of each stream.
        shares: Where the time went, of who encoded and of the threads that loaded images.
    """

    chunk: int
    streams: tuple[MadeStream, ...]
    shares: tuple[Shares, ...]


@dataclasses.dataclass(frozen=True)
class Failed:
    """A chunk that was not made for a reason that may pass.

    Attributes:
        chunk: Which chunk.
        message: What happened.
        broken_device: Whether the worker's process can use its device no more.
    """

    chunk: int
    message: str
    broken_device: bool = False


@dataclasses.dataclass(frozen=True)
class Unequipped:
    """The answer of a worker without encoders: its process is another one than before."""
