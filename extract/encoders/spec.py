"""What a spec is, in any library: text such as `timm:vit_base_patch14_dinov2?size=224`.

This module knows what specs have in common and helps to parse them. It knows no library.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import ClassVar, Literal, Self, TypeVar, get_args
from urllib.parse import parse_qsl

from sparc.common.files.paths import from_home
from sparc.common.streams.info import Modality
from sparc.common.streams.places import LOCAL_FOLDER
from sparc.common.text import listed

Pool = Literal["cls", "mean", "default"]
"""How tokens become one vector: the class token, the mean, or what the model itself does."""

Choice = TypeVar("Choice", bound=str)


class MalformedSpecError(ValueError):
    """A spec that does not follow its library's grammar: the message says why."""


class StreamSpec(ABC):
    """Which encoder a stream comes from; `str(spec)` gives the text back.

    Each library has a subclass, a frozen dataclass. It imports no model library, since the command
    line parses specs before it loads anything.
    """

    library: ClassVar[str]
    """What specs of the library begin with, before the colon."""
    grammar: ClassVar[str]
    """The form of its specs, as a message shows it."""
    may_run_transformers: ClassVar[bool] = True
    """Whether the library may call transformers, which must then run no code of a model."""

    @classmethod
    @abstractmethod
    def parse(cls, source: str) -> Self:
        """The spec whose text is `source` after the colon.

        Raises:
            MalformedSpecError: The text does not follow the grammar.
        """

    @property
    @abstractmethod
    def source(self) -> str:
        """What follows the colon, as `parse` reads it."""

    @property
    @abstractmethod
    def modality(self) -> Modality:
        """What the encoder reads."""

    @property
    @abstractmethod
    def place(self) -> str | None:
        """Where the model is, if the spec says so: a file, a folder, or a repository of a hub.

        None for a name in the library's own registry, which says where the weights are. Places
        that a cache or run names are opened only with the user's consent.
        """

    @property
    def runs_code(self) -> bool:
        """Whether the place holds Python code that building runs: never at an artefact's word."""
        return False

    @property
    def model_key(self) -> Hashable:
        """What the loaded model depends on: streams with equal keys share one."""
        return self

    @property
    def offline_advice(self) -> str:
        """What a user can do if a hub does not give the model."""
        return "name a local copy of the model instead"

    def absolute(self) -> Self:
        """The same with the absolute path of a local file or folder that holds the weights.

        Hub names and pretrained tags stay as they are, and so does a path that no spec can express.
        """
        absolute = self._with_absolute_paths()
        try:
            is_readable = type(self).parse(absolute.source) == absolute
        except MalformedSpecError:
            is_readable = False
        # A parent folder may have a question mark in its name, which most specs cannot express.
        return absolute if is_readable else self

    def _with_absolute_paths(self) -> Self:
        """The same with absolute paths; a library whose specs may name files overrides this."""
        return self

    def __str__(self) -> str:
        return f"{self.library}:{self.source}"


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of a spec, `?key=value&…`, as text by key."""

    values: Mapping[str, str]

    def number(self, key: str, *, smallest: int) -> int | None:
        """A whole number; None if the option is not given.

        Raises:
            MalformedSpecError: It is not a whole number, or is too small.
        """
        if key not in self.values:
            return None
        text = self.values[key]
        if not text.isdecimal() or int(text) < smallest:
            raise MalformedSpecError(f"{key} must be a whole number of at least {smallest}")
        return int(text)

    def pool(self, *, default: Pool) -> Pool:
        """The option `pool`.

        Raises:
            MalformedSpecError: There is no such pooling.
        """
        return self.choice("pool", get_args(Pool)) or default

    def choice(self, key: str, allowed: Sequence[Choice]) -> Choice | None:
        """One of some texts; None if the option is not given.

        Raises:
            MalformedSpecError: It is another text.
        """
        if key not in self.values:
            return None
        for choice in allowed:
            if choice == self.values[key]:
                return choice
        raise MalformedSpecError(f"{key} must be {listed(allowed, 'or')}")


def names_folder(name: str) -> bool:
    """Whether a model's name is that of a folder: no library has names that begin like a path."""
    return name.startswith((LOCAL_FOLDER, "/", "./", "../", "~"))


def local_folder(name: str) -> str:
    """The name of a folder as specs record it, `local-dir:FOLDER`, without `~`.

    Raises:
        MalformedSpecError: It is empty.
    """
    folder = from_home(name.removeprefix(LOCAL_FOLDER))
    if not folder:
        raise MalformedSpecError(f"a folder is missing after {LOCAL_FOLDER}")
    return f"{LOCAL_FOLDER}{folder}"


def split_tower(source: str, *, default: Modality) -> tuple[str, Modality]:
    """Split what follows the colon of a spec into the part before `#image` or `#text` and that."""
    before, mark, tower = source.rpartition("#")
    for modality in get_args(Modality):
        if mark and tower == modality:
            return before, modality
    return source, default


def split_options(source: str, allowed: Sequence[str] | None) -> tuple[str, Options]:
    """Split what follows the colon of a spec into the part before `?` and the options.

    Args:
        source: What follows the colon.
        allowed: The options that there are; None allows any.

    Raises:
        MalformedSpecError: An option is malformed or not allowed.
    """
    before, _, query = source.partition("?")
    try:
        values = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError:
        raise MalformedSpecError("an option must be key=value") from None
    for unknown in sorted(set(values).difference(values if allowed is None else allowed)):
        raise MalformedSpecError(f"unknown option {unknown!r}")
    return before, Options(values)


def join_options(before: str, options: Mapping[str, object]) -> str:
    """The inverse of `split_options`; an option whose value is None is left out."""
    query = "&".join(f"{key}={value}" for key, value in options.items() if value is not None)
    return f"{before}?{query}" if query else before
