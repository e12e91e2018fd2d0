"""Names of classes: in CSVs by key, as Open Images has them, and in lists by number."""

from collections.abc import Iterator, Set
from pathlib import Path

from sparc.common.errors import DatasetError
from sparc.extract.datasets.account import Account
from sparc.extract.datasets.metadata import read_csv_lines, read_json, read_text
from sparc.extract.datasets.safe_folder import LARGEST_TEXT, SafeFolder

NUMBERED_CLASSES = frozenset(
    {"classnames.txt", "class_names.txt", "classes.txt", "labels.txt", "categories.txt"}
    | {"classnames.json", "class_names.json", "classes.json", "labels.json", "categories.json"}
    | {"label_names.txt", "label_names.json", "id2label.json", "class_to_idx.json", "names.txt"}
)
"""Files with the names of the classes 0, 1, …: a line each, or a list or an object in JSON."""


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
    for file, path in class_lists(folder, NUMBERED_CLASSES):
        try:
            names = read_numbered_classes(path, f"{folder}/{file}")
        except DatasetError:  # a file of that name about something else
            continue
        if keys <= names.keys():
            account.uses(file)
            return {key: names[key] for key in keys}
    return {}


def class_lists(folder: SafeFolder, names: Set[str]) -> Iterator[tuple[str, Path]]:
    """The files that may say something of classes, by their names, with where they are.

    Files too long for that are passed over. None counts as used by that.

    Args:
        folder: The dataset.
        names: In lower case, without folders.
    """
    for file in folder.files:
        if file.rpartition("/")[2].lower() in names:
            path = folder.locate(file)
            if path.stat().st_size <= LARGEST_TEXT:
                yield file, path


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
