"""What a format of dictionaries does."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from sparc.common.errors import DictionaryError, setting
from sparc.common.files.folder import Folder
from sparc.common.streams.info import StreamInfo
from sparc.train.dictionaries.dictionary import Dictionary
from sparc.train.dictionaries.formats.given import Given, listing
from sparc.train.dictionaries.formats.registry import FORMATS, WRITABLE


@dataclasses.dataclass(frozen=True, kw_only=True)
class About:
    """What is known about a dictionary that is written, beside its numbers.

    Attributes:
        name: The stream's name.
        stream: What made its features, where that is known.
        source_sha256: Digest of the model that the dictionary is a part of.
        selection: How that model selects, a name in `SELECTORS`.
        version: SPARC's version.
    """

    name: str
    stream: StreamInfo | None
    source_sha256: str
    selection: str
    version: str


class Format(ABC):
    """The files of a program that trains dictionaries of one stream."""

    @abstractmethod
    def recognizes(self, given: Given) -> bool:
        """Whether a file or folder is of this format, readable or not.

        Raises:
            DictionaryError: What it asks for cannot be read: then it is not of this format.
        """

    @abstractmethod
    def read(self, given: Given, k: int) -> Dictionary:
        """Read a dictionary.

        Args:
            given: A file or folder that was recognized, or that the user says is one.
            k: How many latents a row uses, as the user says; 0: as the files say.

        Raises:
            DictionaryError: It is none, or no model of SPARC can do what it does.
        """


class WritableFormat(Format):
    """A format that SPARC writes."""

    files: ClassVar[tuple[str, ...]]
    """What `write` writes; the last one makes the dictionary whole."""
    load: ClassVar[str]
    """How the program loads them and encodes `features`, Python with `FOLDER` for the folder."""

    @abstractmethod
    def write(self, dictionary: Dictionary, folder: Folder, about: About) -> None:
        """Write a dictionary's files into a folder that exists, `files[-1]` last."""

    @abstractmethod
    def written_from(self, folder: Folder) -> str:
        """`About.source_sha256` of what a folder holds; empty where SPARC did not write it."""

    def differences(self, dictionary: Dictionary) -> Sequence[str]:
        """In sentences, where the codes of the written one are others."""
        del dictionary
        return ()

    def remarks(self, dictionary: Dictionary) -> Sequence[str]:
        """In sentences, what else a user of the written one should know."""
        del dictionary
        return ()


def format_of(name: str) -> Format:
    """The format of a name in `FORMATS`."""
    result: Format = FORMATS[name].load()()
    return result


def writable_format_of(name: str) -> WritableFormat:
    """The format of a name in `WRITABLE`."""
    result: WritableFormat = WRITABLE[name].load()()
    return result


def _recognizes(name: str, given: Given) -> bool:
    try:
        return format_of(name).recognizes(given)
    except DictionaryError:  # it asked a folder, or a file of another kind, for its tensors
        return False


def recognized_format(given: Given) -> str:
    """The name of the one format that recognizes a file or folder.

    Raises:
        DictionaryError: None does, or several do.
    """
    names = [name for name in FORMATS if _recognizes(name, given)]
    if len(names) == 1:
        return names[0]
    if names:
        raise DictionaryError(
            f"{given} may be of {' or '.join(names)}: say which with {setting('--from', 'format=')}"
        )
    held = listing(given.tensors())  # a file that is no file of tensors says so itself
    raise DictionaryError(
        f"{given} is of no format that is read here ({', '.join(FORMATS)}): it holds {held}"
    )
