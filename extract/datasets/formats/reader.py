"""What a dataset format has to define; everything else is the same for all formats."""

from abc import ABC, abstractmethod
from typing import ClassVar

from sparc.common.cache.manifest import Manifest
from sparc.extract.datasets.base import DatasetOptions
from sparc.extract.datasets.columns import RecordColumns
from sparc.extract.datasets.manifest import build_manifest
from sparc.extract.datasets.safe_folder import SafeFolder
from sparc.extract.datasets.source import Source


class DatasetReader(ABC):
    """A dataset folder that is read in one format.

    Args:
        folder: The dataset. Every file is opened through it, since names are not trusted.
        options: Their `format` is the reader's own name, never `auto`.
    """

    absence: ClassVar[str]
    """What a folder lacks that `auto` does not recognise, for its message: "no .tar shards"."""
    fallback: ClassVar[bool] = False
    """Whether `auto` considers this format only where it recognises no other."""

    def __init__(self, folder: SafeFolder, options: DatasetOptions) -> None:
        self.folder = folder
        self.options = options
        self.columns = RecordColumns(options.columns)
        """Chooses the fields of metadata that `rows.parquet` keeps; see `ImageRecord.columns`."""

    @classmethod
    @abstractmethod
    def evidence(cls, folder: SafeFolder) -> str | None:
        """A file by which `auto` recognises the format; None where there is none."""

    @abstractmethod
    def read(self) -> Source:
        """The images in the order of their rows, with their captions and classes.

        Raises:
            DatasetError: The folder is not in this format, or does not have the split.
        """

    def read_image(self, image_path: str) -> bytes:
        """The encoded bytes of an image; see `Dataset.read_image`."""
        return self.folder.read(image_path)

    def manifest(self) -> Manifest:
        """The rows, classes and masks; see `Dataset.manifest`."""
        source = self.read()
        self.columns.require_known(str(self.folder))
        return build_manifest(str(self.folder), source, self.options)
