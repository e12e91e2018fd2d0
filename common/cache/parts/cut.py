"""How many captions of a chunk were cut at the encoder's context, until it is gathered."""

from sparc.common.cache.info import CUT_PARTS
from sparc.common.cache.parts.names import part_file, parts_of
from sparc.common.documents import seal, unseal
from sparc.common.files.folder import Folder
from sparc.common.text import reason

_COUNT = "captions_cut"


def write_cut(folder: Folder, stream: str, chunk: int, count: int) -> None:
    """Record the number of a chunk."""
    folder.write(part_file(CUT_PARTS, stream, chunk), seal({_COUNT: count}))


def read_cut(folder: Folder, stream: str) -> dict[int, int]:
    """The numbers of a stream's chunks that have not been gathered; damaged ones are left out."""
    counts = {}
    for chunk, file in parts_of(folder, CUT_PARTS, stream).items():
        try:
            counts[chunk] = _count(folder, file)
        except ValueError:
            continue
    return counts


def cut_faults(folder: Folder) -> dict[str, str]:
    """What is damaged in the numbers that have not been gathered, by file."""
    faults = {}
    for file in folder.files(CUT_PARTS):
        try:
            _count(folder, file)
        except ValueError as error:
            faults[file] = reason(error)
    return faults


def _count(folder: Folder, file: str) -> int:
    """The number in a file.

    Raises:
        ValueError: It is not what was written.
    """
    count = unseal(folder.read(file)).get(_COUNT)
    if type(count) is not int or count < 0:
        raise ValueError(f"it says no {_COUNT}")
    return count
