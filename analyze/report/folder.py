"""A finished report, opened for reading: what it is about, its tables and its codes.

`REPORT.md` describes the files. This module must not know how a table is computed.
"""

import os
import shlex
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sparc.analyze.measures.registry import table_names
from sparc.analyze.report import tables
from sparc.analyze.report.digests import read_checked, read_digests
from sparc.analyze.report.earlier import current_figures
from sparc.analyze.report.info import INFO_FILE, ReportInfo
from sparc.common.errors import ConfigError, ReportError
from sparc.common.files.folder import Folder
from sparc.common.files.shipped import located
from sparc.common.parsing import parse_object

if TYPE_CHECKING:  # it brings PyTorch along, and a summary needs the tables alone
    from sparc.analyze.codes.store import CodeStore

SUMMARY_FILE = "summary.json"


class Report:
    """A finished report, opened for reading.

    Args:
        location: The report's folder or URL; or `demo`, a small report that ships with the package.

    Raises:
        ReportError: There is no report, or it has not been finished.
    """

    def __init__(self, location: str | os.PathLike[str]) -> None:
        self.folder = Folder(located(location, "report"))
        self.info = ReportInfo.read(self.folder)
        if not self.folder.exists(SUMMARY_FILE):
            command = shlex.join(
                ["sparc-analyze", "run", self.info.run, self.info.cache, str(self.folder)]
            )
            raise ReportError(
                f"{self.folder} has not been finished: run the same `{command}` again"
            )
        self._digests = read_digests(self.folder)
        self._checked(INFO_FILE)

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that this report holds."""
        return tuple(name for name in table_names() if tables.file_of(name) in self._digests)

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
        file = tables.file_of(name)
        return tables.read_table(self._checked(file), f"{self.folder}/{file}")

    def about(self, command: str, config: Any) -> dict[str, Any]:
        """What the schema says of a table that another command makes from this report.

        Args:
            command: The command's name.
            config: Its settings.
        """
        made_by = {**tables.about_command(command, config), "report": str(self.folder)}
        return {**self.info.to_mapping(), "command": made_by}

    @cached_property
    def summary(self) -> Mapping[str, float | None]:
        """The headline figures by name, as in `summary.json`; earlier reports' by today's names.

        Raises:
            ReportError: They are damaged.
        """
        content = self._checked(SUMMARY_FILE)
        try:
            document = parse_object(content)
        except ValueError as error:
            raise ReportError(f"{self.folder}/{SUMMARY_FILE} is damaged: {error}") from error
        if not all(value is None or type(value) in (int, float) for value in document.values()):
            raise ReportError(f"{self.folder}/{SUMMARY_FILE} is damaged: a figure is not a number")
        return current_figures(document)

    def check_stream(self, stream: str) -> None:
        """Refuse a stream that the report does not have.

        Raises:
            ConfigError: It does not; says which ones it has.
        """
        if stream not in self.info.streams:
            raise ConfigError(
                f"{self.folder} has no stream {stream!r}; it has {', '.join(self.info.streams)}"
            )

    def check_latent(self, latent: int) -> None:
        """Refuse a number that no latent has.

        Raises:
            ConfigError: It is negative or too large.
        """
        if not 0 <= latent < self.info.latents:
            raise ConfigError(
                f"{self.folder} has no latent {latent}: its latents are 0 to "
                f"{self.info.latents - 1}"
            )

    def check(self) -> None:
        """Read every file but the codes.

        Raises:
            ReportError: One is missing or damaged.
        """
        for name in self._digests:
            self._checked(name)

    @cached_property
    def codes(self) -> "CodeStore":
        """The sparse codes."""
        from sparc.analyze.codes.store import CodeStore

        return CodeStore(self.folder)

    def _checked(self, name: str) -> bytes:
        return read_checked(self.folder, name, self._digests, advice=tables.advice(name))
