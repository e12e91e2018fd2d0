"""Datasets: a reader turns a folder into a `Manifest` and gives out its images.

`sparc.extract.datasets.formats.registry` lists the formats and says how to add one. This package
must not know what is done with the images. Readers are imported when a dataset is opened, so that
naming the options costs nothing.
"""

import dataclasses
import os

from sparc.extract.datasets.base import Dataset, DatasetOptions

__all__ = ["Dataset", "DatasetOptions", "open_dataset"]


def open_dataset(location: str | os.PathLike[str], options: DatasetOptions) -> Dataset:
    """Open a dataset folder with the reader of its format.

    Args:
        location: A folder on this machine or behind a URL, or tar shards; see
            `sparc.extract.datasets.folders.locations`.
        options: Which format, split, captions and labels.

    Returns:
        The dataset. Its rows are not listed before `manifest()` is called.

    Raises:
        DatasetError: There is no such folder, or `auto` cannot tell its format.
    """
    from sparc.extract.datasets.folders.locations import parse_location
    from sparc.extract.datasets.folders.opening import open_folder
    from sparc.extract.datasets.formats.detection import detect_format, reader_of
    from sparc.extract.datasets.formats.registry import AUTO, TABLE, WEBDATASET

    place = parse_location(location)
    folder = open_folder(place)
    name = options.format
    if name == AUTO and place.chosen is not None:
        name = WEBDATASET
    elif name == AUTO:
        name = TABLE if options.table is not None else detect_format(folder)
    return reader_of(name)(folder, dataclasses.replace(options, format=name))
