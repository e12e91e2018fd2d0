"""Captions of an image in the file of its name: text, one a line, or a JSON object."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from sparc.common.errors import DatasetError, UnavailableError
from sparc.common.text import shorten
from sparc.extract.datasets.account import Account
from sparc.extract.datasets.metadata import decode, parse_json
from sparc.extract.datasets.names import folded, in_normal_form
from sparc.extract.datasets.safe_folder import LARGEST_TEXT, SafeFolder, split_suffix
from sparc.extract.datasets.tables.cells import captions_of
from sparc.extract.datasets.tables.known_names import CAPTIONS, known_among

SUFFIXES = (".txt", ".caption", ".json")
"""Of the files beside images; the earlier wins."""

_MOST_KEYS = 20
"""Keys of JSON without captions that are listed."""

_ADVICE = (
    "--caption-column NAME for captions; classes are read of one metadata.jsonl of file_name, label"
)

_KIND = "files beside images"

_BOX = re.compile(r"\s*\d+(?:\s+-?[\d.]+(?:[eE][+-]?\d+)?){4,}\s*")
"""A line of YOLO's files: a class and the numbers of a box or an outline."""

_OF_TEXTS = frozenset({"caption", "captions", "text", "texts", "txt", "prompts", "descriptions"})
_OF_IMAGES = frozenset({"image", "images", "img", "imgs", "picture", "pictures", "photos", "jpg"})
"""What folders are called that hold the files of text, and the images, one beside the other."""


class Sidecars:
    """The files beside images that may hold their captions.

    Args:
        folder: The dataset.
        account: Where files that cannot be used are counted.
        caption_key: The key of JSON whose value is a caption; empty: by usual names.
    """

    def __init__(self, folder: SafeFolder, account: Account, caption_key: str = "") -> None:
        self._folder = folder
        self._account = account
        self._caption_key = caption_key
        self._without: list[str] = []
        self._keys: dict[str, None] = {}
        self._omissions = account.omissions(_KIND)
        self._suffixes: set[str] = set()
        # Those in capitals, or in another Unicode form than the image perhaps; by normal form.
        self._unusual: dict[tuple[str, str], str] = {}
        for file in folder.files:
            stem, suffix = split_suffix(file)
            if suffix in SUFFIXES:
                self._suffixes.add(suffix)
                if not file.isascii() or not file.endswith(suffix):
                    self._unusual.setdefault((suffix, in_normal_form(stem)), file)

    def are_usual(self, images: Sequence[str]) -> bool:
        """Whether most images have a file of text beside them, that are no boxes."""
        files = [file for image in images if (file := self._file(image, ".txt")) is not None]
        return 2 * len(files) > len(images) and not holds_boxes(self._folder.head(files[0], 4096))

    def captions(self, image_path: str) -> Sequence[str]:
        """The captions of an image; none where no file has some."""
        for suffix in SUFFIXES:
            file = self._file(image_path, suffix)
            if file is not None and (captions := self._read(file, suffix)):
                return captions
        return ()

    def _file(self, image_path: str, suffix: str) -> str | None:
        """The file of an image's name, or of its name with the suffix, in any Unicode form."""
        if suffix not in self._suffixes:
            return None
        stem, _ = split_suffix(image_path)
        for of_image in (stem, image_path):
            if (file := f"{of_image}{suffix}") in self._folder.file_set:
                return file
            if self._unusual and (suffix, in_normal_form(of_image)) in self._unusual:
                return self._unusual[suffix, in_normal_form(of_image)]
        similar = self._similar.get(suffix, {})
        fits = next(filter(None, map(similar.get, _written(stem, _OF_IMAGES))), ())
        return fits[0] if len(fits) == 1 else None

    @cached_property
    def _similar(self) -> Mapping[str, Mapping[str, Sequence[str]]]:
        """The files that are of no image's name, by suffix and what they are compared by."""
        similar: dict[str, dict[str, list[str]]] = {}
        for file in self._folder.files:
            stem, suffix = split_suffix(file)
            if suffix in SUFFIXES and not {stem, file} & self._folder.image_stems:
                for written in _written(stem, _OF_TEXTS):
                    similar.setdefault(suffix, {}).setdefault(written, []).append(file)
        return similar

    def _read(self, file: str, suffix: str) -> Sequence[str]:
        try:
            data = self._folder.read_beside(file, largest=LARGEST_TEXT)
            text, _ = decode(data)
            if suffix == ".txt" and holds_boxes(data):
                self._folder.opened.discard(file)
                return ()
            if suffix != ".json":
                if "\ufffd" in text:
                    why = "it is not UTF-8, and \ufffd stands for it: save the file as UTF-8"
                    self._omissions.add("letter", why, file)
                return [line for line in text.splitlines() if line.strip()]
            document = parse_json(text, "it")
        except UnavailableError:
            raise
        except DatasetError as error:
            self._omissions.add("file", shorten(str(error), 120), file)
            return ()
        if isinstance(document, list):
            document = {CAPTIONS[0]: document}
        if not isinstance(document, dict):
            self._omissions.add("file", "it is neither an object nor a list", file)
            return ()
        keys = [self._caption_key] if self._caption_key in document else []
        for key in keys or known_among(list(document), CAPTIONS):
            captions, fault = captions_of(document[key])
            if fault:
                self._omissions.add("caption", fault, file)
            if captions:
                return captions
        self._without.append(file)
        if len(self._keys) < _MOST_KEYS:
            self._keys.update(dict.fromkeys(document))
        return ()

    def enter(self) -> None:
        """Say in the account which JSON had no captions, after all images were asked for."""
        for file in self._without:
            self._account.uses(file, unused=self._keys, advice=_ADVICE)


def has_texts_beside(folder: SafeFolder) -> bool:
    """Whether any image has a file of text beside it, as captions are kept."""
    stems = folder.image_stems
    return any(s == ".txt" and stem in stems for stem, s in map(split_suffix, folder.files))


def holds_boxes(data: bytes) -> bool:
    """Whether a file of text has nothing but boxes, as YOLO writes them."""
    if not data[:1].isdigit():  # nearly every text
        return False
    lines = data.decode("ascii", errors="replace").split("\n")
    filled = [line for line in lines if line.strip()]
    # The head of a longer file may end in the midst of a line.
    return bool(filled) and all(map(_BOX.fullmatch, filled[:-1] or filled))


def _written(stem: str, holders: frozenset[str]) -> Iterator[str]:
    """A stem without regard to case and Unicode form; and without the folder of its kind."""
    written = folded(stem)
    yield written
    *folders, name = written.split("/")
    others = [folder for folder in folders if folder not in holders]
    if len(others) + 1 == len(folders):
        yield "/".join((*others, name))
