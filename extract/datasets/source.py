"""What a reader reads of a dataset: its images, classes and masks.

This module must not know any dataset format, nor how rows are made of images.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparc.extract.datasets.hierarchy import Hierarchy
from sparc.extract.datasets.safe_folder import split_suffix


class ImageRecord(NamedTuple):
    """An image with its captions and classes, as the dataset has them.

    Attributes:
        sample_id: What the dataset calls it; unique.
        image_path: What `Dataset.read_image` takes: the column `image` of its rows.
        captions: Unchanged.
        labels: Keys of its classes.
        group: Images of one group are held out together. Empty: the value of the column that
            `--holdout-by` names, or, without one, the image is its own group.
        columns: Values of further columns of `rows.parquet`, by name, for all rows of the image.
        caption_columns: The same for each caption, which override `columns`: one per caption, or
            none at all.
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
    """All that a reader reads of a dataset.

    Attributes:
        records: In the order in which they are encoded.
        named: Paths of the images that metadata name, which may be missing; None: all of `records`.
        named_in: What names them, for messages.
        names: Names of the classes, by key.
        hierarchy: Places of the classes.
        masks: Gives the objects of images, by `sample_id`; None where the dataset has none.
    """

    records: Sequence[ImageRecord]
    named: Collection[str] | None = None
    named_in: str = "the metadata"
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    hierarchy: Hierarchy = dataclasses.field(default_factory=Hierarchy)
    masks: Callable[[frozenset[str]], Iterable[ObjectMask]] | None = None


def image_ids(image_paths: Sequence[str]) -> Sequence[str]:
    """Ids of images: their paths without suffix; with it, where two would be the same."""
    stems = [split_suffix(path)[0] for path in image_paths]
    often = Counter(stems)
    ids = [
        stem if often[stem] == 1 else path for stem, path in zip(stems, image_paths, strict=True)
    ]
    return ids if len(set(ids)) == len(ids) else image_paths
