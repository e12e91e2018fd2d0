"""Writing a report: the pieces of each step, the tables made of them, the summary last.

This module must not know how a table is computed.
"""

import dataclasses
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa

from sparc.analyze.config import AnalyzeConfig, deciding_settings
from sparc.analyze.measures.registry import table_names
from sparc.analyze.report import tables
from sparc.analyze.report.digests import (
    DIGESTS_FILE,
    LARGEST_TABLE,
    Digests,
    digest,
    is_intact,
    read_checked,
    read_digests,
    replace,
    write_digests,
)
from sparc.analyze.report.earlier import current_piece
from sparc.analyze.report.folder import SUMMARY_FILE, Report
from sparc.analyze.report.info import INFO_FILE, ReportInfo
from sparc.common.errors import ReportError, setting
from sparc.common.files.durable import is_leftover
from sparc.common.files.folder import Folder
from sparc.common.files.lock import LOCK_FILE, exclusive
from sparc.common.progress import say
from sparc.common.text import reason

PIECES = "pieces"


class ReportWriter:
    """A report that is being made; `open` begins or continues one.

    Args:
        folder: The report's folder.
        info: Its `report.json`.
        intact: The tables that are finished and as they were written.
    """

    def __init__(self, folder: Folder, info: ReportInfo, intact: frozenset[str]) -> None:
        self.folder = folder
        self.info = info
        self._intact = intact

    @classmethod
    def open(cls, folder: Folder, info: ReportInfo, wanted: Collection[str] = ()) -> "ReportWriter":
        """Begin a report, or continue one. Hold `sparc.common.files.lock.exclusive` around it.

        Of a finished report, damaged tables are removed, to be made again; the others stay. One
        that lacks a wanted table, or the note that explains why there is none, is continued: the
        measure is newer than the report.

        Args:
            folder: The report's folder.
            info: What the report is about.
            wanted: The tables that the report is to have.

        Raises:
            ReportError: The folder holds something else, or a report on something else.
        """
        recognize(folder)
        folder.remove_partial_files()
        _restore_info(folder, info)
        if folder.exists(INFO_FILE):
            _refuse_other_subject(folder, ReportInfo.read(folder), info)
        else:
            folder.write(INFO_FILE, info.to_json())
        intact = _keep_intact(folder)
        _reopen_incomplete(folder, info, wanted)
        writer = cls(folder, ReportInfo.read(folder), intact)
        if writer.finished:
            folder.remove(PIECES)  # it may have been interrupted just before
        else:
            _rewrite_earlier(folder, writer.info, sorted(intact))
            _rename_earlier_pieces(folder)
        return writer

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.folder.exists(SUMMARY_FILE)

    def has_pieces(self, step: str, names: Sequence[str]) -> bool:
        """Whether a step's pieces of these tables have been written, or the tables themselves."""
        return all(
            name in self._intact or _is_readable(self.folder, _piece(name, step)) for name in names
        )

    def write_piece(self, step: str, table: str, content: pa.Table) -> None:
        """Write a step's rows of a table."""
        self._write(_piece(table, step), table, content)

    def join(self, steps: Mapping[str, Sequence[str]]) -> None:
        """Join the pieces of all steps to tables.

        Args:
            steps: In order, the tables that each step has pieces of.
        """
        for table in table_names():
            pieces = [
                _read(self.folder, _piece(table, step))
                for step, names in steps.items()
                if table in names and table not in self._intact
            ]
            if pieces:
                self._write(tables.file_of(table), table, pa.concat_tables(pieces))

    def finish(self, summary: Mapping[str, float | None]) -> None:
        """Write `summary.json`: from then on the report is finished."""
        content = _summary_content(summary)
        names = [INFO_FILE, *_table_files(self.folder)]
        digests = {name: [digest(self.folder.read(name, largest=LARGEST_TABLE))] for name in names}
        write_digests(self.folder, {**digests, SUMMARY_FILE: [digest(content)]})
        self.folder.write(SUMMARY_FILE, content)
        self.folder.remove(PIECES)

    def add_figures(self, figures: Mapping[str, float | None]) -> None:
        """Add to the summary of a finished report the figures that it lacks.

        A report of an earlier version becomes one of today's then.

        Args:
            figures: All that its tables give.
        """
        report = Report(self.folder.location)
        summary = report.summary
        lacking = [name for name in figures if name not in summary]
        if lacking:
            say(f"{self.folder}/{SUMMARY_FILE} gets {', '.join(lacking)}")
            _rewrite_earlier(self.folder, report.info, report.tables)
            replace(self.folder, SUMMARY_FILE, _summary_content({**figures, **summary}))

    def _write(self, file: str, table: str, content: pa.Table) -> None:
        self.folder.write(file, tables.table_bytes(table, content, self.info.to_mapping()))


def add_table(
    report: Report,
    name: str,
    table: pa.Table,
    figures: Callable[[Folder], Mapping[str, float | None]],
    about: Mapping[str, Any],
) -> None:
    """Add a table to a finished report, or replace the one of that name, and its figures.

    A report of an earlier version becomes one of today's: a report is of one version.

    Args:
        report: The report.
        name: The table's name.
        table: Its content.
        figures: Makes the summary of a report's folder.
        about: The description in its schema: `Report.about`.

    Raises:
        LockedError: Another process is writing to the report.
        ReportError: The report is damaged.
    """
    with exclusive(report.folder, ReportInfo.read):
        report.check()
        _rewrite_earlier(report.folder, report.info, report.tables)
        replace(report.folder, tables.file_of(name), tables.table_bytes(name, table, about))
        replace(report.folder, SUMMARY_FILE, _summary_content(figures(report.folder)))


def recognize(folder: Folder) -> None:
    """Refuse a folder that is neither empty nor a report, whatever the report is about.

    Raises:
        ReportError: It holds something else, or a report of another version.
    """
    if folder.exists(INFO_FILE):
        if not _has_digests(folder):  # which a report with a damaged report.json is known by
            ReportInfo.read(folder)
    elif not _has_digests(folder):
        for name in folder.files():
            if name != LOCK_FILE and not is_leftover(name, (INFO_FILE, LOCK_FILE)):
                raise ReportError(
                    f"{folder} is not empty and not a report (it holds {name}): choose another"
                )


def _summary_content(summary: Mapping[str, float | None]) -> bytes:
    return (json.dumps(summary, indent=2, ensure_ascii=False) + "\n").encode()


# ---------------------------------------------------------------------- files of the folder


def _piece(table: str, step: str) -> str:
    return f"{PIECES}/{table}.{step}.parquet"


def _read(folder: Folder, file: str) -> pa.Table:
    try:
        with folder.open(file) as opened:
            return tables.read_table(opened, f"{folder}/{file}")
    except OSError as error:
        raise ReportError(f"cannot read {folder}/{file}: {reason(error)}") from error


def _is_readable(folder: Folder, file: str) -> bool:
    """Whether a piece exists and is whole: an interrupted command may leave a damaged one."""
    try:
        _read(folder, file)
    except ReportError:
        return False
    return True


def _table_files(folder: Folder) -> list[str]:
    """The files of the tables that a folder holds."""
    files = map(tables.file_of, table_names())
    return [file for file in files if folder.exists(file)]


def _has_digests(folder: Folder) -> bool:
    try:
        return SUMMARY_FILE in read_digests(folder)
    except ReportError:
        return False


# ---------------------------------------------------------------------- continuing a report


def _restore_info(folder: Folder, info: ReportInfo) -> None:
    """Write `report.json` of a finished report again if it was this and is damaged."""
    content = info.to_json()
    if folder.exists(DIGESTS_FILE):
        try:
            digests = read_digests(folder)
        except ReportError:
            return
        known = digest(content) in digests.get(INFO_FILE, ())
        if known and not is_intact(folder, INFO_FILE, digests):
            say(f"{folder}/{INFO_FILE} is missing or damaged: {tables.remedy(INFO_FILE)}")
            folder.write(INFO_FILE, content)


def _keep_intact(folder: Folder) -> frozenset[str]:
    """The finished tables that are as they were written; a finished report loses the others."""
    finished = folder.exists(SUMMARY_FILE)
    if not finished and not folder.exists(DIGESTS_FILE):
        return frozenset()  # what was joined before the interruption is joined again
    try:
        digests = read_digests(folder)
    except ReportError:
        digests = {}
    present = _table_files(folder)
    known = [
        table
        for table in table_names()
        if tables.file_of(table) in present or tables.file_of(table) in digests
    ]
    intact = frozenset(t for t in known if is_intact(folder, tables.file_of(t), digests))
    if finished:
        _reopen_damaged(folder, digests, [t for t in known if t not in intact])
    return intact


def _reopen_damaged(folder: Folder, digests: Digests, damaged: Sequence[str]) -> None:
    """Make a finished report with damaged files an unfinished one without these tables."""
    documents = [x for x in (INFO_FILE, SUMMARY_FILE) if not is_intact(folder, x, digests)]
    if damaged or documents:
        folder.remove(SUMMARY_FILE)
    for file in sorted(map(tables.file_of, damaged)):
        folder.remove(file)
        say(f"{folder}/{file} is missing or damaged: {tables.remedy(file)}")
    for file in documents:
        say(f"{folder}/{file} is damaged: {tables.remedy(file)}")


def _reopen_incomplete(folder: Folder, wanted: ReportInfo, tables_wanted: Collection[str]) -> None:
    """Continue a report that was finished before there were some tables, or notes on them.

    Its `report.json` then has today's notes and, where tables are added, today's versions.
    """
    recorded = ReportInfo.read(folder)
    finished = folder.exists(SUMMARY_FILE)
    held = read_digests(folder) if finished or _has_digests(folder) else None
    added = [t for t in sorted(tables_wanted) if held is not None and tables.file_of(t) not in held]
    if finished and not added and wanted.explained <= recorded.explained:
        return
    renewed = dataclasses.replace(
        recorded,
        notes=wanted.notes,
        settings={**wanted.settings, **recorded.settings},
        versions=wanted.versions if added else recorded.versions,
    )
    if added:
        say(f"{folder} was made before there were all of today's tables: adding {', '.join(added)}")
    elif finished:
        say(f"{folder}/{INFO_FILE} gets today's notes")
    folder.remove(SUMMARY_FILE)
    if renewed != recorded:
        _write_info(folder, renewed)


def _write_info(folder: Folder, info: ReportInfo) -> None:
    try:
        replace(folder, INFO_FILE, info.to_json())
    except ReportError:  # an unfinished report need not have digests
        folder.write(INFO_FILE, info.to_json())


def _rewrite_earlier(folder: Folder, info: ReportInfo, names: Sequence[str]) -> None:
    """Write what is of an earlier version as it is written today; nothing is measured again.

    Args:
        folder: The report's folder.
        info: Its `report.json`.
        names: Its intact tables. They may have been rewritten before an interruption.
    """
    if not info.is_current:
        _write_info(folder, info)
    digests = read_digests(folder) if names else {}
    for file in map(tables.file_of, names):
        written = read_checked(folder, file, digests, advice=tables.advice(file))
        content = tables.rewritten(written, f"{folder}/{file}")
        if content is not None:
            replace(folder, file, content)


def _rename_earlier_pieces(folder: Folder) -> None:
    """Give an interrupted report's pieces the names of today."""
    for file in folder.files(PIECES):
        if (current := current_piece(file)) != file:
            folder.write(current, folder.read(file, largest=LARGEST_TABLE))
            folder.remove(file)


def _refuse_other_subject(folder: Folder, recorded: ReportInfo, wanted: ReportInfo) -> None:
    # What an earlier version did without a setting is what the setting's default does.
    settings = {**deciding_settings(AnalyzeConfig()), **recorded.settings}
    for what, then, now in (
        ("model", recorded.model_sha256, wanted.model_sha256),
        ("rows of the cache", recorded.manifest_digest, wanted.manifest_digest),
        ("streams", list(recorded.streams), list(wanted.streams)),
        ("encoders or features", dict(recorded.stream_digests), dict(wanted.stream_digests)),
        *((name, settings.get(name), value) for name, value in wanted.settings.items()),
    ):
        if then != now:
            raise ReportError(
                f"{folder} is a report on something else, or with other settings ({what}: {then} "
                f"there, {now} now): choose another folder, or remove this report with "
                f"{setting('--overwrite', 'overwrite=True')}"
            )
