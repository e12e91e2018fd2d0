"""Folders that hold a model: which library's they are, and where in a hub's cache a model lies.

This module must not know any model library.
"""

from pathlib import Path

from sparc.common.streams.places import LOCAL_FOLDER, WEIGHTS_SUFFIXES
from sparc.extract.encoders.foreign import ModelRefusedError, read_document


def in_snapshot(folder: str) -> str:
    """The folder itself; for a repository in a hub's cache (`models--…`), its snapshot.

    Raises:
        ModelRefusedError: It has several snapshots, and nothing says which one is meant.
    """
    snapshots = Path(folder) / "snapshots"
    if not snapshots.is_dir():
        return folder
    kept = sorted(path for path in snapshots.iterdir() if path.is_dir())
    main = Path(folder) / "refs" / "main"
    if main.is_file() and main.stat().st_size < 100:
        kept = [path for path in kept if path.name == main.read_text().strip()] or kept
    if len(kept) != 1:
        raise ModelRefusedError(
            f"the hub's cache has {len(kept)} snapshots in {snapshots}: name one of their folders"
        )
    return str(kept[0])


def without_config(folder: Path, name: str, tower: str) -> ModelRefusedError:
    """The error about a folder that lacks a file of settings, with how it may be read instead.

    Args:
        folder: The folder.
        name: The file.
        tower: `image` or `text`.
    """
    advice = _otherwise(folder, tower)
    return ModelRefusedError(f"the folder has no {name}{f': {advice}' if advice else ''}")


def weights_in(folder: Path, names: tuple[str, ...]) -> Path:
    """The file of weights in a folder: the first of some names, else the only one.

    Raises:
        ModelRefusedError: There is none, or several under other names.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    files = sorted(path for path in folder.iterdir() if path.suffix in WEIGHTS_SUFFIXES)
    if len(files) != 1:
        listed = ", ".join(path.name for path in files[:5])
        raise ModelRefusedError(
            f"the folder has no weights: put {names[0]} there"
            if not files
            else f"the folder has several files of weights ({listed}): keep one, or call it "
            f"{names[0]}"
        )
    return files[0]


def _otherwise(folder: Path, tower: str) -> str:
    """Which other library's model a folder is, as advice; empty if that is unknown."""
    if (folder / "open_clip_config.json").is_file():
        return f"it is a model of open_clip: open_clip:{LOCAL_FOLDER}{folder}#{tower}"
    if (folder / "config.json").is_file():
        try:
            settings = read_document(folder / "config.json")
        except ModelRefusedError:
            return ""
        if "model_type" in settings:
            return f"it is a model of transformers: transformers:{folder}#{tower}"
        if "architecture" in settings:
            return f"it is a model of timm: timm:{LOCAL_FOLDER}{folder}"
    weights = sorted(path.name for path in folder.iterdir() if path.suffix in WEIGHTS_SUFFIXES)
    if weights:
        return (
            f"name the architecture with its weights, as in open_clip:ARCHITECTURE/{folder}/"
            f"{weights[0]}#{tower} or timm:MODEL@{folder}/{weights[0]}"
        )
    return ""
