"""The JSON documents of artefacts: what kind and version they are, and whether they are intact.

A document that cannot be used says which of three things it is: of another kind or version of the
program, with a setting that this version does not know, or damaged. Only a parse or a digest shows
damage. (A setting that was renamed is read under both names: see `former` of
`sparc.common.config.option`.)

Many documents are sealed: a flipped bit in a setting often leaves another valid setting, so they
carry their own SHA-256. It is the entry `sha256`, over all other entries as JSON with sorted keys
and without spaces.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from sparc.common.config import from_mapping
from sparc.common.errors import ConfigError, SparcError, UnknownSettingError
from sparc.common.parsing import parse_object
from sparc.common.text import listed, shorten

T = TypeVar("T")

DIGEST = "sha256"


@dataclasses.dataclass(frozen=True)
class DocumentKind:
    """A kind of document: what its entries `format` and `version` must say.

    Attributes:
        format: The kind's name.
        version: The version that is written, an integer.
        error: What is raised where another program, or version of the program, made a document.
        earlier: Further versions that are read.
    """

    format: str
    version: int
    error: type[SparcError]
    earlier: tuple[int, ...] = ()

    def document(self, entries: Mapping[str, Any]) -> dict[str, Any]:
        """The entries with what says their kind and version, which come first."""
        return {"format": self.format, "version": self.version, **entries}

    def entries(self, document: Mapping[str, Any], *, where: str) -> dict[str, Any]:
        """The opposite of `document`.

        Args:
            document: A JSON object.
            where: The document's path, for the error message.

        Raises:
            SparcError: It is of another kind or version: `error`.
            ValueError: It says neither.
        """
        entries = dict(document)
        try:
            kind, version = entries.pop("format"), entries.pop("version")
        except KeyError as error:
            raise ValueError(f"it names no {error.args[0]}") from error
        if kind != self.format:
            raise self.error(f"{where} is in format {_shown(kind)}, not {self.format!r}")
        if type(version) is not int or version not in (*self.earlier, self.version):
            read = listed([str(version) for version in (*self.earlier, self.version)])
            raise self.error(
                f"{where} was made by another version of SPARC (format {_shown(version)}; this one "
                f"reads {read}): use that version, or make it again"
            )
        return entries

    def sealed_entries(self, document: Mapping[str, Any], *, where: str) -> dict[str, Any]:
        """The entries of a sealed document without the digest; raises as `entries` does.

        Raises:
            ValueError: Besides, it is not the one that was sealed.
        """
        entries = self.entries(document, where=where)
        without_digest(document)  # after the version: another one may seal in another way
        del entries[DIGEST]
        return entries

    def sealed(self, kind: type[T], content: bytes, *, where: str) -> T:
        """What a sealed document says, as a frozen dataclass of settings.

        Args:
            kind: The dataclass.
            content: The document.
            where: Its path, for the error message.

        Raises:
            SparcError: It is of another kind or version, or of a newer one: `error`.
            ValueError: It is not the one that was sealed.
        """
        entries = self.sealed_entries(parse_object(content), where=where)
        try:
            return from_mapping(kind, entries, source=where)
        except ConfigError as error:  # the seal holds
            raise self.newer(error, where=where) from error

    def newer(self, error: ConfigError, *, where: str) -> SparcError:
        """The error for an intact document with a setting or value that this version lacks."""
        if isinstance(error, UnknownSettingError):
            what = f"setting {_shown(error.setting)} is unknown to this version of SPARC"
        else:
            what = f"{error}, in this version of SPARC"
        return self.error(f"{where}: {what}; it was made by a newer one: use that one")


# ---------------------------------------------------------------------- seals


def seal(document: Mapping[str, Any]) -> bytes:
    """A document with its digest, as indented JSON."""
    return (json.dumps(with_digest(document), indent=2, ensure_ascii=False) + "\n").encode()


def unseal(content: bytes) -> dict[str, Any]:
    """A document without its digest.

    Raises:
        ValueError: It is no JSON object, or not the one that was sealed.
    """
    return without_digest(parse_object(content))


def with_digest(document: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a document and their digest, for a part of a larger one."""
    return {**document, DIGEST: _digest(document)}


def without_digest(document: Mapping[str, Any]) -> dict[str, Any]:
    """The opposite of `with_digest`.

    Raises:
        ValueError: They are not the entries that were sealed.
    """
    entries = {key: value for key, value in document.items() if key != DIGEST}
    if document.get(DIGEST) != _digest(entries):
        raise ValueError(f"its content does not fit its {DIGEST}")
    return entries


def _digest(document: Mapping[str, Any]) -> str:
    plain = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(plain.encode()).hexdigest()


def _shown(value: Any) -> str:
    return shorten(repr(value), 60)
