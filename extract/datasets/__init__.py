"""Readers of datasets: each turns a folder into a `Manifest` and gives out its images.

| format      | what lies in the folder                                       | module        |
|-------------|---------------------------------------------------------------|---------------|
| folder      | images, with captions in `.txt` or `metadata.csv|jsonl|parquet` | `folder`  |
| coco        | `annotations/captions_<split>.json`, `instances_<split>.json` | `coco`        |
| open-images | images of Open Images with Localized Narratives                | `open_images` |
| webdataset  | `.tar` shards as img2dataset writes them                      | `webdataset`  |

This package must not know what is done with the images. The readers are imported when a dataset
is opened, so that naming the options costs nothing.
"""

import os

from sparc.extract.datasets.base import Dataset, DatasetOptions

__all__ = ["Dataset", "DatasetOptions", "open_dataset"]


def open_dataset(location: str | os.PathLike[str], options: DatasetOptions) -> Dataset:
    """Open a dataset folder with the reader of its format.

    Args:
        location: A folder on this machine.
        options: Which reader, split, captions and labels.

    Returns:
        The dataset. Its rows are not listed before `manifest()` is called.

    Raises:
        DatasetError: There is no such folder, or `auto` cannot tell its format.
    """
    from sparc.extract.datasets.formats.coco import CocoDataset
    from sparc.extract.datasets.formats.detection import detect_format
    from sparc.extract.datasets.formats.folder import FolderDataset
    from sparc.extract.datasets.formats.open_images import OpenImagesDataset
    from sparc.extract.datasets.formats.webdataset import WebDataset
    from sparc.extract.datasets.safe_folder import SafeFolder

    folder = SafeFolder(location)
    match detect_format(folder) if options.format == "auto" else options.format:
        case "coco":
            return CocoDataset(folder, options)
        case "open-images":
            return OpenImagesDataset(folder, options)
        case "webdataset":
            return WebDataset(folder, options)
        case _:
            return FolderDataset(folder, options)
