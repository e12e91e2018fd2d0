"""Gives the images of any format the labels of files in the form of Open Images.

Labels are matched by id, never by position. An id may be an image's `sample_id`, its path, its file
name or its file name without suffix; a whole file uses one of these: the one by which the most
images have labels, in a tie the earlier. Names that several images share are not used. Where paths
or file names are meant, or nothing fits, an id in another form (another case, a folder more or
less, another suffix) stands for the one image that fits; see `Names`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparc.common.errors import DatasetError
from sparc.common.progress import say
from sparc.common.text import amount, shorten
from sparc.extract.datasets.account import Account, Omissions
from sparc.extract.datasets.base import DatasetOptions
from sparc.extract.datasets.hierarchy import Hierarchy, read_hierarchy
from sparc.extract.datasets.labels.classes import read_class_names
from sparc.extract.datasets.labels.table import Int32s, LabelTable, read_labels
from sparc.extract.datasets.safe_folder import SafeFolder, split_suffix
from sparc.extract.datasets.source import ImageRecord, Source

_CHUNK = 1 << 16
"""Names that are Python objects at once."""


def with_labels_of_files(
    source: Source, options: DatasetOptions, folder: SafeFolder, account: Account
) -> Source:
    """A dataset with the labels, class names and hierarchy of the files that the options name.

    Args:
        source: With all images, before any is held out.
        options: `labels`, `classes`, `hierarchy`.
        folder: The dataset.
        account: Where the files are entered.

    Raises:
        DatasetError: A file cannot be read, or names none of the images.
    """
    if options.labels is None:
        return source
    records = _with_labels(source.records, options.labels, folder, account)
    names, hierarchy = source.names, Hierarchy()
    if options.classes is not None:
        account.uses(folder.name_of(options.classes))
        names = {**names, **read_class_names(options.classes, str(options.classes))}
    if options.hierarchy is not None:
        account.uses(folder.name_of(options.hierarchy))
        hierarchy = read_hierarchy(options.hierarchy, str(options.hierarchy))
    return dataclasses.replace(source, records=records, names=names, hierarchy=hierarchy)


def labels_by_image(table: LabelTable, images: Int32s, count: int) -> list[tuple[str, ...]]:
    """The classes of each image, without repetitions, in the order of the file.

    Args:
        table: Labels.
        images: The number of an image for each wanted id of the table; -1 for none.
        count: How many images there are.
    """
    of_labels = images[table.images] if len(images) else table.images
    is_here = of_labels >= 0
    return _grouped(of_labels[is_here], table.classes[is_here], table.keys, count)


def _grouped(
    images: Int32s, classes: Int32s, keys: Sequence[str], count: int
) -> list[tuple[str, ...]]:
    order = np.argsort(images, kind="stable")
    classes = classes[order]
    starts = np.searchsorted(images[order], np.arange(count + 1))
    known: dict[bytes, tuple[str, ...]] = {}  # most sets of classes occur often
    labels = []
    for first, last in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        codes = classes[first:last]
        key = codes.tobytes()
        if key not in known:
            known[key] = tuple(dict.fromkeys(keys[code] for code in codes.tolist()))
        labels.append(known[key])
    return labels


def _with_labels(
    records: Sequence[ImageRecord], path: Path, folder: SafeFolder, account: Account
) -> list[ImageRecord]:
    file = folder.name_of(path)
    omissions = account.omissions(file)
    kinds = _Kinds.of(records)
    table = read_labels(path, str(path), kinds.ids, omissions)
    account.uses(file, used=table.used, unused=table.unused)
    kind, images = kinds.best(table)
    labels = labels_by_image(table, images, len(records))
    strange = len(table.images) - int(np.count_nonzero(images[table.images] >= 0))
    strange += table.strangers.lines
    matched = sum(map(bool, labels))
    if table.strangers.lines and (kind in _PATHS or not matched):
        also = _by_similar_names(table, records, folder, account, omissions)
        strange -= sum(map(len, also.values()))
        for number, more in also.items():
            labels[number] = tuple(dict.fromkeys((*labels[number], *more)))
        kind = kind if matched else "path in another form"
        matched = sum(map(bool, labels))
    if not matched:
        ours = records[0].sample_id
        raise DatasetError(
            f"{path} labels none of the images: {_what_it_names(table)}, an image here is "
            f"{shorten(ours, 80)!r}{_first_omission(omissions.first)}"
        )
    example = table.strangers.example
    such_as = f", such as {shorten(example, 80)!r}" if strange and example else ""
    say(
        f"{path}: {amount(matched, 'image')} of {len(records):,} labelled, by {kind}; "
        f"{strange:,} of {amount(table.lines, 'label')} name no image of this split{such_as}"
    )
    return [
        record._replace(labels=of_image) for record, of_image in zip(records, labels, strict=True)
    ]


def _what_it_names(table: LabelTable) -> str:
    if not table.lines:
        return "it has no label"
    return f"it names {shorten(table.strangers.example, 80)!r}"


def _first_omission(first: str) -> str:
    return f"; lines were left out: {first}" if first else ""


class _Kinds(NamedTuple):
    """What ids may be, of all images.

    Attributes:
        ids: All names of all kinds, once each.
        images: By kind, the number of the image that has a name, for each of `ids`; -1: none has,
            or several have.
    """

    ids: pa.Array
    images: Mapping[str, Int32s]

    @classmethod
    def of(cls, records: Sequence[ImageRecord]) -> "_Kinds":
        """The names of these images."""
        numbers: dict[str, tuple[pa.Array, Int32s]] = {}
        for kind, name_of in _NAMES.items():
            names = _column(records, name_of).dictionary_encode()
            places = names.indices.to_numpy()
            is_once = np.bincount(places, minlength=len(names.dictionary)) == 1
            image_of = np.full(len(names.dictionary), -1, np.int32)
            image_of[places] = np.arange(len(records), dtype=np.int32)
            numbers[kind] = names.dictionary.filter(pa.array(is_once)), image_of[is_once]
        ids = pc.unique(pa.concat_arrays([names for names, _ in numbers.values()]))
        images = {}
        for kind, (names, image_of) in numbers.items():
            images[kind] = np.full(len(ids), -1, np.int32)
            images[kind][pc.index_in(names, ids).to_numpy()] = image_of
        return cls(ids, images)

    def best(self, table: LabelTable) -> tuple[str, Int32s]:
        """The kind by which the most images have labels, and its images."""
        seen = np.zeros(len(self.ids), bool)
        seen[table.images] = True
        return max(
            self.images.items(),
            key=lambda entry: int(np.count_nonzero(seen & (entry[1] >= 0))),
        )


def _column(records: Sequence[ImageRecord], name_of: Callable[[ImageRecord], str]) -> pa.Array:
    chunks = [
        pa.array([name_of(record) for record in records[start : start + _CHUNK]], pa.string())
        for start in range(0, len(records), _CHUNK)
    ]
    return pa.concat_arrays(chunks)


def _by_similar_names(
    table: LabelTable,
    records: Sequence[ImageRecord],
    folder: SafeFolder,
    account: Account,
    omissions: Omissions,
) -> Mapping[int, Sequence[str]]:
    """Labels of ids in another form, by the number of the image.

    An id that fits several images is entered as left out.
    """
    number_of = {record.image_path: number for number, record in enumerate(records)}
    # Those of other splits too, so that none of their labels comes to an image of this one.
    names = account.names({*number_of, *folder.images})
    encoded = table.strangers.ids.dictionary_encode()
    files: list[str | None] = []
    for name in encoded.dictionary.to_pylist():
        try:
            files.append(names.resolve(name))
        except DatasetError as error:
            omissions.add("ImageID", "it fits several images", str(error))
            files.append(None)
    labels: dict[int, list[str]] = {}
    codes = table.strangers.classes.tolist()
    for place, code in zip(encoded.indices.to_pylist(), codes, strict=True):
        file = files[place]
        number = None if file is None else number_of.get(file)
        if number is not None:
            labels.setdefault(number, []).append(table.keys[code])
    return labels


def _file_name(record: ImageRecord) -> str:
    return record.image_path.rpartition("/")[2]


_NAMES: dict[str, Callable[[ImageRecord], str]] = {
    "sample id": lambda record: record.sample_id,
    "path": lambda record: record.image_path,
    "file name": _file_name,
    "file name without suffix": lambda record: split_suffix(_file_name(record))[0],
}
_PATHS = ("path", "file name")
