"""What is known of shards behind URLs, kept in a folder so that each is read through only once.

For each shard there is a Parquet file with a row for each of its members: `name`, `offset`, `size`,
and `content` of the texts beside the images. Its metadata say of which file it is, so that a shard
that has changed is noticed, and what else `ShardIndex` holds. All commands, workers and machines
that are given the folder share it. It may be removed at any time: it is made again.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sparc.common.errors import SparcError
from sparc.common.files.folder import Folder
from sparc.common.files.parquet import ParquetTable, parquet_bytes
from sparc.common.progress import say
from sparc.common.text import reason
from sparc.extract.datasets.formats.webdataset.archive import Extent, ShardIndex

_LARGEST = 1 << 30
"""Most bytes of such a file."""

_VERSION = 1
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OSError, pa.ArrowException)
_KEY = b"sparc-shard-index"
_SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("content", pa.binary()),
    ]
)


@dataclass(frozen=True)
class KnownShard:
    """All that the rows need of a shard.

    Attributes:
        identity: Which file it is; see `Held.identity`.
        index: Its members.
        texts: The content of those beside images, by offset.
    """

    identity: str
    index: ShardIndex
    texts: Mapping[int, bytes]


class KeptShards:
    """What is known of the shards of a dataset.

    Args:
        location: The folder or URL where it is kept; those of several datasets may share it.
        dataset: The URL of the dataset's folder.
    """

    def __init__(self, location: str, dataset: str) -> None:
        self._folder = Folder(location)
        self._dataset = dataset
        self._below = hashlib.sha256(dataset.encode()).hexdigest()[:16]

    def file(self, shard: str) -> str:
        """Where what is known of a shard is kept, for messages."""
        return f"{self._folder}/{self._name(shard)}"

    def names(self) -> frozenset[str]:
        """The shards of which something is kept."""
        start, end = len(self._below) + 1, -len(".parquet")
        return frozenset(name[start:end] for name in self._folder.files(self._below))

    def holds(self, shard: str) -> bool:
        """Whether something is kept of a shard, maybe for a moment."""
        return self._folder.exists(self._name(shard))

    def load(self, shard: str) -> KnownShard | None:
        """What is known of a shard; None where nothing is, or it is damaged."""
        try:
            content = self._folder.read(self._name(shard), largest=_LARGEST)
        except FileNotFoundError:
            return None
        try:
            return _parse(ParquetTable(io.BytesIO(content)), self._url(shard))
        except _UNREADABLE as error:
            say(f"{self.file(shard)} is damaged, and made again: {reason(error)}")
            return None

    def save(self, shard: str, known: KnownShard) -> None:
        """Keep what is known of a shard.

        Raises:
            SparcError: The folder cannot be written to.
        """
        index = known.index
        record = {
            "version": _VERSION,
            "shard": self._url(shard),
            "identity": known.identity,
            "damage": index.damage,
            "unusable": index.unusable,
            "renamed": index.renamed,
        }
        extents = index.members.values()
        table = pa.table(
            [
                [*index.members],
                [extent.offset for extent in extents],
                [extent.size for extent in extents],
                [known.texts.get(extent.offset) for extent in extents],
            ],
            schema=_SCHEMA.with_metadata({_KEY: json.dumps(record)}),
        )
        try:
            self._folder.write(self._name(shard), parquet_bytes(table, statistics=False))
        except OSError as error:
            raise SparcError(
                f"cannot write to {self._folder}: {reason(error)}; --dataset-index names another "
                "folder for what is known of shards"
            ) from error

    def _name(self, shard: str) -> str:
        return f"{self._below}/{shard}.parquet"

    def _url(self, shard: str) -> str:
        return f"{self._dataset}/{shard}"


def _parse(table: ParquetTable, url: str) -> KnownShard:
    """Read a file; raises what pyarrow and JSON do where it is not as it was written."""
    record: dict[str, Any] = json.loads((table.schema.metadata or {})[_KEY])
    if record["version"] != _VERSION or record["shard"] != url:
        raise ValueError("it is of another version, or of another shard")
    columns = table.read().select(_SCHEMA.names).cast(_SCHEMA)
    names, offsets, sizes, contents = (column.to_pylist() for column in columns.columns)
    members = {
        name: Extent(offset, size) for name, offset, size in zip(names, offsets, sizes, strict=True)
    }
    texts = {
        offset: content
        for offset, content in zip(offsets, contents, strict=True)
        if content is not None
    }
    if len(members) != len(names) or min(*offsets, *sizes, 0) < 0:
        raise ValueError("it has members that no shard has")
    if any(len(texts[offset]) != size for _, (offset, size) in members.items() if offset in texts):
        raise ValueError("a text has another length than its member")
    unusable = {str(why): [str(name) for name in held] for why, held in record["unusable"].items()}
    damage, renamed, identity = str(record["damage"]), int(record["renamed"]), record["identity"]
    return KnownShard(str(identity), ShardIndex(members, damage, unusable, renamed), texts)
