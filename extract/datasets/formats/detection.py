"""Telling a dataset's format by the files in its folder (`--format auto`)."""

from sparc.common.errors import DatasetError
from sparc.common.text import shorten
from sparc.extract.datasets.base import Format
from sparc.extract.datasets.formats import coco, open_images, webdataset
from sparc.extract.datasets.formats.folder import metadata_files
from sparc.extract.datasets.safe_folder import SafeFolder


def detect_format(folder: SafeFolder) -> Format:
    """The format of a dataset folder.

    Raises:
        DatasetError: Its files speak for several formats, or for none.
    """
    evidence: dict[Format, str] = {}
    for split in coco.annotation_files(folder.files).values():
        evidence.setdefault("coco", next(iter(split.values())))
    for name in open_images.annotation_files(folder.files):
        evidence.setdefault("open-images", name)
    for name in webdataset.shard_files(folder.files):
        # A shard in a folder of images is more likely what they were unpacked from.
        if not folder.images:
            evidence.setdefault("webdataset", name)
    if len(evidence) > 1:
        reasons = ", ".join(f"{name} ({shorten(file, 80)})" for name, file in evidence.items())
        raise DatasetError(
            f"{folder} could be of several formats: {reasons}; choose one with --format"
        )
    if evidence:
        return next(iter(evidence))
    # Metadata alone are a plain folder too: its reader says that their images are missing.
    if folder.images or metadata_files(folder.files):
        return "folder"
    raise DatasetError(
        f"cannot tell the format of {folder}: it has no images and no metadata (folder), "
        "no captions_<split>.json or instances_<split>.json (coco), "
        "no narratives or human-imagelabels (open-images), no .tar shards (webdataset)"
    )
