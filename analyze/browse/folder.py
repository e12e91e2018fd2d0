"""A site's folder: written file by file, continued after an interruption, sealed at the end.

While a site is being made it has `building.json`, which says what it is of; when it is finished it
has `site.json` instead, with a digest of each file. `SITE.md` describes both. This module must not
know what the files mean.
"""

import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from sparc.common.documents import DocumentKind, seal
from sparc.common.errors import ReportError
from sparc.common.files.artefacts import beside_artefact
from sparc.common.files.durable import is_aside, is_leftover
from sparc.common.files.folder import Folder
from sparc.common.files.lock import LOCK_FILE
from sparc.common.parsing import parse_object
from sparc.common.progress import say
from sparc.common.text import shorten

KIND = DocumentKind("sparc-site", 1, ReportError)

SITE_FILE = "site.json"
BUILDING_FILE = "building.json"

CONTENT = ("index.html", "assets", "data", "images", BUILDING_FILE, SITE_FILE)
"""All that a site's folder holds. The record goes last when it is removed."""

_OWN = re.compile(
    r"index\.html|(?:building|site)\.json|assets/[\w./-]+\.(?:js|css)|data/[a-z]+\.js"
    r"|data/latents/\d+\.js|images/\d+/\d+\.webp"
)
"""The files of a site. Whatever else its folder holds is somebody's, and is never removed."""

_LARGEST = 1 << 31
"""Bytes of a site's longest file."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SiteSources:
    """What is at hand to make a site from, beside the report.

    Attributes:
        run: Whether the report's run is.
        pictures: Whether pictures are, from the cache or its dataset.
    """

    run: bool
    pictures: bool

    def offer_more_than(self, others: Mapping[str, Any]) -> bool:
        """Whether a site would show more than one that was made from others, as it says."""
        own = dataclasses.asdict(self)
        return any(own[name] and not others.get(name) for name in own)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SiteRecord:
    """What a site is of.

    Attributes:
        report: The report's folder.
        report_sha256: Identifies its tables.
        sources: What it is made from; where more is at hand, it is made again.
        settings: The settings that decide what is shown.
        versions: Version by package of what made the site; another one makes it again.
    """

    report: str
    report_sha256: str
    sources: SiteSources
    settings: Mapping[str, Any]
    versions: Mapping[str, str]


class SiteFolder:
    """A site that is being made, in a folder that is held for it.

    Args:
        folder: The folder, recognized by `recognize`.
        record: What it is to be of.

    Raises:
        ReportError: It holds a site of something else.
    """

    def __init__(self, folder: Folder, record: SiteRecord) -> None:
        self._folder, self._record = folder, record
        self._digests: dict[str, str] = {}
        self.bytes = 0
        """Bytes of the files that were written."""
        known = _read(folder)
        if known is not None:
            _refuse_other(folder, known, record)
        self._before: Mapping[str, str] | None = None
        if known is not None and folder.exists(SITE_FILE):
            self._before = known["files"]
        sources = known.get("sources") if known else None
        sources = sources if isinstance(sources, dict) else {}  # earlier sites have none
        self._complete = not record.sources.offer_more_than(sources)
        self._continued = known is not None and known["versions"] == dict(record.versions)

    def __str__(self) -> str:
        return str(self._folder)

    @property
    def finished(self) -> bool:
        """Whether it is whole, of these versions and of all that is at hand.

        What is damaged was removed if not.
        """
        if self._before is None:
            return False
        damaged = [name for name, digest in self._before.items() if self._digest(name) != digest]
        if not damaged and self._complete and self._continued:
            self._folder.remove(BUILDING_FILE)  # of a process that stopped after the last file
            return True
        for name in damaged:
            say(f"{self._folder}/{name} is missing or damaged: it is made again")
            self._folder.remove(name)
        return False

    def begin(self) -> None:
        """Note what the site will be of, before its first file is written."""
        self._folder.remove_partial_files()
        self._folder.write(BUILDING_FILE, seal(KIND.document(dataclasses.asdict(self._record))))
        self._folder.remove(SITE_FILE)

    def keep(self, name: str) -> bool:
        """Whether a file is there already, from before an interruption; it stays then.

        A file that another version of the program made does not stay.
        """
        digest = self._digest(name) if self._continued else None
        if digest is not None:
            self._digests[name] = digest
        return digest is not None

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all."""
        self._folder.write(name, content)
        self.bytes += len(content)
        self._digests[name] = hashlib.sha256(content).hexdigest()

    def finish(self) -> int:
        """Remove files of a site that this one does not have, and seal it.

        Returns:
            Its size in bytes.
        """
        wanted = {*self._digests, BUILDING_FILE, LOCK_FILE}
        for name in self._folder.files():
            if name not in wanted and _OWN.fullmatch(name):
                self._folder.remove(name)
        entries = dataclasses.asdict(self._record)
        files = dict(sorted(self._digests.items()))
        self._folder.write(SITE_FILE, seal(KIND.document({**entries, "files": files})))
        self._folder.remove(BUILDING_FILE)
        return self._folder.size()

    def _digest(self, name: str) -> str | None:
        try:
            content = self._folder.read(name, largest=_LARGEST)
        except FileNotFoundError:
            return None
        return hashlib.sha256(content).hexdigest()


def recognize(folder: Folder) -> None:
    """Refuse a folder that is neither a site, of anything, nor empty.

    Raises:
        ReportError: It holds something else, or a site of another version.
    """
    if _read(folder) is None:
        begun = (BUILDING_FILE, SITE_FILE, LOCK_FILE)
        foreign = next((name for name in _files(folder) if not is_leftover(name, begun)), "")
        if foreign:
            raise ReportError(
                f"{folder} is not empty and not a site (it holds {shorten(foreign, 80)}): choose "
                "another folder"
            )


def remove_site(folder: Folder) -> None:
    """Remove the site that a folder holds; nothing happens where there is none.

    Raises:
        ReportError: The folder holds something else, or something else besides; then all stays.
    """
    recognize(folder)
    own = (name for name in _files(folder) if not _OWN.fullmatch(name))
    if foreign := next((name for name in own if not _is_half_written(name)), ""):
        raise ReportError(beside_artefact(folder, foreign, "site"))
    for name in CONTENT:
        folder.remove(name)


def _files(folder: Folder) -> Iterator[str]:
    """The files of a folder but for its lock."""
    yield from (name for name in (folder.files() if folder.exists() else ()) if name != LOCK_FILE)


def _is_half_written(name: str) -> bool:
    """Whether a killed process left it while it wrote a file of a site."""
    return is_aside(name.rpartition("/")[2])


def _read(folder: Folder) -> dict[str, Any] | None:
    """What a folder says that its site is of; None where it says nothing.

    Raises:
        ReportError: It is of another version, or damaged.
    """
    for name in (SITE_FILE, BUILDING_FILE):
        if folder.exists(name):
            where = f"{folder}/{name}"
            try:
                return KIND.sealed_entries(parse_object(folder.read(name)), where=where)
            except ValueError as error:
                raise ReportError(
                    f"{where} is damaged ({error}): remove the site and make it again"
                ) from error
    return None


def _refuse_other(folder: Folder, known: Mapping[str, Any], record: SiteRecord) -> None:
    """Refuse to continue what was begun of another report or with other settings."""
    wanted = dataclasses.asdict(record)
    differences = (
        [("report", known["report"], record.report)]
        if known["report_sha256"] != (record.report_sha256)
        else [
            (name, known["settings"].get(name), value)
            for name, value in wanted["settings"].items()
            if known["settings"].get(name) != value
            and (name in known["settings"] or value)  # a setting that is newer than the site is off
        ]
    )
    for what, then, now in differences:
        if what == "report" and then == now:
            then, now = "as it was", "with other tables"
        raise ReportError(
            f"{folder} is a site of another report, or with other settings ({what}: {_said(then)} "
            f"there, {_said(now)} now): choose another folder, or --overwrite it"
        )


def _said(value: Any) -> str:
    """A setting in a message."""
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text or "(none)"
