"""What a reader hands on: the images that it found, the classes and the masks.

This module must not know any dataset format, nor how rows are made of images.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparc.extract.datasets.hierarchy import Hierarchy


class ImageRecord(NamedTuple):
    """An image with its captions and classes, as a reader found it.

    Attributes:
        sample_id: What the dataset calls it; no two images share one.
        image_path: What `Dataset.read_image` takes: the column `image` of its rows.
        captions: As they stand in the dataset.
        labels: Keys of its classes.
        group: Images of one group are held out together; empty: it is alone.
        columns: Values of columns that `rows.parquet` keeps, by name: of all its rows.
        caption_columns: The same of each caption, in the place of what `columns` says; none, or
            one per caption.
    """

    sample_id: str
    image_path: str
    captions: Sequence[str] = ()
    labels: Sequence[str] = ()
    group: str = ""
    columns: Mapping[str, Any] = {}
    caption_columns: Sequence[Mapping[str, Any]] = ()


class ObjectMask(NamedTuple):
    """Where an object is; `tables.MASKS` explains the fields."""

    sample_id: str
    label: str
    height: int
    width: int
    counts: npt.NDArray[np.int32]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """All that a reader found in a dataset.

    Attributes:
        records: In the order in which they are encoded.
        split: The dataset's own split; empty where it is not divided.
        names: What to call the classes, by key.
        hierarchy: Where the classes stand.
        masks: Gives the objects of images, by `sample_id`; None where the dataset has none.
    """

    records: Sequence[ImageRecord]
    split: str = ""
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    hierarchy: Hierarchy = dataclasses.field(default_factory=Hierarchy)
    masks: Callable[[frozenset[str]], Iterable[ObjectMask]] | None = None
