"""What arrays and columns are called: names of streams, and columns that mean something."""

import re
from collections.abc import Sequence
from pathlib import Path

from sparc.common.streams.info import Modality
from sparc.extract.datasets.tables import known_names

IDS = (
    *("id", "ids", "sample_id", "sample_ids", "image_id", "image_ids", "key", "keys", "index"),
    *("indices", "uid", "uids", "row_id", "image_path", "image_paths", "filename", "filenames"),
    *("file_name", "file_names", "filepath", "path", "paths", "name", "names"),
)
CAPTIONS = known_names.CAPTIONS
LABELS = (*known_names.LABELS, "target", "targets", "y")
IMAGES = (
    *("image_path", "image", "file_name", "filename", "filepath", "path", "image_paths"),
    *("filenames", "paths"),
)

_FEATURES = re.compile(
    r"[_.\- ]*(features?|feats?|embeddings?|embeds?|embs?|vectors?|activations?)(?![a-z]).*",
    re.IGNORECASE,
)
_TEXT = re.compile(r"(?<![a-z])(te?xts?|captions?|sentences?|words?|bert|minilm)(?![a-z])")
_KNOWN = {"img_emb": "image", "text_emb": "text"}


def stream_name(path: Path, key: str, *, several: bool) -> str:
    """What a stream is called that nobody named.

    Args:
        path: The file of its array.
        key: The array in it.
        several: Whether the file has more arrays.

    Returns:
        A name that a stream may have: of the key, where that says more than the file's.
    """
    said = _KNOWN.get(key) or (key if several else path.stem)
    short = _FEATURES.sub("", said) or said
    name = re.sub(r"[^a-z0-9]+", "_", short.lower()).strip("_")
    return name if name[:1].isalpha() else f"stream_{name}".rstrip("_")


def names_of(path: Path, other: Path) -> bool:
    """Whether a file is called as one that names the rows of another: `dino_ids` of `dino`."""
    stems = {path.stem.lower(), _FEATURES.sub("", path.stem).lower()}
    said = re.sub(r"[ .\-]", "_", other.stem.lower())
    return any(said == f"{stem}_{name}" for stem in stems for name in IDS)


def guessed_modality(name: str, path: Path, key: str) -> Modality:
    """What the names of a stream and of its array say that its features are of."""
    said = " ".join((name, path.stem, key)).lower().replace("_", " ")
    return "text" if _TEXT.search(said) else "image"


def column_called(known: Sequence[str], columns: Sequence[str]) -> str:
    """The column with the first of some names, as `known_names.plain` compares them.

    A column in a group, such as `train/ids` of HDF5, is called by the end of its name. Empty where
    there is none.
    """
    by_name = {known_names.plain(c.rpartition("/")[2]): c for c in reversed(columns)}
    plain = map(known_names.plain, known)
    return next((by_name[name] for name in plain if name in by_name), "")
