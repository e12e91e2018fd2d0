"""A report's folder: what it is about, its tables and its codes. The schemas are in `REPORT.md`.

This module must not know how a table is computed: that is `sparc.analyze.run`.
"""

import dataclasses
import io
import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from sparc.analyze.config import ELSEWHERE, AnalyzeConfig
from sparc.analyze.measures.registry import table_names
from sparc.analyze.report.digests import (
    DIGESTS_FILE,
    digest,
    is_intact,
    read_checked,
    read_digests,
    replace,
    write_digests,
)
from sparc.analyze.report.notes import Note
from sparc.common.config import from_mapping, to_mapping
from sparc.common.documents import parse_object
from sparc.common.errors import ConfigError, ReportError
from sparc.common.files.durable import is_leftover
from sparc.common.files.folder import Folder
from sparc.common.files.lock import LOCK_FILE, exclusive
from sparc.common.files.parquet import read_parquet
from sparc.common.progress import say
from sparc.common.text import reason
from sparc.common.versions import software_versions

if TYPE_CHECKING:  # it brings PyTorch along, and a summary needs the tables alone
    from sparc.analyze.codes.store import CodeStore

FORMAT = "sparc-report"
VERSION = 2

INFO_FILE = "report.json"
SUMMARY_FILE = "summary.json"
PIECES = "pieces"
METADATA_KEY = b"sparc"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportInfo:
    """What `report.json` says.

    Attributes:
        run: The run, saved model or hub repository.
        model_sha256: Digest of the trained weights.
        cache: The cache that was analysed.
        manifest_digest: Identifies its rows.
        streams: The streams that were analysed, in the model's order.
        stream_digests: By stream, the digest of its encoder's weights, where the cache knows it.
        latents: L.
        k: Latents selected for a row.
        selection: How the model was trained to select: `global` or `local`.
        rows: Rows that were analysed.
        settings: The settings that decide what is measured.
        notes: What was left out or approximated, and why.
        versions: Version by package.
    """

    run: str
    model_sha256: str
    cache: str
    manifest_digest: str
    streams: tuple[str, ...]
    stream_digests: Mapping[str, str]
    latents: int
    k: int
    selection: str
    rows: int
    settings: Mapping[str, Any]
    notes: tuple[Note, ...]
    versions: Mapping[str, str]

    def to_mapping(self) -> dict[str, Any]:
        """The content of `report.json` but for its format, as plain JSON values."""
        return {**to_mapping(self), "notes": [note.to_json() for note in self.notes]}

    def to_json(self) -> bytes:
        """The content of `report.json`."""
        document = {"format": FORMAT, "version": VERSION, **self.to_mapping()}
        return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()

    @classmethod
    def read(cls, folder: Folder) -> "ReportInfo":
        """Read `report.json`.

        Raises:
            ReportError: There is none, it is damaged or of another version.
        """
        try:
            document = parse_object(folder.read(INFO_FILE))
            found = document.pop("format", None), document.pop("version", None)
        except FileNotFoundError as error:
            raise ReportError(f"{folder} is not a report: no {INFO_FILE}") from error
        except ValueError as error:
            raise ReportError(
                f"{folder}/{INFO_FILE} is not readable ({error}): remove the report and run again"
            ) from error
        if found != (FORMAT, VERSION):
            raise ReportError(
                f"{folder} is in format {found[0]!r} version {found[1]!r}; this SPARC reads "
                f"version {VERSION}: use the version of SPARC that wrote it"
            )
        try:
            if isinstance(document.get("notes"), list):
                notes = [Note.from_json(n, source=f"{INFO_FILE}: notes") for n in document["notes"]]
                document["notes"] = notes
            return from_mapping(cls, document, source=INFO_FILE)
        except ConfigError as error:
            raise ReportError(
                f"{folder}/{INFO_FILE} is damaged ({error}): remove the report and run again"
            ) from error


def deciding_settings(config: AnalyzeConfig) -> dict[str, Any]:
    """The settings that a report is known by."""
    return {name: value for name, value in to_mapping(config).items() if name not in ELSEWHERE}


def described(content: pa.Table, table: str, about: Mapping[str, Any]) -> pa.Table:
    """A table with what it is about in its schema, as `REPORT.md` says; other keys stay.

    Args:
        content: The table.
        table: Its name.
        about: What it is about, as plain JSON values.
    """
    document = {"format": FORMAT, "version": VERSION, "table": table, **about}
    key = {METADATA_KEY: json.dumps(document, ensure_ascii=False).encode()}
    return content.replace_schema_metadata({**(content.schema.metadata or {}), **key})


def about_command(name: str, config: Any) -> dict[str, Any]:
    """What the schema of a table that another command than `run` makes says of that command."""
    return {"name": name, "settings": to_mapping(config), "versions": software_versions()}


class Report:
    """A finished report, opened for reading.

    Args:
        location: The report's folder or URL.

    Raises:
        ReportError: There is none, or it has not been finished.
    """

    def __init__(self, location: str | os.PathLike[str]) -> None:
        self.folder = Folder(location)
        self.info = ReportInfo.read(self.folder)
        if not self.folder.exists(SUMMARY_FILE):
            command = shlex.join(
                ["sparc-analyze", "run", self.info.run, self.info.cache, str(self.folder)]
            )
            raise ReportError(
                f"{self.folder} has not been finished: run the same `{command}` again"
            )
        self._digests = read_digests(self.folder)
        read_checked(self.folder, INFO_FILE, self._digests)

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that this report holds."""
        return tuple(name for name in table_names() if f"{name}.parquet" in self._digests)

    def table(self, name: str) -> pa.Table:
        """A table.

        Raises:
            ReportError: This report has no such table; says why where that is known. Or the table
                is damaged.
        """
        if name not in self.tables:
            why = "".join(f"; {note.text}" for note in self.info.notes if name in note.tables)
            raise ReportError(
                f"{self.folder} has no table {name!r}; it has {', '.join(self.tables)}{why}"
            )
        content = read_checked(self.folder, f"{name}.parquet", self._digests)
        try:
            return read_parquet(io.BytesIO(content))
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise ReportError(
                f"{self.folder}/{name}.parquet is not readable as Parquet: {reason(error)}"
            ) from error

    def about(self, command: str, config: Any) -> dict[str, Any]:
        """What the schema says of a table that another command makes from this report.

        Args:
            command: The command's name.
            config: Its settings.
        """
        made_by = {**about_command(command, config), "report": str(self.folder)}
        return {**self.info.to_mapping(), "command": made_by}

    @cached_property
    def summary(self) -> Mapping[str, float | None]:
        """The headline figures by name, as in `summary.json`.

        Raises:
            ReportError: They are damaged.
        """
        content = read_checked(self.folder, SUMMARY_FILE, self._digests)
        try:
            document = parse_object(content)
        except ValueError as error:
            raise ReportError(f"{self.folder}/{SUMMARY_FILE} is damaged: {error}") from error
        if not all(value is None or type(value) in (int, float) for value in document.values()):
            raise ReportError(f"{self.folder}/{SUMMARY_FILE} is damaged: a figure is no number")
        return document

    def check(self) -> None:
        """Read every file but the codes.

        Raises:
            ReportError: One is missing or damaged.
        """
        for name in self._digests:
            read_checked(self.folder, name, self._digests)

    @cached_property
    def codes(self) -> "CodeStore":
        """The sparse codes."""
        from sparc.analyze.codes.store import CodeStore

        return CodeStore(self.folder)


class ReportWriter:
    """Begins a report, or goes on with one. Hold `sparc.common.files.lock.exclusive` around it.

    Of a finished report it keeps the tables that are intact, and has the others made anew.

    Args:
        folder: The report's folder.
        info: What the report is about.

    Raises:
        ReportError: The folder holds something else, or a report on something else.
    """

    def __init__(self, folder: Folder, info: ReportInfo) -> None:
        self.folder = folder
        recognize(folder)
        folder.remove_partial_files()
        _restore(folder, info)
        if folder.exists(INFO_FILE):
            _refuse_other(folder, ReportInfo.read(folder), info)
        else:
            folder.write(INFO_FILE, info.to_json())
        self.info = ReportInfo.read(folder)
        self._intact = self._intact_tables()
        if self.finished:
            folder.remove(PIECES)  # it may have been interrupted just before

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.folder.exists(SUMMARY_FILE)

    def has_pieces(self, step: str, tables: Sequence[str]) -> bool:
        """Whether a step's pieces of some tables have been written, or the tables themselves."""
        return all(
            table in self._intact or _is_readable(self.folder, _piece(table, step))
            for table in tables
        )

    def write_piece(self, step: str, table: str, content: pa.Table) -> None:
        """Write what a step adds to a table."""
        self._write(_piece(table, step), table, content)

    def join(self, steps: Mapping[str, Sequence[str]]) -> None:
        """Put the pieces of all steps together.

        Args:
            steps: In order, the tables that each step has pieces of.
        """
        for table in table_names():
            pieces = [
                _read(self.folder, _piece(table, step))
                for step, tables in steps.items()
                if table in tables and table not in self._intact
            ]
            if pieces:
                self._write(f"{table}.parquet", table, pa.concat_tables(pieces))

    def finish(self, summary: Mapping[str, float | None]) -> None:
        """Write `summary.json`: from then on the report is finished."""
        content = _summary_content(summary)
        names = [INFO_FILE, *(f"{t}.parquet" for t in table_names() if self._has(f"{t}.parquet"))]
        digests = {name: [digest(self.folder.read(name))] for name in names}
        write_digests(self.folder, {**digests, SUMMARY_FILE: [digest(content)]})
        self.folder.write(SUMMARY_FILE, content)
        self.folder.remove(PIECES)

    def _intact_tables(self) -> set[str]:
        """The tables that were finished and are as they were written; damaged ones are removed."""
        known = {
            f"{table}.parquet": table for table in table_names() if self._has(f"{table}.parquet")
        }
        if not self._has(DIGESTS_FILE) and not self.finished:
            return set()  # not finished yet: what is joined is joined again
        try:
            digests = read_digests(self.folder)
        except ReportError:
            digests = {}
        known |= {
            f"{table}.parquet": table for table in table_names() if f"{table}.parquet" in digests
        }
        intact = {name for name in known if is_intact(self.folder, name, digests)}
        whole = [is_intact(self.folder, name, digests) for name in (INFO_FILE, SUMMARY_FILE)]
        if self.finished and (len(intact) < len(known) or not all(whole)):
            self.folder.remove(SUMMARY_FILE)
            for name in sorted(known.keys() - intact):
                self.folder.remove(name)
                say(f"{self.folder}/{name} is missing or damaged: {_remedy(name)}")
            for name, fine in zip((INFO_FILE, SUMMARY_FILE), whole, strict=True):
                if not fine:
                    say(f"{self.folder}/{name} is damaged: {_remedy(name)}")
        return {known[name] for name in intact}

    def _has(self, name: str) -> bool:
        return self.folder.exists(name)

    def _write(self, name: str, table: str, content: pa.Table) -> None:
        self.folder.write(name, _table_content(table, content, self.info.to_mapping()))


def add_table(
    report: Report,
    name: str,
    table: pa.Table,
    figures: Callable[[Folder], Mapping[str, float | None]],
    about: Mapping[str, Any],
) -> None:
    """Add a table to a finished report, or replace the one of that name, and its figures.

    Args:
        report: The report.
        name: A table that a measure declares.
        table: Its content.
        figures: Makes the summary of a report's folder.
        about: What its schema says: `Report.about`.

    Raises:
        LockedError: Another process is writing to the report.
        ReportError: The report is damaged.
    """
    with exclusive(report.folder, ReportInfo.read):
        report.check()
        replace(report.folder, f"{name}.parquet", _table_content(name, table, about))
        replace(report.folder, SUMMARY_FILE, _summary_content(figures(report.folder)))


def _summary_content(summary: Mapping[str, float | None]) -> bytes:
    return (json.dumps(summary, indent=2, ensure_ascii=False) + "\n").encode()


def _table_content(table: str, content: pa.Table, about: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(
        described(content, table, about),
        buffer,
        compression="zstd",
        write_page_checksum=True,
    )
    return buffer.getvalue()


def _piece(table: str, step: str) -> str:
    return f"{PIECES}/{table}.{step}.parquet"


def _read(folder: Folder, name: str) -> pa.Table:
    try:
        with folder.open(name) as file:
            return read_parquet(file)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise ReportError(f"{folder}/{name} is not readable as Parquet: {reason(error)}") from error


def _is_readable(folder: Folder, name: str) -> bool:
    """Whether a piece is there, and whole; what an interrupted command left may be damaged too."""
    try:
        _read(folder, name)
    except ReportError:
        return False
    return True


def _remedy(name: str) -> str:
    if name == "localization.parquet":
        return "run `sparc-analyze localize` with --report again"
    return "it is made anew"


def _restore(folder: Folder, info: ReportInfo) -> None:
    """Write `report.json` of a finished report again if it was this and is damaged."""
    content = info.to_json()
    if folder.exists(DIGESTS_FILE):
        try:
            digests = read_digests(folder)
        except ReportError:
            return
        known = digest(content) in digests.get(INFO_FILE, ())
        if known and not is_intact(folder, INFO_FILE, digests):
            say(f"{folder}/{INFO_FILE} is missing or damaged: it is made anew")
            folder.write(INFO_FILE, content)


def recognize(folder: Folder) -> None:
    """Refuse a folder that is neither a report, on anything, nor empty.

    Raises:
        ReportError: It holds something else, or a report of another version.
    """
    if folder.exists(INFO_FILE):
        if not _has_digests(folder):  # which a report with a damaged report.json is known by
            ReportInfo.read(folder)
    elif not _has_digests(folder):
        _refuse_other_content(folder)


def _has_digests(folder: Folder) -> bool:
    try:
        return SUMMARY_FILE in read_digests(folder)
    except ReportError:
        return False


def _refuse_other_content(folder: Folder) -> None:
    for name in folder.files():
        if name != LOCK_FILE and not is_leftover(name, (INFO_FILE, LOCK_FILE)):
            raise ReportError(
                f"{folder} is not empty and not a report (it holds {name}): choose another"
            )


def _refuse_other(folder: Folder, found: ReportInfo, wanted: ReportInfo) -> None:
    for what, a, b in (
        ("model", found.model_sha256, wanted.model_sha256),
        ("rows of the cache", found.manifest_digest, wanted.manifest_digest),
        ("streams", list(found.streams), list(wanted.streams)),
        ("encoders", dict(found.stream_digests), dict(wanted.stream_digests)),
        *((name, found.settings.get(name), value) for name, value in wanted.settings.items()),
    ):
        if a != b:
            raise ReportError(
                f"{folder} is a report on something else, or with other settings ({what}: {a} "
                f"there, {b} now): choose another folder"
            )
