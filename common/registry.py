"""What a registry knows of its entries before it imports them: `--help` imports none of them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from sparc.common.lazy import import_home


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line of a registry."""

    summary: str
    """What it is, for `--help`."""
    home: str
    """`module:name` of what it stands for."""

    def load(self) -> Any:
        """What `home` names, imported now."""
        return import_home(self.home)


def summaries(entries: Mapping[str, Entry]) -> str:
    """The entries of a registry in a sentence of a help text, without the full stop."""
    return "; ".join(f"{name}: {entry.summary}" for name, entry in entries.items())
