"""Which reader a dataset folder gets: by the name of its format, or by its files (`auto`).

Several formats may recognise one folder. Then the one wins that knows more of it; what yields, and
to what, is `yields_to` or `by_names` of its reader, or said in its `evidence`. From the first to
the last:

1. `celeba`, `cub`, `open-images`, `webdataset`, `hugging-face`: by file names that nothing else
   has, or by images within the files. They yield to nobody; shards only to more images beside them.
2. `coco` by its own file names, over all that may lie beside COCO's images: `karpathy`, `lvis`,
   `voc`, `visual-genome`, `llava`. A file of another name that only looks like COCO's yields to
   captions in `.txt` and metadata files, since exports of objects often lie beside those.
3. `karpathy`, which has captions and splits, over `lvis` and `llava`, which are about its images.
4. `voc`, `visual-genome`, `lvis`, `llava`. Documents of `karpathy`, `voc` and `llava` yield to
   metadata files (`metadata.csv`, …), which somebody wrote for this very folder.
5. `frames`, by the names of images alone (`by_names`): every format above wins, and so do captions
   in `.txt` and metadata that do not name the videos.
6. `class-folders`, by the names of folders alone (`by_names`): every format above wins, and so do
   captions in `.txt`, metadata files and tables of captions.
7. `folder` (`fallback`) takes what has images or metadata and nothing else recognises.

`table` is never recognised: `--table` chooses it. Two formats of which neither yields are an error
that asks for `--format`.
"""

from collections.abc import Mapping

from sparc.common.errors import DatasetError
from sparc.common.text import shorten
from sparc.extract.datasets.formats.reader import DatasetReader, advice_on
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
        with_files = {name for name in evidence if not readers[name].by_names}
        evidence = {
            name: file
            for name, file in evidence.items()
            if not evidence.keys() & {*readers[name].yields_to}
            and not (with_files and readers[name].by_names)
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
        if of_file := advice_on(folder, file):
            advice.setdefault(of_file, file)
    if advice:
        return "; ".join(f"{shorten(file, 80)}: {what}" for what, file in [*advice.items()][:3])
    absences = (f"{reader.absence} ({name})" for name, reader in readers.items())
    return f"it has {', '.join(absences)}"
