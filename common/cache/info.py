"""What a cache says about itself: `cache.json`, the names of its files, and advice on damage."""

import dataclasses
import json
import shlex
from collections.abc import Mapping
from typing import Any

from sparc.common.cache.layout import DOCUMENT, attributes_of
from sparc.common.config import from_mapping
from sparc.common.documents import DocumentKind
from sparc.common.errors import (
    CacheError,
    ConfigError,
    DamagedCacheError,
    IncompleteCacheError,
    UnknownSettingError,
)
from sparc.common.files.artefacts import instead
from sparc.common.files.folder import Folder
from sparc.common.parsing import parse_object
from sparc.common.streams.info import check_name
from sparc.common.text import reason

KIND = DocumentKind("sparc-activation-cache", 1, CacheError)

ARRAYS_DATASET = "arrays"
"""What stands for the format in a cache of features that were not extracted, and for the dataset
where it does not know any images."""

IMPORTED = "import"
"""What stands for the format in a cache of features that were imported from files."""

INFO_FILE = "cache.json"
ACTIVATIONS = "activations.zarr"
ROWS_FILE = "rows.parquet"
CLASSES_FILE = "classes.parquet"
REJECTS_FILE = "rejects.parquet"
MASKS_FILE = "masks.parquet"
REJECT_PARTS = "rejects"
CUT_PARTS = "captions_cut"
SHARDS = "shards"
AGREEMENT_FILE = f"{SHARDS}/agreement.json"
CLUSTER_FILE = f"{SHARDS}/cluster.json"
"""While this file exists, shards have begun and are not gathered: section 6.2 of `CACHE.md`."""
THUMBNAILS = "thumbnails"
APPENDED = "appended"
APPENDED_FILE = f"{APPENDED}/begun.json"
"""While this file exists, batches are being appended: see section 6.1 of `CACHE.md`."""
ROOT_DOCUMENT = f"{ACTIVATIONS}/{DOCUMENT}"


def chunk_files(stream: str, chunk: int) -> tuple[str, str]:
    """The two objects of a chunk of a stream, features and flags."""
    folder = f"{ACTIVATIONS}/{stream}"
    return f"{folder}/features/c/{chunk}/0", f"{folder}/valid/c/{chunk}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheInfo:
    """What `cache.json` says.

    Attributes:
        dataset: Where the images lie: the folder, URL or tar shards that were given.
        dataset_format: Which reader read it.
        split: The split of the dataset; empty where it has none.
        rows: Number of rows.
        rows_per_chunk: Rows in every chunk but the last.
        manifest_digest: See `sparc.common.cache.tables.manifest_digest`.
        streams: Names of the streams, in the order in which they joined.
        versions: Version by package, of the software that began the cache.
    """

    dataset: str
    dataset_format: str
    split: str
    rows: int
    rows_per_chunk: int
    manifest_digest: str
    streams: tuple[str, ...]
    versions: Mapping[str, str]

    @property
    def made_from(self) -> str:
        """What to make the cache from again: the dataset, `ARRAYS_DATASET` or `IMPORTED`."""
        has_none = self.dataset_format in (ARRAYS_DATASET, IMPORTED)
        return self.dataset_format if has_none else self.dataset

    @property
    def chunks(self) -> int:
        """Number of chunks of every stream."""
        return -(-self.rows // self.rows_per_chunk)

    def chunk_rows(self, chunk: int) -> range:
        """The rows of a chunk.

        Raises:
            IndexError: There is no such chunk.
        """
        if not 0 <= chunk < self.chunks:
            raise IndexError(f"chunk {chunk} of {self.chunks}")
        start = chunk * self.rows_per_chunk
        return range(start, min(start + self.rows_per_chunk, self.rows))

    def to_json(self) -> bytes:
        """The content of `cache.json`."""
        return (json.dumps(self.to_document(), indent=2, ensure_ascii=False) + "\n").encode()

    def to_document(self) -> dict[str, Any]:
        """The same as plain JSON values; the attributes of the Zarr group repeat them."""
        return KIND.document(dataclasses.asdict(self))

    @classmethod
    def read(cls, folder: Folder) -> "CacheInfo":
        """Read `cache.json`.

        Raises:
            CacheError: There is none, or it is of another version.
            DamagedCacheError: It is not what was written.
        """
        try:
            content = folder.read(INFO_FILE)
        except FileNotFoundError as error:
            if folder.exists(APPENDED_FILE):
                raise IncompleteCacheError(
                    f"{folder} has been begun in batches and not closed; {APPEND_ADVICE}"
                ) from error
            if cls.read_copy(folder) is not None:
                raise DamagedCacheError(
                    f"{folder} has lost its {INFO_FILE}; {repair_advice(str(folder))}"
                ) from error
            why = instead("cache", folder)
            raise CacheError(f"{folder} is not an activation cache: {why}") from error
        except OSError as error:
            raise CacheError(f"cannot read {folder}/{INFO_FILE}: {error.strerror}") from error
        try:
            document = parse_object(content)
        except ValueError as error:
            what = f"{folder}/{INFO_FILE} is not readable: {reason(error)}"
            raise DamagedCacheError(f"{what}; {repair_advice(str(folder))}") from error
        try:
            return cls.from_document(document, str(folder))
        except DamagedCacheError as error:
            cause = error.__cause__
            if isinstance(cause, UnknownSettingError) and document == _copy(folder):
                raise KIND.newer(cause, where=f"{folder}/{INFO_FILE}") from error
            raise

    @classmethod
    def read_copy(cls, folder: Folder) -> "CacheInfo | None":
        """What the attributes of the Zarr group say; None where they say nothing."""
        try:
            attributes = _copy(folder)
            return cls.from_document(attributes, str(folder)) if attributes else None
        except CacheError:
            return None

    @classmethod
    def from_document(cls, document: Mapping[str, Any], where: str) -> "CacheInfo":
        """The opposite of `to_document`.

        Raises:
            CacheError: It is of another version.
            DamagedCacheError: It has other keys or types.
        """
        try:
            entries = KIND.entries(document, where=f"{where}/{INFO_FILE}")
            info = from_mapping(cls, entries, source=INFO_FILE)
            if info.rows < 1 or info.rows_per_chunk < 1:
                raise ConfigError("rows and rows_per_chunk must be positive")
            if len(set(map(check_name, info.streams))) < len(info.streams):
                raise ConfigError("a stream is named twice")
        except (ConfigError, TypeError, ValueError) as error:
            raise DamagedCacheError(
                f"{where}/{INFO_FILE} is damaged: {error}; {repair_advice(where)}"
            ) from error
        return info


def _copy(folder: Folder) -> dict[str, Any] | None:
    """What the attributes of the Zarr group repeat; None where they cannot be read."""
    try:
        return attributes_of(folder.read(ROOT_DOCUMENT))
    except OSError:
        return None


# ---------------------------------------------------------------------- advice

APPEND_ADVICE = (
    "give `sparc.CacheWriter` the same batches again: it keeps those that are written, and "
    "closes the cache at the end"
)
"""What to do about a cache to which batches were appended, until something stopped it."""


def repair_advice(location: str, dataset: str = "DATASET") -> str:
    """What to do about damage: the end of an error message."""
    if dataset == ARRAYS_DATASET:
        return "write the same arrays there again: write_arrays restores what is damaged"
    if dataset == IMPORTED:
        return (
            "restore what is damaged, and nothing else, by running the same "
            f"`sparc-extract import … {shlex.quote(location)}` again with --repair"
        )
    return (
        "restore what is damaged, and nothing else, by running the same "
        f"`{_extract_command(dataset, location)}` again with --repair"
    )


def finish_advice(folder: Folder, dataset: str) -> str:
    """What to do about chunks that have not been written: the end of an error message."""
    if dataset == ARRAYS_DATASET:
        return "finish it by writing the same arrays there again"
    place = shlex.quote(str(folder))
    if dataset == IMPORTED:
        return f"finish it by running the same `sparc-extract import … {place}` again"
    if folder.exists(AGREEMENT_FILE):
        return (
            "its shards have not all been made and gathered: run those again that "
            f"`sparc-extract inspect {place}` names, then `sparc-extract finish {place}`"
        )
    return f"finish it by running the same `{_extract_command(dataset, str(folder))}` again"


def damaged(folder: Folder, info: CacheInfo, what: str) -> DamagedCacheError:
    """The error for damage in a cache, with the way to repair it."""
    advice = repair_advice(str(folder), info.made_from)
    return DamagedCacheError(f"{folder}: {what}; {advice}")


def _extract_command(dataset: str, location: str) -> str:
    """What to type in a shell, where a dataset's name must not do anything else."""
    return shlex.join(["sparc-extract", "run", dataset, location])
