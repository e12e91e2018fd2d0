"""What every dataset reader offers, and the options that all of them share."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from sparc.common.config import require_choice
from sparc.common.errors import ConfigError
from sparc.common.files.paths import from_home, is_url
from sparc.extract.datasets.formats.registry import AUTO, CHOICES, CLASS_FOLDERS, TABLE

if TYPE_CHECKING:  # it brings Zarr along, and the options are needed for `--help`
    from sparc.common.cache.manifest import Manifest

Captions = Literal["each", "join", "first"]

TAB = "\\t"
"""How a tab is typed."""

ALL_COLUMNS = "all"
"""Stands for every column of a dataset's metadata."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """How to turn a dataset folder into rows.

    Attributes:
        format: A name in `FORMATS`; `auto` looks at the folder.
        split: The dataset's split; empty means the only one.
        limit: Keep the first N images; 0 keeps all.
        captions: Whether an image has a row for each caption, one for all joined, or one for the
            first.
        holdout: Fraction of the images held out, where the dataset has no splits; `split` then is
            `test` (those held out) or `train` (the rest).
        holdout_by: Column of the metadata whose equal values are held out together; if empty,
            each image by itself.
        labels: CSV of ImageID,LabelName,Confidence that replaces the dataset's own labels.
        classes: CSV of LabelName,DisplayName.
        hierarchy: Nested JSON of LabelName and Subcategory.
        masks: Read object masks too, where the dataset has them.
        columns: Columns of the metadata that `rows.parquet` keeps; `all` keeps every one.
        strict: Refuse a dataset with a record that cannot be used, instead of leaving it out.
        table: A file of names and captions, in the dataset or elsewhere, that gives the rows.
        image_column: Its column, or the metadata's, with names of images; empty: by usual names.
        caption_column: The column with captions; empty: by usual names.
        label_column: The column with classes; empty: by usual names.
        split_column: The column with the split; empty: by usual names.
        separator: Between the cells of a table of text; empty: its first line decides.
        label_separator: Between the classes of a cell of such a table.
        dataset_index: A folder or URL where what is known of tar shards behind URLs is kept, so
            that they are read through only once; empty: nowhere.
    """

    format: str = AUTO
    split: str = ""
    limit: int = 0
    captions: Captions = "each"
    holdout: float = 0.0
    holdout_by: str = ""
    labels: Path | None = None
    classes: Path | None = None
    hierarchy: Path | None = None
    masks: bool = False
    columns: tuple[str, ...] = ()
    strict: bool = False
    table: Path | None = None
    image_column: str = ""
    caption_column: str = ""
    label_column: str = ""
    split_column: str = ""
    separator: str = ""
    label_separator: str = ";"
    dataset_index: str = ""

    def __post_init__(self) -> None:
        require_choice(self.format, CHOICES, "format")
        if self.limit < 0:
            raise ConfigError("limit must not be negative")
        if not 0 <= self.holdout < 1:
            raise ConfigError("holdout must be a fraction from 0 to below 1")
        if self.holdout and self.split not in ("train", "test"):
            raise ConfigError("holdout needs split train or test, to say which part is wanted")
        if self.holdout_by and not self.holdout:
            raise ConfigError("holdout_by needs holdout")
        describes = self.classes or self.hierarchy
        if describes and not self.labels and self.format not in (AUTO, CLASS_FOLDERS):
            raise ConfigError(
                f"classes and hierarchy describe labels: give labels too, or format {CLASS_FOLDERS}"
            )
        if self.table is not None and self.format not in (AUTO, TABLE):
            raise ConfigError(f"table needs format {TABLE}, not {self.format}")
        if len(self.separator) > 1 and self.separator != TAB:
            raise ConfigError(f"separator must be one character, or {TAB} for a tab")
        if ALL_COLUMNS in self.columns and len(self.columns) > 1:
            raise ConfigError("give --column all or the names of columns, not both")

    def absolute(self) -> "DatasetOptions":
        """The same, with files that do not depend on this process's working directory."""
        files = ("labels", "classes", "hierarchy", "table")
        given = {name: path for name in files if (path := getattr(self, name)) is not None}
        changes: dict[str, Any] = {
            name: Path(os.path.abspath(from_home(path))) for name, path in given.items()
        }
        if self.dataset_index and not is_url(self.dataset_index):
            changes["dataset_index"] = os.path.abspath(from_home(self.dataset_index))
        return dataclasses.replace(self, **changes)


def index_beside(cache: str) -> str:
    """Where what is known of the tar shards of a cache's dataset is kept by default."""
    return f"{cache.rstrip('/')}.index"


class Dataset(Protocol):
    """A dataset whose rows are known and whose images can be read.

    It can be pickled: a copy in another process opens the dataset there, and reads it itself.
    """

    def manifest(self) -> "Manifest":
        """The rows, classes and masks, in the order in which they are encoded."""
        ...

    def read_image(self, image_path: str) -> bytes:
        """The encoded bytes of an image, by the column `image` of its rows. Thread-safe.

        Raises:
            DatasetError: It does not exist, or its path leaves the dataset's folder.
        """
        ...


@runtime_checkable
class ReadsAhead(Protocol):
    """A dataset that fetches images before they are wanted, if it is said which."""

    def expect(self, image_paths: Sequence[str]) -> None:
        """Begin to fetch images that are read soon.

        What goes wrong is said when they are read.

        Args:
            image_paths: As for `Dataset.read_image`, in about the order in which they are read.
        """
        ...

    def forget(self) -> None:
        """Fetch nothing more of what was expected; images are read as before."""
        ...
