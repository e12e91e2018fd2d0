"""`report.json`: what a report is about. `REPORT.md` describes the file."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from sparc.analyze.report.notes import Note
from sparc.common.config import from_mapping, to_mapping
from sparc.common.documents import parse_object
from sparc.common.errors import ConfigError, ReportError
from sparc.common.files.folder import Folder

FORMAT = "sparc-report"
VERSION = 2

INFO_FILE = "report.json"


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
            ReportError: The file is missing, damaged or of another version.
        """
        try:
            document = parse_object(folder.read(INFO_FILE))
        except FileNotFoundError as error:
            raise ReportError(f"{folder} is not a report: no {INFO_FILE}") from error
        except ValueError as error:
            raise ReportError(
                f"{folder}/{INFO_FILE} is not readable ({error}): remove the report and run again"
            ) from error
        made_as, version = document.pop("format", None), document.pop("version", None)
        if (made_as, version) != (FORMAT, VERSION):
            raise ReportError(
                f"{folder} is in format {made_as!r} version {version!r}; this SPARC reads "
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
