"""Which annotation files of COCO's kind a folder has, and where the images of each may be.

COCO's own names come first: `captions_<split>.json`, `instances_<split>.json`. Without them, every
JSON document that holds `images` and `annotations` counts, as other programs export it: its split
is in its name or is the folder that it lies in.
"""

import heapq
import itertools
import re
from collections import defaultdict
from typing import NamedTuple

from sparc.common.errors import DatasetError
from sparc.extract.datasets.account import Omissions
from sparc.extract.datasets.formats.coco.document import IMAGE_NAMES
from sparc.extract.datasets.json_lists import JsonLists
from sparc.extract.datasets.safe_folder import SafeFolder, split_suffix
from sparc.extract.datasets.splits import is_usual

LVIS = re.compile(r"(?:(.+)/)?lvis_v\d+(?:\.\d+)?_([^/]+)\.json")
"""The files of LVIS, which are a format of their own: their images are those of COCO."""

_COCO = re.compile(r"(?:(.+)/)?(captions|instances)_([^/]+)\.json")
_OTHER_TASKS = ("person_keypoints_", "stuff_", "panoptic_", "image_info_")
"""How further files of COCO begin. They count where nothing else is there."""

_SAY_NO_SPLIT = re.compile(
    r"_annotations\.coco.*|(coco[_-]?)?(annotations?|labels|results?|instances|captions|dataset|"
    r"data|export|output|coco)",
    re.IGNORECASE,
)
"""Names of files that say nothing of a split, such as FiftyOne's labels.json."""

_HOLDS_ANNOTATIONS = re.compile(r"annotations?[^/]*|labels|coco", re.IGNORECASE)
"""Names of folders that hold annotation files, with the images beside the folder."""

_LOOKED_AT = 40
"""Most documents that are looked into: a folder with a JSON file an image has thousands."""

_HEAD = 1 << 16
_FIRST_KEYS = (b'"images"', b'"annotations"', b'"categories"', b'"info"', b'"licenses"')
"""One of them is in the first bytes of every document; others need not be read to their end."""

_FIRST_ANNOTATIONS = 100
"""How many annotations decide what a document holds."""


class AnnotationFiles(NamedTuple):
    """The annotation files of a split, which may be one; empty where there is none."""

    captions: str = ""
    objects: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The files, each once."""
        return tuple(dict.fromkeys(filter(None, self)))


def coco_files(folder: SafeFolder) -> dict[str, AnnotationFiles]:
    """The annotation files by split; the split is empty where a dataset is not divided."""
    return _own_files(folder) or _files_of_others(folder)


def lvis_files(folder: SafeFolder) -> dict[str, AnnotationFiles]:
    """The annotation files of LVIS by split."""
    files: dict[str, AnnotationFiles] = {}
    for match in _matches(LVIS, folder):
        files.setdefault(match[2], AnnotationFiles(objects=match[0]))
    return files


def is_own_name(file: str) -> bool:
    """Whether a file has a name that COCO or LVIS give, so that no other need be sought."""
    return bool(_COCO.fullmatch(file) or LVIS.fullmatch(file))


def is_read(folder: SafeFolder, file: str) -> bool:
    """Whether a file is one of `coco_files`, without looking into the others."""
    if _matches(_COCO, folder):
        return bool(_COCO.fullmatch(file))
    return not _is_of_other_task(file) and _contents(folder, file) is not None


def image_base(files: AnnotationFiles) -> str:
    """The folder below which the images of annotation files should be; it ends in `/` or is empty.

    It is that of the files or, where this holds annotations alone, the one above.
    """
    above = files.names[0].rpartition("/")[0]
    before, _, last = above.rpartition("/")
    base = before if _HOLDS_ANNOTATIONS.fullmatch(last) else above
    return f"{base}/" if base else ""


def own_folders(base: str, split: str) -> list[str]:
    """Where the images of a split, and of no other, may be, the likeliest first."""
    if not split:
        return []
    return [f"{base}{split}/", f"{base}images/{split}/", f"{base}{split}/images/"]


def _own_files(folder: SafeFolder) -> dict[str, AnnotationFiles]:
    files: dict[str, dict[str, str]] = defaultdict(dict)
    for match in _matches(_COCO, folder):
        # In another folder, a file of that name may be anything.
        if match[1] in (None, "annotations") or _contents(folder, match[0]):
            files[match[3]].setdefault(match[2], match[0])
    return {
        split: AnnotationFiles(kinds.get("captions", ""), kinds.get("instances", ""))
        for split, kinds in files.items()
    }


def _files_of_others(folder: SafeFolder) -> dict[str, AnnotationFiles]:
    documents = (
        file
        for file in folder.files
        if file.lower().endswith(".json")
        and not LVIS.fullmatch(file)
        and split_suffix(file)[0] not in folder.image_stems
    )
    first = heapq.nsmallest(_LOOKED_AT, documents, key=_depth)
    looked_into = ((file, _contents(folder, file)) for file in first)
    contents = {file: files for file, files in looked_into if files is not None}
    of_others = set(filter(_is_of_other_task, contents))
    if len(of_others) < len(contents):
        contents = {file: files for file, files in contents.items() if file not in of_others}
    by_split: dict[str, list[str]] = defaultdict(list)
    for file in contents:
        by_split[_split_of(file)].append(file)
    result: dict[str, AnnotationFiles] = {}
    for split, files in by_split.items():
        captions = [file for file in files if contents[file].captions]
        objects = [file for file in files if contents[file].objects]
        if max(len(captions), len(objects)) > 1 or (not split and len(by_split) > 1):
            result |= {split_suffix(file)[0]: contents[file] for file in files}
        else:
            result[split] = AnnotationFiles("".join(captions), "".join(objects))
    if len(result) == 1 and not any(map(is_usual, result)):
        return {"": next(iter(result.values()))}
    return result


def _is_of_other_task(file: str) -> bool:
    return file.rpartition("/")[2].startswith(_OTHER_TASKS)


def _split_of(file: str) -> str:
    """The split that a file's name, or else its folder, says; empty where none does."""
    above, _, name = file.rpartition("/")
    stem = split_suffix(name)[0]
    if _SAY_NO_SPLIT.fullmatch(stem):
        last = above.rpartition("/")[2]
        return "" if _HOLDS_ANNOTATIONS.fullmatch(last) else last
    words = re.split(r"[_.\- ]+", stem)
    return next(filter(is_usual, words), "")


def _contents(folder: SafeFolder, file: str) -> AnnotationFiles | None:
    """What a document has, by its first annotations; None where it is not of COCO's kind."""
    head = folder.head(file, _HEAD)
    if b"\0" not in head and not any(key in head for key in _FIRST_KEYS):  # UTF-16 has zeros
        return None
    try:
        path = folder.locate(file)
        with JsonLists(path, file, Omissions(file), quiet=True) as lists:
            if "images" not in lists or "annotations" not in lists:
                return None
            _, image = next(lists.entries("images", "image"), (0, None))
            if not isinstance(image, dict) or image.keys().isdisjoint(IMAGE_NAMES):
                return None
            annotations = lists.flat_entries("annotations", "annotation")
            keys: set[str] = set()
            for _, annotation in itertools.islice(annotations, _FIRST_ANNOTATIONS):
                keys.update(annotation if isinstance(annotation, dict) else ())
            has_captions = "caption" in keys
            has_objects = "category_id" in keys or (not keys and "categories" in lists)
    except DatasetError:
        return None
    if keys and not has_captions and not has_objects:
        return None  # panoptic segments, for instance
    return AnnotationFiles(
        "" if has_objects and not has_captions else file, file if has_objects else ""
    )


def _matches(name: re.Pattern[str], folder: SafeFolder) -> list[re.Match[str]]:
    """The files of a name, those of `annotations` first, then those of fewer folders."""
    matches = filter(None, map(name.fullmatch, folder.files))
    return sorted(matches, key=lambda match: (match[1] != "annotations", _depth(match[0])))


def _depth(file: str) -> int:
    return file.count("/")
