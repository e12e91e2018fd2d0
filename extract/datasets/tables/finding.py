"""Finds the images that tables name, and the tables that name images."""

import posixpath
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from sparc.common.errors import DatasetError
from sparc.extract.datasets.account import Account, Omissions
from sparc.extract.datasets.base import DatasetOptions
from sparc.extract.datasets.labels.table import is_labels
from sparc.extract.datasets.names import Names, without_comment_number
from sparc.extract.datasets.safe_folder import SafeFolder, folder_of, split_suffix
from sparc.extract.datasets.tables.opening import SUFFIXES, open_table
from sparc.extract.datasets.tables.records import Roles, choose_roles
from sparc.extract.datasets.tables.table import Table

METADATA = ("metadata.csv", "metadata.tsv", "metadata.jsonl", "metadata.json", "metadata.parquet")
"""What the imagefolder convention calls a table; it is read without further evidence."""

_MOST_CANDIDATES = 50
"""Files that are looked into for a table of captions; where there are more, none is."""

_HEAD = 1 << 16
"""Bytes in which the header of a file for `--labels` must end, which counts its confidences."""

_LARGEST_DOCUMENT = 1 << 26
"""Bytes of a JSON file that is looked into, since it must be read as a whole."""


class ImageFinder:
    """Finds the file that a name in a table stands for.

    Args:
        folder: The dataset.
        account: Where names that do not equal the file's are counted; None: nowhere.
    """

    def __init__(self, folder: SafeFolder, account: Account | None = None) -> None:
        self._files = folder.file_set
        images = folder.images
        self._names = Names(images, folder) if account is None else account.names(images)

    def find(self, name: str, below: Sequence[str]) -> str | None:
        """The file: any of exactly that name, else the one image that fits.

        Args:
            name: As the table writes it; the number of a comment after it (`a.jpg#0`) is none of
                the name.
            below: Folders, ending in `/`, that it may be relative to.

        Raises:
            DatasetError: Several images fit equally well.
        """
        for place in below:
            path = posixpath.normpath(place + name)
            if path in self._files:
                return path
        if (bare := without_comment_number(name)) != name:
            return self.find(bare, below)
        return self._names.resolve(name, below)

    def finds(self, name: str, below: Sequence[str]) -> bool:
        """Whether a name stands for a file, even if it is not clear for which."""
        try:
            return self.find(name, below) is not None
        except DatasetError:
            return True


def metadata_files(folder: SafeFolder) -> list[str]:
    """The files of the imagefolder convention, in any folder."""
    return [name for name in folder.loose if name.rpartition("/")[2].lower() in METADATA]


def places_of(table: str) -> tuple[str, ...]:
    """The folders that names in a table may be relative to: its own, then the dataset."""
    own, beside = folder_of(table), f"{split_suffix(table)[0]}/"
    return (own, beside, "") if own else ("", beside)


def caption_tables(folder: SafeFolder, options: DatasetOptions) -> list[str]:
    """The tables of other names that hold captions or classes of the folder's images.

    At least half of the names that each begins with stand for images. Files beside an image of
    the same name are none.
    """
    candidates = [file for file in folder.loose if _may_be_table(folder, file)]
    if not candidates or len(candidates) > _MOST_CANDIDATES:
        return []
    return [file for file in candidates if names_images(folder, file, options)]


def _may_be_table(folder: SafeFolder, file: str) -> bool:
    """Whether a file has the suffix of a table, and is not beside an image of the same name."""
    stem, suffix = split_suffix(file)
    return suffix in SUFFIXES and not {stem, file} & folder.image_stems


@lru_cache(maxsize=1)
def _finder_of(folder: SafeFolder) -> ImageFinder:
    return ImageFinder(folder)


def names_images(folder: SafeFolder, file: str, options: DatasetOptions) -> bool:
    """Whether a file is a table of captions or classes of images that lie in the folder."""
    opened = peek(folder, file, options)
    if opened is None:
        return False
    _, roles = opened
    return bool(roles.captions or roles.labels) and finds_most(folder, file, opened)


def finds_most(folder: SafeFolder, file: str, opened: tuple[Table, Roles]) -> bool:
    """Whether at least half of the first names in a table stand for images in the folder."""
    table, roles = opened
    finder, names, below = _finder_of(folder), first_names(table, roles), places_of(file)
    return bool(names) and 2 * sum(finder.finds(name, below) for name in names) >= len(names)


def peek(folder: SafeFolder, file: str, options: DatasetOptions) -> tuple[Table, Roles] | None:
    """A table and its roles, without any trace in the account; None where a file is none."""
    if not _may_be_table(folder, file) or is_labels(folder.head(file, _HEAD)):
        return None
    try:
        path = folder.locate(file)
        if split_suffix(file)[1] == ".json" and path.stat().st_size > _LARGEST_DOCUMENT:
            return None
        table = open_table(path, file, Omissions(file), options.separator)
        roles = choose_roles(table, options, name_test(folder, places_of(file)))
    except (DatasetError, OSError):
        return None
    return None if roles is None else (table, roles)


def name_test(folder: SafeFolder, below: Sequence[str]) -> Callable[[str], bool]:
    """Tells whether a name stands for a file, by `ImageFinder.finds`, and counts nothing."""
    finder = _finder_of(folder)
    return lambda name: finder.finds(name, below)


def first_names(table: Table, roles: Roles, most: int = 50) -> list[str]:
    """The first names of images in a table."""
    return list(_first_names(table, roles, most))


def _first_names(table: Table, roles: Roles, most: int) -> Iterator[str]:
    rows = table.silent().rows([roles.image])
    try:
        for _, row in zip(range(most), rows, strict=False):
            yield str(row.values[0]).strip()
    except DatasetError:
        return
