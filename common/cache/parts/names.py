"""The names of the files that say something of single chunks: `<kind>/<stream>-<chunk>.<ending>`.

Each is written whole by whoever writes the chunk, before the chunk: so several processes may write
chunks of one cache without sharing a file.
"""

from collections.abc import Collection

from sparc.common.cache.info import CUT_PARTS, REJECT_PARTS
from sparc.common.files.folder import Folder

_ENDINGS = {REJECT_PARTS: ".parquet", CUT_PARTS: ".json"}


def part_file(kind: str, stream: str, chunk: int) -> str:
    """The file of a chunk of a stream.

    Args:
        kind: The folder of the files, `REJECT_PARTS` or `CUT_PARTS`.
        stream: Which stream.
        chunk: Which chunk.
    """
    return f"{kind}/{stream}-{chunk:08d}{_ENDINGS[kind]}"


def parts_of(folder: Folder, kind: str, stream: str) -> dict[int, str]:
    """The files of one kind that a stream has, by chunk, in order; one listing."""
    files = {}
    for file in folder.files(kind):
        begun = file.startswith(f"{kind}/{stream}-")
        number = file.removeprefix(f"{kind}/{stream}-").removesuffix(_ENDINGS[kind])
        if begun and number.isdecimal() and part_file(kind, stream, int(number)) == file:
            files[int(number)] = file
    return files


def remove_parts(folder: Folder, kind: str, stream: str, chunks: Collection[int]) -> None:
    """Remove the files of some chunks of a stream, where there are any."""
    wanted = frozenset(chunks)
    files = [file for chunk, file in parts_of(folder, kind, stream).items() if chunk in wanted]
    folder.remove_files(files)
