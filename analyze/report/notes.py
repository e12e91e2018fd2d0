"""Notes of a report: what was left out or approximated in it, and which tables that explains."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from sparc.common.config import from_mapping


@dataclasses.dataclass(frozen=True)
class Note:
    """Something that a reader of the figures must know."""

    text: str
    """A sentence without its full stop."""

    tables: tuple[str, ...] = ()
    """The tables that are missing because of it."""

    def to_json(self) -> str | dict[str, Any]:
        """The note in `report.json`: plain text, or with its tables where it explains any."""
        return {"text": self.text, "tables": list(self.tables)} if self.tables else self.text

    @classmethod
    def from_json(cls, value: Any, *, source: str) -> "Note":
        """Read what `to_json` wrote; earlier versions wrote every note as plain text.

        Raises:
            ConfigError: It is neither.
        """
        note: Any = value if isinstance(value, Mapping) else {"text": value}
        return from_mapping(cls, note, source=source)
