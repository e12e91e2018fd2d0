"""Tar shards as img2dataset and WebDataset write them (`--format webdataset`).

    DATASET/
      00000.tar        000000000.jpg, 000000000.txt, 000000000.json, 000000001.jpg, …
      00000.parquet    beside the shards; not needed
      00001.tar

The shards may be in subfolders, which then are the splits. Members of a shard with the same name up
to the first dot, the key, are one sample: an image, its caption in `.txt` or else under `caption`
in `.json` (a text or a list of texts), whose further fields may become columns of the cache
(`--column`). A sample's id is its key; where shards repeat keys, it is `shard/key`. An image is
named `shard/member` and read at its offset in the shard.
"""

import os
import tarfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sparc.common.errors import DatasetError, MissingFileError
from sparc.common.images.files import LARGEST_IMAGE
from sparc.common.progress import progress, say
from sparc.common.text import amount, shorten, size
from sparc.extract.datasets.base import DatasetOptions
from sparc.extract.datasets.columns import RecordColumns
from sparc.extract.datasets.formats.reader import DatasetReader
from sparc.extract.datasets.metadata import decode, parse_json
from sparc.extract.datasets.safe_folder import LARGEST_TEXT, SafeFolder, is_image
from sparc.extract.datasets.source import ImageRecord, Source

LARGEST_HEADER = 1 << 20
"""Most bytes of a long name or of extended attributes; a shard with longer ones is refused."""


class Extent(NamedTuple):
    """Where a member's bytes are in its shard."""

    offset: int
    size: int


class WebDataset(DatasetReader):
    """A folder of tar shards; see the module."""

    absence = "no .tar shards"

    @classmethod
    def evidence(cls, folder: SafeFolder) -> str | None:
        """A shard, unless the folder has images, which more likely were unpacked from it."""
        return None if folder.images else next(iter(shard_files(folder.files)), None)

    def __init__(self, folder: SafeFolder, options: DatasetOptions) -> None:
        super().__init__(folder, options)
        self._images: dict[str, dict[str, Extent]] = {}

    def splits(self) -> Collection[str]:
        """The subfolders with shards."""
        shards = shard_files(self.folder.files)
        if not shards:
            raise DatasetError(f"{self.folder} has no .tar shards")
        return sorted({shard.rpartition("/")[0] for shard in shards} - {""})

    def read(self, split: str) -> Source:
        """The images: shards sorted by name, samples in the order of their shard."""
        folder = self.folder
        wanted = [shard for shard in shard_files(folder.files) if shard.rpartition("/")[0] == split]
        samples: list[_Sample] = []
        bad_texts = 0
        with progress(len(wanted), "shards", unit="shards") as bar:
            for shard in wanted:
                extents = index_shard(folder, shard)
                self._remember(shard, extents)
                opened = _Shard(folder, shard, extents, self.columns)
                samples.extend(opened.samples())
                bad_texts += opened.bad_texts
                bar.update()
        if bad_texts:
            say(f"{folder}: bytes that are not UTF-8 replaced in {amount(bad_texts, 'text')}")
        repeated = len({sample.key for sample in samples}) < len(samples)
        return Source(
            records=[
                ImageRecord(
                    f"{sample.shard[:-4]}/{sample.key}" if repeated else sample.key,
                    f"{sample.shard}/{sample.member}",
                    captions=sample.captions,
                    columns=sample.columns,
                )
                for sample in samples
            ],
        )

    def read_image(self, image_path: str) -> bytes:
        """The encoded bytes of an image, by `shard/member`."""
        shard, separator, member = image_path.partition(".tar/")
        if not separator:
            raise DatasetError(f"{self.folder}: {shorten(image_path, 200)} is not shard.tar/member")
        shard += ".tar"
        if shard not in self._images:
            self._remember(shard, index_shard(self.folder, shard))
        extent = self._images[shard].get(member)
        if extent is None:
            raise MissingFileError(f"{self.folder}: {shorten(image_path, 200)} is not there")
        if member.startswith("/") or ".." in member.split("/"):
            raise DatasetError(f"{self.folder}: {shorten(image_path, 200)} leaves its shard")
        if extent.size > LARGEST_IMAGE:
            raise DatasetError(
                f"{self.folder}: {shorten(image_path, 200)} has {size(extent.size)}, "
                f"more than {size(LARGEST_IMAGE)}"
            )
        return _read(self.folder, shard, [extent])[0]

    def _remember(self, shard: str, extents: Mapping[str, Extent]) -> None:
        """Keep where a shard's images are. Threads that do so at once keep the same."""
        self._images[shard] = {
            member: extent for member, extent in extents.items() if is_image(member)
        }


def shard_files(files: Sequence[str]) -> list[str]:
    """The shards among a dataset's files: those in the folder, or else those in its subfolders."""
    shards = [name for name in files if name.endswith(".tar")]
    return [name for name in shards if "/" not in name] or shards


def index_shard(folder: SafeFolder, shard: str) -> dict[str, Extent]:
    """Where the regular files of a shard are. Links, devices and sparse files are left out.

    Raises:
        DatasetError: It is not a tar file, or was cut off.
    """
    path = folder.path(shard)
    extents: dict[str, Extent] = {}
    try:
        shard_bytes = path.stat().st_size
        with tarfile.open(
            path, "r:", tarinfo=_Member, encoding="utf-8", errors="replace"
        ) as archive:
            for member in archive:
                if not member.isreg() or member.issparse():
                    continue
                extent = Extent(member.offset_data, member.size)
                if extent.offset + extent.size > shard_bytes:
                    raise tarfile.ReadError("it was cut off")
                extents.setdefault(member.name.removeprefix("./"), extent)
            _check_end(path, archive.offset)
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        raise DatasetError(f"{folder}: {shard} is not readable as tar: {error}") from error
    return extents


class _Member(tarfile.TarInfo):
    """A member whose extended header is checked before memory is spent on it."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in _EXTENDED and self.size > LARGEST_HEADER:
            raise tarfile.ReadError(f"a header has {size(self.size)}")
        return super()._proc_member(archive)  # type: ignore[misc]


_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class _Sample(NamedTuple):
    shard: str
    key: str
    member: str
    captions: Sequence[str]
    columns: Mapping[str, Any]


class _Shard:
    """The samples of one shard."""

    def __init__(
        self, folder: SafeFolder, shard: str, extents: dict[str, Extent], columns: RecordColumns
    ) -> None:
        self._folder = folder
        self._name = shard
        self._extents = extents
        self._columns = columns
        self.bad_texts = 0

    def samples(self) -> list[_Sample]:
        """The samples that have an image; of several images, the first counts."""
        images: dict[str, str] = {}
        texts: dict[str, str] = {}
        metadata: dict[str, str] = {}
        for member in self._extents:
            key, suffix = split_key(member)
            if suffix == ".txt":
                texts[key] = member
            elif suffix == ".json":
                metadata[key] = member
            elif is_image(member):
                images.setdefault(key, member)
        captions: dict[str, Sequence[str]] = {
            key: [text] if text.strip() else []
            for key, text in self._texts({key: texts[key] for key in images if key in texts})
        }
        columns: dict[str, Mapping[str, Any]] = {}
        wanted = {
            key: metadata[key]
            for key in images
            if key in metadata and (self._columns or not captions.get(key))
        }
        for key, text in self._texts(wanted):
            where = f"{self._folder}/{self._name}/{shorten(metadata[key], 120)}"
            document = parse_json(text, where)
            if isinstance(document, dict):
                columns[key] = self._columns.of(document, without=("caption",))
                if not captions.get(key):
                    captions[key] = _captions_of(document, where)
        return [
            _Sample(self._name, key, member, captions.get(key, ()), columns.get(key, {}))
            for key, member in images.items()
        ]

    def _texts(self, members: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """The texts of members, by key."""
        extents = [self._text_extent(member) for member in members.values()]
        contents = _read(self._folder, self._name, extents)
        for key, content in zip(members, contents, strict=True):
            text, was_replaced = decode(content)
            self.bad_texts += was_replaced
            yield key, text

    def _text_extent(self, member: str) -> Extent:
        extent = self._extents[member]
        if extent.size > LARGEST_TEXT:
            raise DatasetError(
                f"{self._folder}/{self._name}: {shorten(member, 120)} is too long for a text"
            )
        return extent


def _captions_of(document: Mapping[str, Any], where: str) -> Sequence[str]:
    caption = document.get("caption")
    if caption is None:
        return []
    captions: list[Any] = caption if isinstance(caption, list) else [caption]
    if not all(isinstance(text, str) for text in captions):
        raise DatasetError(f"{where}: caption must be text or a list of texts")
    return captions


def split_key(member: str) -> tuple[str, str]:
    """The key of a member, which is its name up to the first dot, and its last suffix."""
    folder, slash, base = member.rpartition("/")
    key, _, rest = base.partition(".")
    suffix = rest.rpartition(".")[2].lower()
    return f"{folder}{slash}{key}", f".{suffix}"


def _check_end(path: Path, offset: int) -> None:
    """Refuse a shard with a damaged header, which `tarfile` takes for the shard's end."""
    with path.open("rb") as file:
        file.seek(offset)
        if any(file.read(tarfile.BLOCKSIZE)):
            raise tarfile.ReadError(f"it is damaged at byte {offset:,}")


def _read(folder: SafeFolder, shard: str, extents: Sequence[Extent]) -> list[bytes]:
    path = folder.path(shard)
    contents = []
    try:
        with path.open("rb") as file:
            for offset, size in extents:
                content = os.pread(file.fileno(), size, offset)
                if len(content) != size:
                    raise DatasetError(f"{folder}: {shard} was cut off")
                contents.append(content)
    except OSError as error:
        raise folder.failure(f"cannot read {shard}", error) from error
    return contents
