"""`report.json`: what a report is about. `REPORT.md` describes the file."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from sparc.analyze.config import AnalyzeConfig
from sparc.analyze.report.digests import is_intact, read_digests
from sparc.analyze.report.notes import Note
from sparc.common.config import from_mapping, to_mapping, with_current_names
from sparc.common.documents import DocumentKind
from sparc.common.errors import ConfigError, ReportError, UnknownSettingError
from sparc.common.files.artefacts import instead
from sparc.common.files.folder import Folder
from sparc.common.parsing import parse_object

KIND = DocumentKind("sparc-report", 4, ReportError, earlier=(2, 3))
"""What earlier versions say otherwise: see `sparc.analyze.report.earlier`."""

INFO_FILE = "report.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportInfo:
    """The content of `report.json`.

    Attributes:
        run: The run, saved model or hub repository.
        model_sha256: Digest of the trained weights.
        cache: The cache that was analysed.
        manifest_digest: Identifies its rows.
        streams: The streams that were analysed, in the model's order.
        stream_digests: By stream, the digest of its encoder's weights or, of an array, of its
            features; empty where the cache does not know it.
        latents: L.
        k: Latents selected for a row.
        selection: How the model was trained to select: `global` or `local`.
        rows: Rows that were analysed.
        settings: The settings that decide what is measured.
        notes: What was left out or approximated, and why.
        versions: Version by package.
        version: The version of the format; what a report is about does not depend on it.
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
    version: int = dataclasses.field(default=KIND.version, compare=False)

    @property
    def is_current(self) -> bool:
        """Whether the report is of the version that is written today."""
        return self.version == KIND.version

    @property
    def explained(self) -> frozenset[str]:
        """The tables that a note says are missing, and why."""
        return frozenset(table for note in self.notes for table in note.tables)

    def to_mapping(self) -> dict[str, Any]:
        """The content of `report.json` but for its format and version, as plain JSON values."""
        entries = {**to_mapping(self), "notes": [note.to_json() for note in self.notes]}
        del entries["version"]
        return entries

    def to_json(self) -> bytes:
        """The content of `report.json`, in the version that is written today."""
        document = KIND.document(self.to_mapping())
        return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()

    @classmethod
    def read(cls, folder: Folder) -> "ReportInfo":
        """Read `report.json`.

        Raises:
            ReportError: The file is missing, damaged or of another version.
        """
        try:
            parsed = parse_object(folder.read(INFO_FILE))
            document = KIND.entries(parsed, where=f"{folder}/{INFO_FILE}")
            document["version"] = parsed["version"]
        except FileNotFoundError as error:
            raise ReportError(f"{folder} is not a report: {instead('report', folder)}") from error
        except ValueError as error:
            raise ReportError(
                f"{folder}/{INFO_FILE} is not readable ({error}): remove the report and run again"
            ) from error
        try:
            if isinstance(document.get("notes"), list):
                notes = [Note.from_json(n, source=f"{INFO_FILE}: notes") for n in document["notes"]]
                document["notes"] = notes
            info = from_mapping(cls, document, source=INFO_FILE)
            settings = with_current_names(AnalyzeConfig, info.settings, source=INFO_FILE)
            return dataclasses.replace(info, settings=settings)
        except ConfigError as error:
            # The report's list of digests seals this document.
            if isinstance(error, UnknownSettingError) and _is_sealed(folder):
                raise KIND.newer(error, where=f"{folder}/{INFO_FILE}") from error
            raise ReportError(
                f"{folder}/{INFO_FILE} is damaged ({error}): remove the report and run again"
            ) from error


def _is_sealed(folder: Folder) -> bool:
    try:
        return is_intact(folder, INFO_FILE, read_digests(folder))
    except ReportError:
        return False
