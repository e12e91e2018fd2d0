"""Captions of an image in the file of its name: text, one a line, or a JSON object."""

import unicodedata
from collections.abc import Mapping, Sequence
from functools import cached_property

from sparc.common.errors import DatasetError, UnavailableError
from sparc.common.text import shorten
from sparc.extract.datasets.account import Account
from sparc.extract.datasets.metadata import parse_json
from sparc.extract.datasets.safe_folder import LARGEST_TEXT, SafeFolder, split_suffix
from sparc.extract.datasets.tables.cells import captions_of
from sparc.extract.datasets.tables.known_names import CAPTIONS, known_among

SUFFIXES = (".txt", ".caption", ".json")
"""Of the files beside images; the earlier wins."""

_KIND = "files beside images"


class Sidecars:
    """The files beside images that may hold their captions.

    Args:
        folder: The dataset.
        account: Where files that cannot be used are counted.
    """

    def __init__(self, folder: SafeFolder, account: Account) -> None:
        self._folder = folder
        self._omissions = account.omissions(_KIND)
        self._files: Mapping[str, dict[str, str]] = {suffix: {} for suffix in SUFFIXES}
        for file in folder.files:
            stem, suffix = split_suffix(file)
            if suffix in self._files:
                self._files[suffix].setdefault(stem, file)

    def are_usual(self, images: Sequence[str]) -> bool:
        """Whether most images have a file of text beside them."""
        return 2 * sum(self._file(image, ".txt") is not None for image in images) > len(images)

    def captions(self, image_path: str) -> Sequence[str]:
        """The captions of an image; none where no file has some."""
        for suffix in SUFFIXES:
            file = self._file(image_path, suffix)
            if file is not None and (captions := self._read(file, suffix)):
                return captions
        return ()

    def _file(self, image_path: str, suffix: str) -> str | None:
        """The file of an image's name, or of its name with the suffix, in any Unicode form."""
        files = self._files[suffix]
        if not files:
            return None
        stem, _ = split_suffix(image_path)
        exact = files.get(stem) or files.get(image_path)
        if exact is not None or image_path.isascii():
            return exact
        return self._normal[suffix].get(_normal(stem))

    @cached_property
    def _normal(self) -> Mapping[str, Mapping[str, str]]:
        """The files whose names are not ASCII, by suffix and normal form of the stem."""
        return {
            suffix: {_normal(stem): file for stem, file in files.items() if not stem.isascii()}
            for suffix, files in self._files.items()
        }

    def _read(self, file: str, suffix: str) -> Sequence[str]:
        try:
            data = self._folder.read(file, largest=LARGEST_TEXT)
            text = _decoded(data)
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
        if not isinstance(document, dict):
            return ()
        for key in known_among(list(document), CAPTIONS):
            captions, fault = captions_of(document[key])
            if fault:
                self._omissions.add("caption", fault, file)
            if captions:
                return captions
        return ()


def _decoded(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    return data.decode("utf-8-sig", errors="replace")


def _normal(stem: str) -> str:
    return unicodedata.normalize("NFC", stem)
