"""Labels and class names from files in the form of Open Images, for the images of any format.

Labels are matched by id, never by position. An id may be an image's `sample_id`, its path, its file
name or its file name without suffix; a whole file uses one of these: the one by which the most
images have labels, in a tie the earlier. Names that several images share are not used.
"""

import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from pathlib import Path
from typing import NamedTuple

from sparc.common.errors import DatasetError
from sparc.common.progress import say
from sparc.common.text import amount, shorten
from sparc.extract.datasets.account import Account
from sparc.extract.datasets.metadata import read_csv_lines, read_json, read_text
from sparc.extract.datasets.safe_folder import LARGEST_TEXT, SafeFolder, split_suffix
from sparc.extract.datasets.source import ImageRecord


class Label(NamedTuple):
    """A class that an image has."""

    image_id: str
    key: str


def read_labels(path: Path, name: str) -> Iterator[Label]:
    """The confirmed labels of a CSV of ImageID,LabelName,Confidence.

    Columns may be in another case, and cells may have spaces around them. Other columns are
    ignored, and so are lines whose Confidence is not 1 (Open Images writes 0 where a person said
    that the class is absent). Without that column every line counts.

    Raises:
        DatasetError: It cannot be read, or a line is malformed.
    """
    lines = read_csv_lines(path, name)
    _, header = next(lines, (0, []))
    header = [column.strip() for column in header]
    columns = {column.lower(): place for place, column in reversed(list(enumerate(header)))}
    if "imageid" not in columns or "labelname" not in columns:
        raise DatasetError(
            f"{name} needs the columns ImageID and LabelName (and Confidence), "
            f"not {shorten(', '.join(header), 120) or 'none'}"
        )
    image_column, key_column = columns["imageid"], columns["labelname"]
    confidence_column = columns.get("confidence")
    for number, line in lines:
        cells = [cell.strip() for cell in line]
        try:
            confidence = "1" if confidence_column is None else cells[confidence_column]
            confirmed = confidence == "1" or float(confidence) == 1
            image_id, key = cells[image_column], cells[key_column]
        except (IndexError, ValueError) as error:
            raise DatasetError(
                f"{name}, line {number}: a label needs ImageID, LabelName and a number for "
                f"Confidence, not {shorten(','.join(cells), 80)}"
            ) from error
        if confirmed and key:
            yield Label(image_id.removeprefix("./"), sys.intern(key))


def read_class_names(path: Path, name: str) -> dict[str, str]:
    """Names of classes, by key: a CSV of LabelName,DisplayName, with or without that header.

    Raises:
        DatasetError: It cannot be read, or a line has fewer than two columns.
    """
    names: dict[str, str] = {}
    for number, cells in read_csv_lines(path, name):
        if len(cells) < 2 or not cells[0]:
            raise DatasetError(f"{name}, line {number} needs two columns: LabelName,DisplayName")
        key, display = cells[0].strip(), cells[1].strip()
        is_header = not names and key.lower() in ("labelname", "id")
        if not is_header:
            names[key] = display
    return names


NUMBERED_CLASSES = frozenset(
    {"classnames.txt", "class_names.txt", "classes.txt", "labels.txt", "categories.txt"}
    | {"classnames.json", "class_names.json", "classes.json", "labels.json", "categories.json"}
)
"""Files with the names of the classes 0, 1, …: a line each, or a list or an object in JSON."""


def names_of_numbers(folder: SafeFolder, account: Account, keys: Set[str]) -> dict[str, str]:
    """Names of the classes that a dataset numbers, by key, if one of its files has them.

    Args:
        folder: The dataset.
        account: Where the file is entered.
        keys: The classes that images have. If one of them is no number that the file names, the
            file is about something else and is not used.
    """
    if not keys or not all(key.isascii() and key.isdecimal() for key in keys):
        return {}
    for file in folder.files:
        if file.rpartition("/")[2].lower() not in NUMBERED_CLASSES:
            continue
        path = folder.path(file)
        try:
            is_small = path.stat().st_size <= LARGEST_TEXT
            names = read_numbered_classes(path, f"{folder}/{file}") if is_small else {}
        except DatasetError:  # a file of that name about something else
            names = {}
        if keys <= names.keys():
            account.uses(file)
            return {key: names[key] for key in keys}
        folder.opened.discard(file)
    return {}


def read_numbered_classes(path: Path, name: str) -> dict[str, str]:
    """Names of classes by number, as a text; see `NUMBERED_CLASSES`.

    Raises:
        DatasetError: It cannot be read or is not JSON.
    """
    if path.suffix.lower() != ".json":
        lines = read_text(path, name).splitlines()
        return {str(number): line.strip() or str(number) for number, line in enumerate(lines)}
    document = read_json(path, name)
    if isinstance(document, list):
        document = dict(enumerate(document))
    if not isinstance(document, dict):
        return {}
    if all(type(value) is int for value in document.values()):  # numbers by name
        document = {number: of_name for of_name, number in document.items()}
    return {str(number): text for number, text in document.items() if isinstance(text, str)}


def with_labels_of(records: Collection[ImageRecord], path: Path) -> list[ImageRecord]:
    """The images with the labels of a file instead of their own.

    Args:
        records: All images of the dataset, before any is held out.
        path: A CSV as `read_labels` takes it.

    Raises:
        DatasetError: It cannot be read, or names none of the images.
    """
    by_kind = {kind: _unambiguous(records, of) for kind, of in _NAMES.items()}
    named = {name for names in by_kind.values() for name in names}
    keys: dict[str, list[str]] = defaultdict(list)
    unknown: set[str] = set()
    for image_id, key in read_labels(path, str(path)):
        if image_id in named:
            keys[image_id].append(key)
        else:
            unknown.add(image_id)
    kind = max(by_kind, key=lambda kind: sum(name in keys for name in by_kind[kind]))
    matched = sum(name in keys for name in by_kind[kind])
    if not matched:
        example = next(iter(sorted(unknown)), None)
        advice = f"it names {shorten(example, 80)!r}" if example is not None else "it has no label"
        ours = next(iter(records)).sample_id
        raise DatasetError(
            f"{path} labels none of the images: {advice}, an image here is {shorten(ours, 80)!r}"
        )
    ids = len(keys) + len(unknown)
    say(
        f"{path}: {amount(matched, 'image')} of {len(records):,} labelled, by {kind}; "
        f"{ids - matched:,} of {amount(ids, 'labelled id')} name no image of this split"
    )
    name_of = _NAMES[kind]
    known = by_kind[kind]
    return [record._replace(labels=_labels_of(name_of(record), known, keys)) for record in records]


def _labels_of(name: str, known: Collection[str], keys: Mapping[str, list[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(keys.get(name, ()))) if name in known else ()


def _file_name(record: ImageRecord) -> str:
    return record.image_path.rpartition("/")[2]


_NAMES: dict[str, Callable[[ImageRecord], str]] = {
    "sample id": lambda record: record.sample_id,
    "path": lambda record: record.image_path,
    "file name": _file_name,
    "file name without suffix": lambda record: split_suffix(_file_name(record))[0],
}


def _unambiguous(
    records: Collection[ImageRecord], name_of: Callable[[ImageRecord], str]
) -> set[str]:
    once: set[str] = set()
    again: set[str] = set()
    for record in records:
        name = name_of(record)
        (again if name in once else once).add(name)
    return once - again
