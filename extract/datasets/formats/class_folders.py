"""Folders that are called after the class of their images (`--format class-folders`).

    DATASET/
      train/                    optional: subfolders named like splits are splits
        n01440764/              the class; folders below it belong to it
          n01440764_18.JPEG
      val/                      the same, or images without folders, whose classes a list has:
        ILSVRC2012_val_1.JPEG   LOC_val_solution.csv, val_annotations.txt, …_ground_truth.txt
      LOC_synset_mapping.txt    optional: names of classes; also words.txt, a JSON class index, …
      wordnet.is_a.txt          optional: the hierarchy, `parent child` in a line

Names and hierarchy may lie elsewhere: `--classes FILE`, `--hierarchy FILE`. `auto` takes a folder
for this format if it has no captions, and its folders are called after synsets of WordNet, or two
splits have the same folders. Elsewhere a folder's name may be anything: the account of the folder
then says that this format would take it for a class.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from sparc.common.errors import DatasetError
from sparc.extract.datasets.base import DatasetOptions
from sparc.extract.datasets.formats.reader import DatasetReader
from sparc.extract.datasets.hierarchy import Hierarchy
from sparc.extract.datasets.labels.classes import class_lists
from sparc.extract.datasets.labels.of_folders import (
    HIERARCHY_FILES,
    NAME_FILES,
    is_synset,
    read_folder_names,
    read_wordnet,
)
from sparc.extract.datasets.metadata import text_lines
from sparc.extract.datasets.safe_folder import SafeFolder, split_suffix
from sparc.extract.datasets.source import ImageRecord, Source, image_ids
from sparc.extract.datasets.splits import split_folders
from sparc.extract.datasets.tables.finding import caption_tables, metadata_files
from sparc.extract.datasets.tables.sidecars import has_texts_beside

_LISTS = re.compile(r"(?:.*_)?(?:annotations|solution|ground_truth)(?:_.*)?\.(?:txt|csv)", re.I)
"""Lists of the classes of images that lie in no folder of their class."""

_BETWEEN = re.compile(r"[\t, ]+")


class ClassFolders(DatasetReader):
    """Images in folders called after their class; see the module."""

    absence = "no folders called after classes"
    by_names = True
    yields_to = ("frames",)

    @classmethod
    def evidence(cls, folder: SafeFolder) -> str | None:
        """An image, if the folders can only be classes."""
        by_split = {
            split: classes_in(folder.images, split)
            for split in split_folders(folder.images) or ("",)
        }
        every = [set(classes) for classes in by_split.values() if classes]
        if not every:
            return None
        are_synsets = all(is_synset(name) for classes in every for name in classes)
        are_the_same = len(every) > 1 and all(classes == every[0] for classes in every)
        if not are_synsets and not (are_the_same and len(every[0]) > 1):
            return None
        if has_texts_beside(folder) or metadata_files(folder):
            return None
        if caption_tables(folder, DatasetOptions()):
            return None
        return next(iter(folder.images))

    @classmethod
    def advice(cls, folder: SafeFolder, file: str) -> str:
        """How the classes of ImageNet's lists are read."""
        name = file.rpartition("/")[2].lower()
        if _LISTS.fullmatch(name) and folder.images:
            return "--format class-folders reads classes of it"
        return ""

    def splits(self) -> Collection[str]:
        """The subfolders that are splits."""
        return split_folders(self.folder.images)

    def read(self, split: str) -> Source:
        """The images, sorted by path."""
        prefix = f"{split}/" if split else ""
        image_paths = [name for name in self.folder.images if name.startswith(prefix)]
        classes = {name: class_of(name, prefix) for name in image_paths}
        folders = set(filter(None, classes.values()))
        if len(folders) < 2 and (listed := self._listed(image_paths)):
            classes.update(listed)
        every = {*filter(None, classes.values()), *classes_in(self.folder.images, split)}
        every.update(*(classes_in(self.folder.images, other) for other in self.splits()))
        names = self._names(every)
        hierarchy = self._hierarchy()
        if not any(classes.values()):
            raise DatasetError(
                f"{self.folder} has no folders below {prefix or 'it'} that images lie in: these "
                "would be their classes"
            )
        return Source(
            records=[
                ImageRecord(
                    sample_id,
                    image_path,
                    labels=(classes[image_path],) if classes[image_path] else (),
                )
                for sample_id, image_path in zip(image_ids(image_paths), image_paths, strict=True)
            ],
            names=names,
            hierarchy=hierarchy,
        )

    def _names(self, classes: Collection[str]) -> Mapping[str, str]:
        options = self.options
        if options.labels is not None:
            return {}
        if options.classes is not None:
            self.account.uses(self.folder.name_of(options.classes))
            return read_folder_names(options.classes, str(options.classes), classes)
        for file, path in class_lists(self.folder, NAME_FILES):
            try:
                names = read_folder_names(path, f"{self.folder}/{file}", classes)
            except DatasetError:  # a file of that name about something else
                continue
            self.account.uses(file)
            return names
        return {}

    def _hierarchy(self) -> Hierarchy:
        options = self.options
        if options.labels is not None:
            return Hierarchy()
        if options.hierarchy is not None:
            self.account.uses(self.folder.name_of(options.hierarchy))
            return read_wordnet(options.hierarchy, str(options.hierarchy))
        for file, path in class_lists(self.folder, HIERARCHY_FILES):
            self.account.uses(file)
            return read_wordnet(path, f"{self.folder}/{file}")
        return Hierarchy()

    def _listed(self, image_paths: Sequence[str]) -> Mapping[str, str]:
        """The classes that the first list that fits has, by image."""
        for file in self.folder.files:
            if not _LISTS.fullmatch(file.rpartition("/")[2]):
                continue
            where = f"{self.folder}/{file}"
            lines = text_lines(self.folder.locate(file), where, longest=1 << 16)
            rows = [_BETWEEN.split(line.strip()) for line in lines if line.strip()]
            if classes := _classes_of(rows, image_paths):
                self.account.uses(file)
                return classes
        return {}


def class_of(image_path: str, prefix: str) -> str:
    """The first folder of an image below a split; empty where it lies in none."""
    below, has_folder, _ = image_path[len(prefix) :].partition("/")
    return below if has_folder else ""


def classes_in(image_paths: Iterable[str], split: str) -> Counter[str]:
    """The classes that a split would have, and their images."""
    prefix = f"{split}/" if split else ""
    classes = Counter(class_of(name, prefix) for name in image_paths if name.startswith(prefix))
    del classes[""]
    return classes


def _classes_of(rows: Sequence[Sequence[str]], image_paths: Sequence[str]) -> Mapping[str, str]:
    """The classes of images by lines of image and class, or by one number for each image."""
    if all(len(row) == 1 for row in rows):
        is_fit = len(rows) == len(image_paths) and all(row[0].isdecimal() for row in rows)
        return {path: row[0] for path, row in zip(image_paths, rows, strict=True)} if is_fit else {}
    by_name: dict[str, list[str]] = defaultdict(list)
    for path in image_paths:
        base = path.rpartition("/")[2]
        for name in {base, split_suffix(base)[0]}:
            by_name[name].append(path)
    classes: dict[str, str] = {}
    for row in rows:
        paths = by_name.get(row[0], ())
        if len(row) > 1 and len(paths) == 1:
            classes[paths[0]] = row[1]
    return classes if 2 * len(classes) >= len(image_paths) else {}
