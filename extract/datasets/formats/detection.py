"""Which reader a dataset folder gets: by the name of its format, or by its files (`auto`)."""

from sparc.common.errors import DatasetError
from sparc.common.text import shorten
from sparc.extract.datasets.formats.reader import DatasetReader
from sparc.extract.datasets.formats.registry import FORMATS
from sparc.extract.datasets.safe_folder import SafeFolder


def reader_of(name: str) -> type[DatasetReader]:
    """The reader of a format in `FORMATS`."""
    reader: type[DatasetReader] = FORMATS[name].load()
    return reader


def detect_format(folder: SafeFolder) -> str:
    """The format of a dataset folder, a name in `FORMATS`.

    Raises:
        DatasetError: Its files indicate several formats, or none.
    """
    readers = {name: reader_of(name) for name in FORMATS}
    for fallback in (False, True):
        evidence = {
            name: file
            for name, reader in readers.items()
            if reader.fallback == fallback and (file := reader.evidence(folder)) is not None
        }
        evidence = {
            name: file
            for name, file in evidence.items()
            if not evidence.keys() & {*readers[name].yields_to}
        }
        if len(evidence) > 1:
            reasons = ", ".join(f"{name} ({shorten(file, 80)})" for name, file in evidence.items())
            raise DatasetError(
                f"{folder} could be of several formats: {reasons}; choose one with --format"
            )
        if evidence:
            return next(iter(evidence))
    absences = ", ".join(f"{reader.absence} ({name})" for name, reader in readers.items())
    raise DatasetError(f"cannot tell the format of {folder}: it has {absences}")
