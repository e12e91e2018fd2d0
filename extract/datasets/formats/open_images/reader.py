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
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from sparc.common.errors import DatasetError
from sparc.common.files.paths import is_url
from sparc.common.progress import say
from sparc.common.text import amount
from sparc.extract.datasets.formats.open_images.narratives import Narrative, Narratives
from sparc.extract.datasets.formats.reader import DatasetReader
from sparc.extract.datasets.hierarchy import Hierarchy, read_hierarchy
from sparc.extract.datasets.labels.classes import read_class_names
from sparc.extract.datasets.labels.of_images import labels_by_image
from sparc.extract.datasets.labels.table import is_labels, read_labels
from sparc.extract.datasets.safe_folder import SafeFolder, split_suffix
from sparc.extract.datasets.source import ImageRecord, Source
from sparc.extract.datasets.splits import SYNONYMS

SPLITS = ("train", "validation", "test")

_SPLIT = re.compile(r"(?:^|[-_])(train|validation|val|test)(?=[-_.])")
_NARRATIVES = re.compile(r"(?:open_images_.*captions|.*localized_narratives).*\.jsonl")
_LABELS = re.compile(r".*human-imagelabels.*\.csv")
_CLASSES = re.compile(r".*class-descriptions.*\.csv")
_HEADER = 1 << 16
"""Bytes in which the header of a table is looked for."""
_HIERARCHY = re.compile(r".*hierarchy.*\.json")


class OpenImagesDataset(DatasetReader):
    """Open Images with Localized Narratives; see the module."""

    absence = "no narratives or human-imagelabels"

    @classmethod
    def evidence(cls, folder: SafeFolder) -> str | None:
        """A file of narratives or of human-verified labels."""
        files = folder.files
        return next(iter(_named(files, _NARRATIVES) or _named(files, _LABELS)), None)

    @classmethod
    def advice(cls, folder: SafeFolder, file: str) -> str:
        """A table of labels is used where it is named."""
        if split_suffix(file)[1] in (".csv", ".tsv") and is_labels(folder.head(file, _HEADER)):
            if is_url(folder.location):
                return f"copy it to this machine, where --labels {shlex.quote(file)} reads it"
            return f"--labels {shlex.quote(f'{folder}/{file}')}"
        return ""

    def is_of_other_split(self, file: str, split: str) -> bool:
        """Whether a file belongs to another split, by its name or its folders' names."""
        return _split_of(file) not in ("", split)

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
        labels = [()] * len(ids) if self.options.labels else self._labels(split, ids)
        elsewhere = self._written_otherwise(narrated, on_disk)
        return Source(
            named_in=f"the {split} narratives",
            records=[
                ImageRecord(
                    image_id,
                    on_disk.get(image_id) or elsewhere.get(image_id, f"{split}/{image_id}.jpg"),
                    captions=[narrative.caption for narrative in narrated.get(image_id, ())],
                    labels=of_image,
                    caption_columns=[n.columns for n in narrated.get(image_id, ())],
                )
                for image_id, of_image in zip(ids, labels, strict=True)
            ],
            names=self._class_names(),
            hierarchy=self._hierarchy(),
        )

    def _narratives(self, files: Sequence[str]) -> Mapping[str, Sequence[Narrative]]:
        narratives: dict[str, list[Narrative]] = {}
        for file in files:
            path, name = self.folder.path(file), f"{self.folder}/{file}"
            reading = Narratives(path, name, self.columns, self.account.omissions(file))
            for image_id, narrative in reading.read():
                narratives.setdefault(image_id, []).append(narrative)
            self.account.uses(
                file, used=reading.used, unused=reading.unused, advice="--column NAME keeps one"
            )
        return narratives

    def _written_otherwise(
        self, ids: Iterable[str], on_disk: Mapping[str, str]
    ) -> Mapping[str, str]:
        """The images of ids that are no file's name: with a suffix, a folder, in another case."""
        names = self.account.names(set(on_disk.values()))
        others = (image_id for image_id in ids if image_id not in on_disk)
        paths = ((image_id, names.resolve(image_id)) for image_id in others)
        return {image_id: path for image_id, path in paths if path is not None}

    def _say_left_out(
        self, narrated: Mapping[str, object], on_disk: Mapping[str, str], split: str
    ) -> None:
        extra = sum(image_id not in narrated for image_id in on_disk)
        if extra:
            say(f"{self.folder}: {amount(extra, 'image')} of {split} without narrative left out")

    def _labels(self, split: str, ids: Sequence[str]) -> Sequence[Sequence[str]]:
        """The classes of these images, in their order."""
        names = [n for n in _named(self.folder.files, _LABELS) if _split_of(n) == split]
        for file in _one_version(names)[-1:]:
            path, name = self.folder.path(file), f"{self.folder}/{file}"
            wanted = pa.array(ids, pa.string())
            table = read_labels(path, name, wanted, self.account.omissions(file))
            self.account.uses(file, used=table.used, unused=table.unused)
            if others := table.strangers.lines:
                of_all = amount(table.lines, "label")
                say(f"{name}: {others:,} of {of_all} are of images that are no rows")
            return labels_by_image(table, np.arange(len(ids), dtype=np.int32), len(ids))
        return [()] * len(ids)

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
