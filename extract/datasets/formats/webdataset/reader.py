"""Tar shards as img2dataset and WebDataset write them (`--format webdataset`).

    DATASET/
      00000.tar        000000000.jpg, 000000000.txt, 000000000.json, 000000001.jpg, …
      00000.parquet    beside the shards: captions, where the shard has none
      00001.tar
      classnames.txt   names of the classes 0, 1, …, one a line; optional

Members of a shard with the same name up to the first dot, the key, are one sample; names with
further dots are understood where each image has its own text (`clip.000.jpg`, `clip.000.txt`).

*Captions* are the first of these that is not blank: a member `.txt`, `.caption`, `.text`, `.cap`
(one caption, of any number of lines); in `.json` the key `caption`, `text`, `alt`, `title`,
`prompt` or `captions`, in any case: a text or a list of texts. *Labels* are in `.cls`, `.label`,
`.class` or `.cls.txt`, else in `.json` under `label`, `labels`, `cls`, `class`, `classes` or
`category`. Further fields of `.json` may become columns of the cache (`--column`).

*Several images in a sample* (`0.left.jpg`, `0.right.jpg`) are a row each, since a row is one image,
with the sample's captions; `--holdout` never divides them. Where one is named by the key alone
(`0.jpg`, `0.seg.png`), the others belong to it and are no rows.

A sample's id is its key, or the image's name without suffix where a sample has several; where
shards repeat ids, it is `shard/id`. An image is named `shard/member` and read at its offset in the
shard, which is why compressed shards are not read: the message has the command that decompresses.

Shards may lie behind URLs; `shards` says how they are read there.

*Splits* are folders named like splits, at any depth (`data/train/00000.tar`), else shards that all
have a split in their names (`cc3m-train-0000.tar`). Other subfolders are read together.
"""

import re
import shlex
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property

from sparc.common.errors import DatasetError, MissingFileError
from sparc.common.images.files import LARGEST_IMAGE
from sparc.common.progress import progress, say
from sparc.common.text import amount, shorten, size
from sparc.extract.datasets.base import DatasetOptions
from sparc.extract.datasets.folders.locations import is_shard
from sparc.extract.datasets.folders.read_ahead import Part
from sparc.extract.datasets.formats.reader import DatasetReader
from sparc.extract.datasets.formats.webdataset.archive import (
    ImageIndex,
    ShardIndex,
    index_shard,
)
from sparc.extract.datasets.formats.webdataset.beside import captions_beside
from sparc.extract.datasets.formats.webdataset.contents import Contents, Fields
from sparc.extract.datasets.formats.webdataset.forward import ForwardParts
from sparc.extract.datasets.formats.webdataset.samples import Picture, Samples, put_together
from sparc.extract.datasets.formats.webdataset.shards import ListedShard, shards_of
from sparc.extract.datasets.labels.classes import names_of_numbers
from sparc.extract.datasets.labels.of_folders import is_synset
from sparc.extract.datasets.safe_folder import SafeFolder, is_image, split_suffix
from sparc.extract.datasets.source import ImageRecord, Source
from sparc.extract.datasets.splits import is_usual

_SHARD_IN_PATH = re.compile(r"\.tar(?=/)", re.IGNORECASE)
_WORDS = re.compile(r"[-_.]")


_TABLES = frozenset({".csv", ".tsv", ".parquet", ".jsonl"})
"""Kinds of members that are tables and no parts of a sample."""

_UNPACK_EACH = 'mkdir "${t%.tar}" && tar -xf "$t" -C "${t%.tar}"'
_UNPACK = "tar -xf {} -C DATA"


class WebDataset(DatasetReader):
    """A folder of tar shards; see the module."""

    absence = "no .tar shards"

    @classmethod
    def evidence(cls, folder: SafeFolder) -> str | None:
        """A shard, unless the folder has images, which more likely were unpacked from it.

        A few images beside shards with many, such as a preview, are no reason against it.
        """
        shards = shard_files(folder.files)
        if not shards or not folder.images:
            return next(iter(shards), None)
        within = len(folder.images) * 2 // len(shards)
        first = index_shard(folder, shards[0], most=(within + 1) * 8, through=ForwardParts)
        images = sum(map(is_image, first.members))
        folder.opened.discard(shards[0])
        return shards[0] if images > within else None

    @classmethod
    def advice(cls, folder: SafeFolder, file: str) -> str:  # noqa: ARG003
        """Shards beside images are read by this format alone."""
        return "--format webdataset reads it" if split_suffix(file)[1] == ".tar" else ""

    def __init__(self, folder: SafeFolder, options: DatasetOptions) -> None:
        super().__init__(folder, options)
        self._access = shards_of(folder, options.dataset_index)
        self._images: dict[str, ImageIndex] = {}
        self._indexing = threading.Lock()

    def splits(self) -> Collection[str]:
        """Folders, or else parts of the shards' names, that are named like splits."""
        return sorted(self._shards.keys() - {""})

    def is_of_other_split(self, file: str, split: str) -> bool:
        """Whether a file is a shard of another split, or lies beside one."""
        shards = self._shards
        other = shards.keys() - {split, ""}
        beside = file.rpartition("/")[0].split("/")
        return any(file in shards[name] or name in beside for name in other)

    def read(self, split: str) -> Source:
        """The images: shards sorted by name, samples in the order of their shard."""
        folder = self.folder
        shards = self._shards[split]
        records: list[ImageRecord] = []
        fields = Fields()
        indexed = []
        bad_texts = renamed = 0
        with progress(len(shards), "shards", unit="shards") as bar:
            for shard, listed in zip(shards, self._access.listed(shards), strict=True):
                self._remember(shard, listed.index)
                reading = _Shard(self, shard, listed, fields)
                of_shard = reading.records()
                records.extend(of_shard)
                bad_texts += reading.bad_texts
                renamed += listed.index.renamed
                if of_shard:
                    indexed.append(shard)
                bar.update()
        if not records:
            self._refuse_unreadable(shards)
        if bad_texts:
            say(f"{folder}: bytes that are not UTF-8 replaced in {amount(bad_texts, 'text')}")
        if renamed:
            say(
                f"{folder}: {amount(renamed, 'name')} of members not in UTF-8: their bytes are "
                "escaped, like \\xe4"
            )
        self._say_folders(records)
        for shard in indexed:
            advice = "--column NAME keeps a key of .json" if _has_keys(fields.unused) else ""
            if any(field in _TABLES for field in fields.unused):
                unpack = _UNPACK.format(self._quoted(shard))
                advice = f"tables within shards are read after mkdir DATA && {unpack}"
            self.account.uses(shard, used=fields.used, unused=fields.unused, advice=advice)
        if len({record.sample_id for record in records}) < len(records):
            records = [record._replace(sample_id=self._long_id(record)) for record in records]
        labels = {key for record in records for key in record.labels}
        return Source(records=records, names=names_of_numbers(folder, self.account, labels))

    def _say_folders(self, records: Sequence[ImageRecord]) -> None:
        """Enter folders within shards that may be classes, where there are no labels."""
        if any(record.labels for record in records):
            return
        shards = {self._divide(record.image_path)[0] for record in records}
        stems = sorted(shard_stem(shard).rpartition("/")[2] for shard in shards)
        if len(stems) > 1 and all(map(is_synset, stems)):
            self.account.passes_over(
                f"names of {amount(len(stems), 'shard')} ({shorten(', '.join(stems), 60)})",
                f"cd {shlex.quote(str(self.folder))} && for t in *.tar; do {_UNPACK_EACH}; done "
                "makes folders of them, whose names are classes",
            )
            return
        members = (self._divide(record.image_path)[1] for record in records)
        folders = sorted({member.rpartition("/")[0] for member in members})
        if len(folders) < 2 or not folders[0] or len(folders) * 2 > len(records):
            return
        shown = shorten(", ".join(folders), 60)
        shard = self._quoted(self._divide(records[0].image_path)[0])
        self.account.passes_over(
            f"names of {amount(len(folders), 'folder')} within shards ({shown})",
            f"mkdir DATA && {_UNPACK.format(shard)} for each shard, and DATA --format "
            "class-folders, takes them for classes",
        )

    def _quoted(self, shard: str) -> str:
        return shlex.quote(f"{self.folder}/{shard}")

    def _long_id(self, record: ImageRecord) -> str:
        """An id that is different from those of other shards."""
        shard, _ = self._divide(record.image_path)
        return f"{shard_stem(shard)}/{record.sample_id}"

    @cached_property
    def _shards(self) -> Mapping[str, Sequence[str]]:
        """The shards of each split; of the empty one where there are no splits."""
        shards = shard_files(self.folder.files)
        if not shards:
            raise DatasetError(f"{self.folder} has no .tar shards")
        return shards_of_splits(shards)

    def _refuse_unreadable(self, shards: Sequence[str]) -> None:
        for left_out in self.account.left_out():
            if left_out.what == "shard":
                what = f"none of {len(shards):,} shards" if shards[1:] else "no shard"
                raise DatasetError(
                    f"{self.folder}: {what} can be read: {left_out.file}: {left_out.why}"
                )

    def read_image(self, image_path: str) -> bytes:
        """The encoded bytes of an image, by `shard/member`."""
        part = self._part(image_path)
        if part.size > LARGEST_IMAGE:
            raise DatasetError(
                f"{self.folder}: {shorten(image_path, 200)} has {size(part.size)}, "
                f"more than {size(LARGEST_IMAGE)}"
            )
        return self._access.read(part)

    def expect(self, image_paths: Sequence[str]) -> None:
        """Fetch images ahead, from shards behind a URL; see `ReadsAhead`."""
        self._access.expect(self._parts(image_paths))

    def forget(self) -> None:
        """Fetch nothing more ahead; see `ReadsAhead`."""
        self._access.forget()

    def _parts(self, image_paths: Sequence[str]) -> Iterator[Part]:
        for image_path in image_paths:
            with suppress(DatasetError):  # which `read_image` raises again
                yield self._part(image_path)

    def _part(self, image_path: str) -> Part:
        """Where an image is."""
        shard, member = self._divide(image_path)
        if member.startswith("/") or ".." in member.split("/"):
            raise DatasetError(f"{self.folder}: {shorten(image_path, 200)} leaves its shard")
        with self._indexing:
            if shard not in self._images:
                self._remember(shard, self._access.index(shard))
        extent = self._images[shard].get(member)
        if extent is None:
            raise MissingFileError(f"{self.folder}: {shorten(image_path, 200)} is not there")
        return Part(shard, *extent)

    def _divide(self, image_path: str) -> tuple[str, str]:
        """The shard and the member of an image's path; folders may be called `x.tar` as well."""
        places = [match.end() for match in _SHARD_IN_PATH.finditer(image_path)]
        if not places:
            raise DatasetError(f"{self.folder}: {shorten(image_path, 200)} is not shard.tar/member")
        known = (end for end in places if image_path[:end] in self._images)
        end = next(known, places[0])
        return image_path[:end], image_path[end + 1 :]

    def _remember(self, shard: str, index: ShardIndex) -> None:
        """Keep where a shard's images are."""
        self._images[shard] = ImageIndex(
            (member, extent) for member, extent in index.members.items() if is_image(member)
        )


def shard_files(files: Sequence[str]) -> list[str]:
    """The shards among a dataset's files; compressed ones too, so that they are not passed over."""
    return [name for name in files if is_shard(name)]


def shards_of_splits(shards: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Shards by split: that of their folder, or else of their name if all have one.

    Shards beside folders that are splits are of the empty split, which is not read.
    """
    of_folders = _by_split(shards, lambda shard: shard.split("/")[:-1])
    if of_folders.keys() - {""}:
        return of_folders
    of_names = _by_split(shards, lambda shard: _WORDS.split(shard.rpartition("/")[2]))
    return {"": shards} if "" in of_names else of_names


def _by_split(
    shards: Sequence[str], words_of: Callable[[str], Sequence[str]]
) -> dict[str, list[str]]:
    """Shards by the last of their words that is the name of a split; by nothing if none is."""
    by_split: dict[str, list[str]] = {}
    for shard in shards:
        words = reversed(words_of(shard))
        split = next(filter(is_usual, words), "")
        by_split.setdefault(split, []).append(shard)
    return by_split


class _Shard:
    """Reads the rows of one shard, and enters what is left out.

    Attributes:
        bad_texts: Texts with bytes that are not UTF-8.
    """

    def __init__(
        self, dataset: WebDataset, shard: str, listed: ListedShard, fields: Fields
    ) -> None:
        self._dataset = dataset
        self._shard = shard
        self._index = listed.index
        self._opened = listed.opened
        self._fields = fields
        self.bad_texts = 0

    def records(self) -> list[ImageRecord]:
        """The images in the order of their samples."""
        dataset, shard = self._dataset, self._shard
        samples = put_together(self._index.members)
        self._enter(samples)
        if not samples.pictures:
            return []
        with self._opened() as read:
            contents = Contents(
                read,
                self._index.members,
                dataset.columns,
                dataset.account.omissions(shard),
                self._fields,
            )
            described = [(picture, contents.describe(picture)) for picture in samples.pictures]
        self.bad_texts = contents.bad_texts
        captions: Mapping[str, Sequence[str]] = {}
        if not any(description.captions for _, description in described):
            keys = {picture.image.key for picture in samples.pictures}
            captions = captions_beside(dataset.folder, dataset.account, shard_stem(shard), keys)
        return [
            ImageRecord(
                picture.sample_id,
                f"{shard}/{picture.image.name}",
                captions=description.captions or captions.get(picture.image.key, ()),
                labels=description.labels,
                group=self._group_of(picture),
                columns=description.columns,
            )
            for picture, description in described
        ]

    def _group_of(self, picture: Picture) -> str:
        """What is held out together, unless the user says it: the images of a sample."""
        is_said = self._dataset.options.holdout_by
        return f"{self._shard}/{picture.group}" if picture.group and not is_said else ""

    def _enter(self, samples: Samples) -> None:
        """Enter which images are used, and what is not."""
        dataset, shard = self._dataset, self._shard
        omissions = dataset.account.omissions(shard)
        damage = self._index.damage
        if not samples.pictures:
            where = amount(len(self._index.members), "member")
            dataset.account.leave_out(shard, "shard", damage or "it has no image", where)
        elif damage:
            where = f"{amount(len(samples.pictures), 'image')} before that kept"
            omissions.add("shard", damage, where)
        for why, names in self._index.unusable.items():
            for name in names:
                omissions.add("member", why, name)
        if samples.pictures:
            for key in samples.without_image:
                omissions.add("sample", "it has no image that can be read", key)
        dataset.folder.hidden.extend(f"{shard}/{name}" for name in samples.hidden)
        for picture in samples.pictures:
            self._fields.use(picture.image.suffix)
        for member in samples.unused:
            self._fields.see(member.extension)


def shard_stem(shard: str) -> str:
    """A shard's path without its suffix."""
    return shard[: -len(".tar")]


def _has_keys(fields: Sequence[str]) -> bool:
    return any(" " in field for field in fields)
