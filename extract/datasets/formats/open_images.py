"""Open Images with Localized Narratives (`--format open-images`), with their original file names.

    DATASET/
      train/<ImageID>.jpg                            also images/train/, train_0/, train_1/, …
      open_images_train_v6_captions.jsonl            image_id, caption; or the full
                                                     …localized_narratives-….jsonl
      oidv7-train-annotations-human-imagelabels.csv  optional: ImageID,LabelName,Confidence
      oidv7-class-descriptions.csv                   optional: LabelName,DisplayName
      bbox_labels_600_hierarchy.json                 optional: LabelName, Subcategory

The files beside the images may be in any subfolder. With narratives, the rows are the images that
they describe, and their further fields may become columns of the cache (`--column`); without, all
images. Labels are the human-verified ones of Confidence 1.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sparc.common.errors import DatasetError
from sparc.common.progress import say
from sparc.common.text import amount
from sparc.extract.datasets.formats.reader import DatasetReader
from sparc.extract.datasets.hierarchy import Hierarchy, read_hierarchy
from sparc.extract.datasets.labels import read_class_names, read_labels
from sparc.extract.datasets.metadata import read_json_lines
from sparc.extract.datasets.safe_folder import SafeFolder, split_suffix
from sparc.extract.datasets.source import ImageRecord, Source
from sparc.extract.datasets.splits import SYNONYMS

SPLITS = ("train", "validation", "test")

_SPLIT = re.compile(r"(?:^|[-_])(train|validation|val|test)(?=[-_.])")
_NARRATIVES = re.compile(r"(?:open_images_.*captions|.*localized_narratives).*\.jsonl")
_LABELS = re.compile(r".*human-imagelabels.*\.csv")
_CLASSES = re.compile(r".*class-descriptions.*\.csv")
_HIERARCHY = re.compile(r".*hierarchy.*\.json")


class OpenImagesDataset(DatasetReader):
    """Open Images with Localized Narratives; see the module."""

    absence = "no narratives or human-imagelabels"

    @classmethod
    def evidence(cls, folder: SafeFolder) -> str | None:
        """A file of narratives or of human-verified labels."""
        files = folder.files
        return next(iter(_named(files, _NARRATIVES) or _named(files, _LABELS)), None)

    def splits(self) -> Collection[str]:
        """Those of the narratives; without narratives, those of labels or images."""
        splits = self._splits()
        if not splits:
            raise DatasetError(
                f"{self.folder} has no images, narratives or labels of a split "
                f"({', '.join(SPLITS)}), so it is not in the layout of Open Images"
            )
        return splits

    def _splits(self) -> list[str]:
        narrated = {_split_of(name) for name in _named(self.folder.files, _NARRATIVES)}
        if narrated & set(SPLITS):
            return [split for split in SPLITS if split in narrated]
        labelled = {_split_of(name) for name in _named(self.folder.files, _LABELS)}
        return [s for s in SPLITS if s in labelled or _images_of(self.folder.images, s)]

    def read(self, split: str) -> Source:
        """The images, in the order of the narratives; without narratives sorted by path."""
        folder = self.folder
        on_disk = _images_of(folder.images, split) or _by_id(folder.images)
        narratives = _one_version(
            [n for n in _named(folder.files, _NARRATIVES) if _split_of(n) == split]
        )
        narrated = self._narratives(narratives)
        if narrated:
            self._say_left_out(narrated, on_disk, split)
        ids = list(narrated or on_disk)
        labels = {} if self.options.labels else self._labels(split, set(ids))
        return Source(
            named_in=f"the {split} narratives",
            records=[
                ImageRecord(
                    image_id,
                    on_disk.get(image_id, f"{split}/{image_id}.jpg"),
                    captions=[narrative.caption for narrative in narrated.get(image_id, ())],
                    labels=tuple(dict.fromkeys(labels.get(image_id, ()))),
                    caption_columns=[n.columns for n in narrated.get(image_id, ())],
                )
                for image_id in ids
            ],
            names=self._class_names(),
            hierarchy=self._hierarchy(),
        )

    def _narratives(self, names: Sequence[str]) -> dict[str, list["_Narrative"]]:
        narratives: dict[str, list[_Narrative]] = defaultdict(list)
        for name in names:
            for where, values in read_json_lines(self.folder.path(name), f"{self.folder}/{name}"):
                image_id, caption = values.get("image_id"), values.get("caption")
                if not isinstance(image_id, str) or not image_id or not isinstance(caption, str):
                    raise DatasetError(f"{where} needs the texts image_id and caption")
                columns = self.columns.of(values, without=("image_id", "caption"))
                narratives[image_id].append(_Narrative(caption, columns))
        return dict(narratives)

    def _say_left_out(
        self, narrated: Mapping[str, object], on_disk: Mapping[str, str], split: str
    ) -> None:
        extra = sum(image_id not in narrated for image_id in on_disk)
        if extra:
            say(f"{self.folder}: {amount(extra, 'image')} of {split} without narrative left out")

    def _labels(self, split: str, wanted: set[str]) -> Mapping[str, Sequence[str]]:
        names = [n for n in _named(self.folder.files, _LABELS) if _split_of(n) == split]
        labels: dict[str, list[str]] = defaultdict(list)
        for name in _one_version(names)[-1:]:
            for image_id, key in read_labels(self.folder.path(name), f"{self.folder}/{name}"):
                if image_id in wanted:
                    labels[image_id].append(key)
        return labels

    def _class_names(self) -> dict[str, str]:
        merged: dict[str, str] = {}
        for name in _named(self.folder.files, _CLASSES):
            merged.update(read_class_names(self.folder.path(name), f"{self.folder}/{name}"))
        return merged

    def _hierarchy(self) -> Hierarchy:
        names = _named(self.folder.files, _HIERARCHY)
        if not names:
            return Hierarchy()
        name = next((n for n in names if "bbox_labels_600" in n), names[0])
        return read_hierarchy(self.folder.path(name), f"{self.folder}/{name}")


class _Narrative(NamedTuple):
    """A caption of an image, and the other fields of its line that become columns."""

    caption: str
    columns: Mapping[str, Any]


def _named(files: Iterable[str], pattern: re.Pattern[str]) -> list[str]:
    return [name for name in files if pattern.fullmatch(name.rpartition("/")[2])]


def _split_of(name: str) -> str:
    """The split of an annotation file, by its name or else by its folder's name."""
    folder, _, base = name.rpartition("/")
    if match := _SPLIT.search(base):
        return SYNONYMS[match[1]]
    return next((SYNONYMS[p] for p in reversed(folder.split("/")) if p in SYNONYMS), "")


def _one_version(names: Sequence[str]) -> Sequence[str]:
    """Of files with the same content, the captions without traces, or the labels of all classes."""
    captions = [name for name in names if "captions" in name.rpartition("/")[2]]
    complete = [name for name in names if "boxable" not in name]
    return captions or complete or names


def _images_of(image_paths: Iterable[str], split: str) -> dict[str, str]:
    """Images by id: those in a folder named like the split or a part of it (`train_0`)."""
    names = "|".join(name for name, meaning in SYNONYMS.items() if meaning == split)
    folder = re.compile(rf"(?:.*/)?(?:{names})(?:_[0-9a-f]+)?/.*")
    return _by_id(name for name in image_paths if folder.fullmatch(name))


def _by_id(image_paths: Iterable[str]) -> dict[str, str]:
    return {split_suffix(name.rpartition("/")[2])[0]: name for name in image_paths}
