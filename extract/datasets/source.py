"""What a reader hands on: the pictures that it found, the classes and the masks.

This module must not know any dataset format, nor how rows are made of pictures.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sparc.extract.datasets.hierarchy import Hierarchy


class Picture(NamedTuple):
    """A picture, as a reader found it.

    Attributes:
        sample_id: What the dataset calls it; no two pictures share one.
        image: What `Dataset.read_picture` takes.
        captions: As they stand in the dataset.
        labels: Keys of its classes.
        group: Pictures of one group are held out together; empty: it is alone.
    """

    sample_id: str
    image: str
    captions: Sequence[str] = ()
    labels: Sequence[str] = ()
    group: str = ""


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
        dataset_format: The reader.
        split: The dataset's own split; empty where it is not divided.
        pictures: In the order in which they are encoded.
        names: What to call the classes, by key.
        hierarchy: Where the classes stand.
        masks: Gives the objects of pictures, by `sample_id`; None where the dataset has none.
    """

    dataset_format: str
    split: str
    pictures: Sequence[Picture]
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    hierarchy: Hierarchy = dataclasses.field(default_factory=Hierarchy)
    masks: Callable[[frozenset[str]], Iterable[ObjectMask]] | None = None
