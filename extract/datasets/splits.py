"""What the splits of a dataset are called, and which of them the user means."""

from collections import Counter
from collections.abc import Collection, Sequence

from sparc.common.errors import DatasetError
from sparc.extract.datasets.base import DatasetOptions

SYNONYMS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
"""The usual names of splits, and what they mean."""

_DIGITS = "0123456789"


def choose_split(options: DatasetOptions, splits: Collection[str], location: str) -> str:
    """The dataset's own split that the options ask for.

    A name may be given exactly, by a usual synonym, or by its beginning (`val` for `val2017`); the
    folders before it may be left out (`train` for `images/train`).

    Args:
        options: With holdout, `split` names the part that is drawn, not a split of the dataset.
        splits: The splits that the dataset has; none if it is not divided.
        location: The dataset, for messages.

    Raises:
        DatasetError: It has no such split, several fit, or holdout would divide a divided dataset.
    """
    asked = "" if options.holdout else options.split
    known = ", ".join(sorted(splits))
    if not splits:
        if asked:
            raise DatasetError(
                f"{location} has no splits: leave --split out, or divide it with --holdout"
            )
        return ""
    if not asked:
        if len(splits) == 1:
            return next(iter(splits))
        if options.holdout:
            raise DatasetError(f"{location} has its own splits ({known}): leave --holdout out")
        raise DatasetError(f"{location} has several splits: choose one with --split: {known}")
    fits = (
        [split for split in splits if split == asked],
        [split for split in splits if _meaning(split) == _meaning(asked)],
        [split for split in splits if split.lower().startswith(asked.lower())],
        [split for split in splits if _meaning(split.rpartition("/")[2]) == _meaning(asked)],
    )
    matches: list[str] = next((fit for fit in fits if fit), [])
    if len(matches) != 1:
        problem = "several splits that fit" if matches else "no split"
        raise DatasetError(f"{location} has {problem} {asked!r}; its splits: {known}")
    return matches[0]


def is_usual(name: str) -> bool:
    """Whether a name is the usual one of a split, with or without a number (`val`, `train2017`)."""
    return name.lower().rstrip(_DIGITS) in SYNONYMS


def split_folders(image_paths: Sequence[str]) -> list[str]:
    """The subfolders that are splits: all with images, if all of them are named like splits.

    A few images beside them, fewer than in them, are passed over. Where one folder holds all
    images, they may lie in that (`images/train`).
    """
    below = ""
    while True:
        own = (name[len(below) :] for name in image_paths)
        tops = Counter(name.split("/", 1)[0] if "/" in name else "" for name in own)
        beside = tops.pop("", 0)
        if all(top.lower() in SYNONYMS for top in tops) and beside < tops.total():
            return sorted(f"{below}{top}" for top in tops)
        if beside or len(tops) != 1:
            return []
        below = f"{below}{next(iter(tops))}/"


def _meaning(split: str) -> str:
    plain = split.lower().rstrip(_DIGITS)
    return SYNONYMS.get(plain, split.lower())
