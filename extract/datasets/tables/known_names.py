"""What columns of images, captions, labels and splits are usually called."""

import re
from collections.abc import Iterable, Iterator, Sequence

IMAGES = (
    *("filename", "filepath", "imagepath", "imgpath", "imagefile", "imagefilename", "imagename"),
    *("imgname", "image", "img", "path", "file", "filenames", "picture", "photo", "imagepaths"),
    *("imageid", "imgid", "key", "id", "url", "imageurl"),
)
"""Columns with names of images, as `plain` writes them; the earlier is tried first."""

CAPTIONS = (
    *("text", "caption", "captions", "texts", "title", "prompt", "description", "sentence"),
    *("sentences", "comment", "alttext", "alt", "imagecaption", "rawcaption", "captiontext"),
)
"""Columns with captions; the earlier wins."""

LABELS = (
    *("labels", "label", "class", "classes", "category", "categories", "classname", "labelname"),
    *("wnid", "synset"),
)
"""Columns with classes."""

SPLITS = ("split", "subset", "partition")
"""Columns with the split of an image."""

_KNOWN = frozenset((*IMAGES, *CAPTIONS, *LABELS, *SPLITS))
_OTHER = re.compile(r"[\W_]+")


def plain(column: str) -> str:
    """A name in lower case without spaces, hyphens and underscores: `File_Name` is `filename`."""
    return _OTHER.sub("", column).lower()


def is_known(column: str) -> bool:
    """Whether a column is usual, by its name."""
    return plain(column) in _KNOWN


def known_among(columns: Sequence[str], names: Iterable[str]) -> Iterator[str]:
    """The columns that have one of these names, in the order of the names.

    Args:
        columns: Of a table. Of several that differ in case alone, the first counts.
        names: As `plain` writes them.
    """
    by_name: dict[str, str] = {}
    for column in columns:
        by_name.setdefault(plain(column), column)
    for name in names:
        if name in by_name:
            yield by_name[name]
