"""Files of PyTorch, before PyTorch reads them.

`torch.save` stores what it writes, and `torch.load` unpacks whatever it is given: a file of 78 kB
may become tensors of 80 MB, or of all memory.
"""

import zipfile
from pathlib import Path
from typing import IO

from sparc.common.errors import UnsafeError

_SCRIPT = "constants.pkl"
"""The record by which PyTorch knows a TorchScript archive."""


def require_stored(file: Path | IO[bytes], where: object) -> None:
    """Refuse an archive with compressed records, so that memory is bounded by the file's length.

    What is no archive, as files of before PyTorch 1.6, is left to PyTorch; so is TorchScript, which
    `torch.load` refuses with `weights_only` before it unpacks anything.

    Args:
        file: A file, or an open one, which stays where it is.
        where: What it is called in the error message.

    Raises:
        UnsafeError: A record is compressed.
    """
    place = 0 if isinstance(file, Path) else file.tell()
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
        return  # PyTorch says what is wrong with it
    finally:
        if not isinstance(file, Path):
            file.seek(place)
    is_script = any(record.filename.partition("/")[2] == _SCRIPT for record in records)
    is_packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
    if is_packed and not is_script:
        raise UnsafeError(
            f"{where} holds compressed tensors, which torch.save does not write: load it where you "
            "trust it, and save it again"
        )
