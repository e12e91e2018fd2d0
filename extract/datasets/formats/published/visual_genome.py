"""Visual Genome (`--format visual-genome`).

    DATASET/
      image_data.json             [{"image_id": 1, "url": "…/VG_100K_2/1.jpg", …}, …]; optional
      region_descriptions.json    [{"id": 1, "regions": [{"phrase": "a red roof", …}, …]}, …]
      objects.json                [{"image_id": 1, "objects": [{"names": ["roof"],
                                    "synsets": ["roof.n.01"], …}, …]}, …]; or attributes.json
      VG_100K/1.jpg               the images, by id, in any folder

Each phrase about a region is a caption of the image: with `--captions each` a row is an image and a
phrase. Further keys of a region (`region_id`, `x`, `y`, `width`, `height`) and of an image may
become columns (`--column`). Labels are the objects: their first synset, or else their first name.
"""

import posixpath
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sparc.common.errors import DatasetError
from sparc.extract.datasets.formats.published.documents import json_entries
from sparc.extract.datasets.formats.published.lists import file_called
from sparc.extract.datasets.formats.reader import DatasetReader
from sparc.extract.datasets.safe_folder import SafeFolder
from sparc.extract.datasets.source import ImageRecord, Source
from sparc.extract.datasets.tables.cells import identifier, text_of

_REGIONS = ("region_descriptions.json",)
_IMAGES = "image_data.json"
_OBJECTS = ("objects.json", "attributes.json")
_ID = ("image_id", "id")


class VisualGenomeDataset(DatasetReader):
    """Images with phrases about regions and with objects; see the module."""

    absence = "no region_descriptions.json of Visual Genome"
    yields_to = ("coco",)

    @classmethod
    def evidence(cls, folder: SafeFolder) -> str | None:
        """The phrases, or the objects beside the list of images."""
        if regions := file_called(folder, *_REGIONS):
            return regions
        has_both = file_called(folder, _IMAGES) and file_called(folder, *_OBJECTS)
        return file_called(folder, _IMAGES) if has_both else None

    @classmethod
    def advice(cls, folder: SafeFolder, file: str) -> str:  # noqa: ARG003
        """For the phrases in a folder of another format."""
        is_regions = posixpath.basename(file).lower() in _REGIONS
        return "--format visual-genome reads it" if is_regions else ""

    def read(self, split: str) -> Source:  # noqa: ARG002
        """The images in the order of their list, or else of the phrases."""
        listed = self._images()
        phrases, columns = self._regions()
        labels, names = self._objects()
        ids = listed or {image_id: {} for image_id in [*phrases, *labels]}
        if not ids:
            raise DatasetError(f"{self.folder} has no {_REGIONS[0]} and no {_IMAGES}")
        for file, of_file in ((_REGIONS, phrases), (_OBJECTS, labels)):
            self._count_strange(of_file, ids, file_called(self.folder, *file))
        files = self.account.names(self.folder.images)
        return Source(
            named_in=file_called(self.folder, _IMAGES, *_REGIONS),
            records=[
                ImageRecord(
                    image_id,
                    files.path(*_file_names(image_id, image)),
                    captions=phrases.get(image_id, ()),
                    labels=tuple(labels.get(image_id, ())),
                    columns=self.columns.of(image, without=_ID),
                    caption_columns=columns.get(image_id, ()),
                )
                for image_id, image in ids.items()
            ],
            names=names,
        )

    def _entries(self, file: str, what: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """The objects of a list that have an image's id: place, id, object."""
        omissions = self.account.omissions(file)
        for where, entry in json_entries(self.folder, file, omissions, what):
            image_id = next(filter(None, (identifier(entry.get(key)) for key in _ID)), "")
            if image_id:
                yield where, image_id, entry
            else:
                omissions.add(what, "it has no image_id", where)

    def _count_strange(self, image_ids: Iterable[str], listed: Collection[str], file: str) -> None:
        """Count the images of a file that the list of images lacks."""
        for image_id in image_ids:
            if image_id not in listed:
                why = f"{_IMAGES} does not list it"
                self.account.omissions(file).add("image", why, f"image_id {image_id}")

    def _images(self) -> Mapping[str, Mapping[str, Any]]:
        file = file_called(self.folder, _IMAGES)
        images: dict[str, Mapping[str, Any]] = {}
        for where, image_id, image in self._entries(file, "image") if file else ():
            if images.setdefault(image_id, image) != image:
                raise DatasetError(
                    f"{self.folder}/{file}, {where}: image_id {image_id} occurs twice with "
                    "different entries"
                )
        if file:
            keys = dict.fromkeys(key for image in images.values() for key in image)
            others = [key for key in keys if key not in (*_ID, "url")]
            self.columns.enter(self.account, file, ("image_id", "url"), others)
        return images

    def _regions(
        self,
    ) -> tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[Mapping[str, Any]]]]:
        """The phrases by image, and the further keys of each that are columns."""
        file = file_called(self.folder, *_REGIONS)
        phrases: dict[str, list[str]] = defaultdict(list)
        columns: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        others: dict[str, None] = {}
        omissions = self.account.omissions(file)
        for where, image_id, entry in self._entries(file, "image") if file else ():
            regions = entry.get("regions")
            if not isinstance(regions, list):
                omissions.add("image", "it has no list of regions", where)
                continue
            for position, region in enumerate(regions):
                phrase = text_of(region.get("phrase")) if isinstance(region, dict) else ""
                if not phrase:
                    omissions.add("caption", "it is not text", f"{where}.regions[{position}]")
                    continue
                others.update(dict.fromkeys(region))
                phrases[image_id].append(phrase)
                columns[image_id].append(self.columns.of(region, without=(*_ID, "phrase")))
        if file:
            further = [key for key in others if key not in (*_ID, "phrase")]
            self.columns.enter(self.account, file, ("phrase",), further)
        return phrases, columns

    def _objects(self) -> tuple[Mapping[str, Mapping[str, None]], Mapping[str, str]]:
        """The labels by image, each once, and the names of the labels."""
        file = file_called(self.folder, *_OBJECTS)
        labels: dict[str, dict[str, None]] = defaultdict(dict)
        names: dict[str, str] = {}
        omissions = self.account.omissions(file)
        for where, image_id, entry in self._entries(file, "image") if file else ():
            objects = entry.get("objects", entry.get("attributes"))
            for position, thing in enumerate(objects if isinstance(objects, list) else ()):
                synset, name = _first(thing, "synsets"), _first(thing, "names")
                if not (synset or name):
                    place = f"{where}.objects[{position}]"
                    omissions.add("object", "it has no name and no synset", place)
                    continue
                labels[image_id][synset or name] = None
                names[synset or name] = synset.partition(".")[0].replace("_", " ") or name
        if file:
            self.account.uses(file, used=("synsets", "names"), unused=("x", "y", "w", "h"))
        return labels, names


def _file_names(image_id: str, image: Mapping[str, Any]) -> Sequence[str]:
    """What the file of an image may be called: the end of its address, and its id."""
    address = text_of(image.get("url")).split("/")[-2:]
    names = ["/".join(address), f"{image_id}.jpg"]
    return names if len(address) > 1 else names[1:]


def _first(thing: Any, key: str) -> str:
    """The first text of a list in an object, or the text itself; empty where there is none."""
    value = thing.get(key, thing.get(key.removesuffix("s"))) if isinstance(thing, dict) else None
    return text_of(value[0] if isinstance(value, list) and value else value)
