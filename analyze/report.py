"""A report's folder: what it is about, its tables and its codes. The schemas are in `REPORT.md`.

This module must not know how a table is computed: that is `sparc.analyze.analysis`.
"""

import dataclasses
import importlib.metadata
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from sparc.analyze.config import ELSEWHERE, AnalyzeConfig
from sparc.common.config import to_mapping
from sparc.common.errors import ReportError
from sparc.common.lock import exclusive
from sparc.common.storage import Folder

if TYPE_CHECKING:  # it brings PyTorch along, and a summary needs the tables alone
    from sparc.analyze.codes import CodeStore

FORMAT = "sparc-report"
VERSION = 1

INFO_FILE = "report.json"
SUMMARY_FILE = "summary.json"
PIECES = "pieces"
METADATA_KEY = b"sparc"

TABLES = (
    "agreement",
    "alive",
    "classification",
    "cofiring",
    "latents",
    "left_out_reconstruction",
    "left_out_selection",
    "naming",
    "localization",
    "monosemanticity",
    "monosemanticity_means",
    "overlap",
    "overlap_means",
    "probe",
    "purity",
    "purity_means",
    "reconstruction",
    "retrieval",
    "selection",
    "streams",
)
"""Every table that a report may hold."""


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
    notes: tuple[str, ...]
    versions: Mapping[str, str]

    def to_json(self) -> bytes:
        """The content of `report.json`."""
        document = {"format": FORMAT, "version": VERSION, **to_mapping(self)}
        return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()

    @classmethod
    def read(cls, folder: Folder) -> "ReportInfo":
        """Read `report.json`.

        Raises:
            ReportError: There is none, it is damaged or of another version.
        """
        try:
            document = json.loads(folder.read(INFO_FILE))
            found = document.pop("format", None), document.pop("version", None)
        except FileNotFoundError as error:
            raise ReportError(f"{folder} is not a report: no {INFO_FILE}") from error
        except (ValueError, AttributeError, TypeError) as error:
            raise ReportError(f"{folder}/{INFO_FILE} is not readable: {error}") from error
        if found != (FORMAT, VERSION):
            raise ReportError(
                f"{folder} is in format {found[0]!r} version {found[1]!r}; this SPARC reads "
                f"version {VERSION}: use the version of SPARC that wrote it"
            )
        try:
            plain: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in document.items()
            }
            return cls(**plain)
        except TypeError as error:
            raise ReportError(f"{folder}/{INFO_FILE} is damaged: {error}") from error


def deciding_settings(config: AnalyzeConfig) -> dict[str, Any]:
    """The settings that a report is known by."""
    return {name: value for name, value in to_mapping(config).items() if name not in ELSEWHERE}


def software_versions() -> dict[str, str]:
    """Versions of what has influence on a report."""
    packages = ("sparc", "numpy", "pyarrow", "scipy", "torch", "zarr")
    return {package: importlib.metadata.version(package) for package in packages}


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
            raise ReportError(
                f"{self.folder} has not been finished: run the same `sparc-analyze run "
                f"{self.info.run} {self.info.cache} {self.folder}` again"
            )

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that this report holds."""
        return tuple(name for name in TABLES if self.folder.exists(f"{name}.parquet"))

    def table(self, name: str) -> pa.Table:
        """A table.

        Raises:
            ReportError: This report has no such table; says why where that is known.
        """
        if name not in self.tables:
            reason = "".join(f"; {note}" for note in self.info.notes if name in note)
            raise ReportError(
                f"{self.folder} has no table {name!r}; it has {', '.join(self.tables)}{reason}"
            )
        return _read(self.folder, f"{name}.parquet")

    @cached_property
    def summary(self) -> Mapping[str, float | None]:
        """The headline figures by name, as in `summary.json`."""
        document: dict[str, float | None] = json.loads(self.folder.read(SUMMARY_FILE))
        return document

    @cached_property
    def codes(self) -> "CodeStore":
        """The sparse codes."""
        from sparc.analyze.codes import CodeStore

        return CodeStore(self.folder)


class ReportWriter:
    """Begins a report, or goes on with one. Hold `sparc.common.lock.exclusive` around it.

    Args:
        folder: The report's folder.
        info: What the report is about.

    Raises:
        ReportError: The folder holds something else, or a report on something else.
    """

    def __init__(self, folder: Folder, info: ReportInfo) -> None:
        self.folder = folder
        folder.remove_partial_files()
        if folder.exists(INFO_FILE):
            _refuse_other(folder, ReportInfo.read(folder), info)
        else:
            _refuse_other_content(folder)
            folder.write(INFO_FILE, info.to_json())
        self.info = ReportInfo.read(folder)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.folder.exists(SUMMARY_FILE)

    def has_pieces(self, step: str, tables: Sequence[str]) -> bool:
        """Whether a step's pieces of some tables have been written."""
        return all(self.folder.exists(_piece(table, step)) for table in tables)

    def write_piece(self, step: str, table: str, content: pa.Table) -> None:
        """Write what a step adds to a table."""
        self._write(_piece(table, step), table, content)

    def join(self, steps: Mapping[str, Sequence[str]]) -> None:
        """Put the pieces of all steps together.

        Args:
            steps: In order, the tables that each step has pieces of.
        """
        for table in TABLES:
            pieces = [
                _read(self.folder, _piece(table, step))
                for step, tables in steps.items()
                if table in tables
            ]
            if pieces:
                self._write(f"{table}.parquet", table, pa.concat_tables(pieces))

    def finish(self, summary: Mapping[str, float | None]) -> None:
        """Write `summary.json`: from then on the report is finished."""
        content = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
        self.folder.write(SUMMARY_FILE, content.encode())
        self.folder.remove(PIECES)

    def _write(self, name: str, table: str, content: pa.Table) -> None:
        _write(self.folder, self.info, name, table, content)


def add_table(
    report: Report,
    name: str,
    table: pa.Table,
    figures: Callable[[Folder], Mapping[str, float | None]],
) -> None:
    """Add a table to a finished report, or replace the one of that name, and its figures.

    Args:
        report: The report.
        name: One of `TABLES`.
        table: Its content.
        figures: Makes the summary of a report's folder.

    Raises:
        LockedError: Another process is writing to the report.
    """
    with exclusive(report.folder):
        _write(report.folder, report.info, f"{name}.parquet", name, table)
        content = json.dumps(figures(report.folder), indent=2, ensure_ascii=False) + "\n"
        report.folder.write(SUMMARY_FILE, content.encode())


def _write(folder: Folder, info: ReportInfo, name: str, table: str, content: pa.Table) -> None:
    about = {"format": FORMAT, "version": VERSION, "table": table, **to_mapping(info)}
    metadata = {METADATA_KEY: json.dumps(about, ensure_ascii=False).encode()}
    buffer = io.BytesIO()
    pq.write_table(content.replace_schema_metadata(metadata), buffer, compression="zstd")
    folder.write(name, buffer.getvalue())


def _piece(table: str, step: str) -> str:
    return f"{PIECES}/{table}.{step}.parquet"


def _read(folder: Folder, name: str) -> pa.Table:
    try:
        with folder.open(name) as file:
            return pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise ReportError(f"{folder}/{name} is not readable as Parquet: {error}") from error


def _refuse_other_content(folder: Folder) -> None:
    for name in folder.files():
        if name != ".lock":
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
