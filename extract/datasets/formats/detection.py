"""Which reader a dataset folder gets: by the name of its format, or by its files (`auto`)."""

from collections.abc import Mapping

from sparc.common.errors import DatasetError
from sparc.common.text import shorten
from sparc.extract.datasets.advice import general_advice
from sparc.extract.datasets.formats.reader import DatasetReader
from sparc.extract.datasets.formats.registry import FORMATS
from sparc.extract.datasets.safe_folder import SafeFolder

_LOOKED_AT = 20
"""Files that are looked at for a word on what to do with a folder of no format."""


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
    raise DatasetError(f"cannot tell the format of {folder}: {_reason(folder, readers)}")


def _reason(folder: SafeFolder, readers: Mapping[str, type[DatasetReader]]) -> str:
    """What to do with the first files, if anything; else what the folder lacks."""
    advice: dict[str, str] = {}
    for file in folder.files[:_LOOKED_AT]:
        of_readers = (reader.advice(folder, file) for reader in readers.values())
        if of_file := next(filter(None, of_readers), "") or general_advice(file, folder.head):
            advice.setdefault(of_file, file)
    if advice:
        return "; ".join(f"{shorten(file, 80)}: {what}" for what, file in [*advice.items()][:3])
    absences = (f"{reader.absence} ({name})" for name, reader in readers.items())
    return f"it has {', '.join(absences)}"
