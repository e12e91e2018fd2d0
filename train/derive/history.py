"""What was done to a model after its training, as its `config.json` records it.

A further command that changes finished models has a subclass of `ChangeRecord`, a field here with
its name in `_FIELDS`, and a field of that name in `RunRecord`; `run_summary` says it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from sparc.common.config import from_mapping
from sparc.common.streams.info import StreamInfo
from sparc.train.align.record import AlignRecord
from sparc.train.derive.record import ChangeRecord
from sparc.train.importing.record import ImportRecord
from sparc.train.join.record import JoinRecord
from sparc.train.match.record import MatchRecord
from sparc.train.save.record import SaveRecord

_FIELDS: dict[type[ChangeRecord], str] = {
    AlignRecord: "aligned",
    MatchRecord: "matched",
    JoinRecord: "joined",
}

CHANGES = tuple(_FIELDS.values())
"""The fields of changes, which a run's record has too."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class History:
    """The changes of each kind, the last one last. Which came first is told by their sources."""

    aligned: tuple[AlignRecord, ...] = dataclasses.field(default=(), metadata={"added": True})
    matched: tuple[MatchRecord, ...] = dataclasses.field(default=(), metadata={"added": True})
    joined: tuple[JoinRecord, ...] = dataclasses.field(default=(), metadata={"added": True})
    saved: tuple[SaveRecord, ...] = dataclasses.field(default=(), metadata={"added": True})
    """What a saved model was taken from; a history begins with it."""
    imported: tuple[ImportRecord, ...] = dataclasses.field(default=(), metadata={"added": True})
    """Which dictionary of another program a saved model is; a history begins with it."""

    @classmethod
    def read(cls, document: Mapping[str, Any], *, source: str) -> "History":
        """The history in a `config.json`.

        Raises:
            ConfigError: It is malformed.
        """
        entries = {name: document[name] for name in HISTORY_FIELDS if name in document}
        return from_mapping(cls, entries, source=source)

    def of_kind(self, kind: type[ChangeRecord]) -> tuple[ChangeRecord, ...]:
        """The changes of a kind."""
        changes: tuple[ChangeRecord, ...] = getattr(self, _FIELDS[kind])
        return changes

    def followed_by(self, record: ChangeRecord) -> "History":
        """This history with one more change."""
        changes: dict[str, Any] = {_FIELDS[type(record)]: (*self.of_kind(type(record)), record)}
        return dataclasses.replace(self, **changes)

    @property
    def streams(self) -> tuple[StreamInfo, ...]:
        """The streams as the caches of changes describe them; none without a change."""
        changes: tuple[SaveRecord | ImportRecord | ChangeRecord, ...]
        changes = (
            *self.saved,
            *self.imported,
            *(change for name in CHANGES for change in getattr(self, name)),
        )
        by_name = {stream.name: stream for change in changes for stream in change.streams}
        return tuple(by_name.values())


HISTORY_FIELDS = frozenset(field.name for field in dataclasses.fields(History))
"""Entries of `config.json` that are history."""
