"""What a reader leaves out of a dataset's files, by reason, and the line that says so.

One bad record is one record: the others are read. This module must not know any dataset format.
"""

from typing import NamedTuple

from sparc.common.progress import say
from sparc.common.text import amount, shorten


class _Omitted(NamedTuple):
    times: int
    first: str


class Omissions:
    """Counts records that are left out of a file.

    Args:
        file: The file, for the lines.
    """

    def __init__(self, file: object) -> None:
        self._file = str(file)
        self._reasons: dict[tuple[str, str], _Omitted] = {}

    def add(self, what: str, why: str, where: str) -> None:
        """Count one.

        Args:
            what: What it is, such as `caption`.
            why: Why it is left out.
            where: Where in the file it is; kept of the first one.
        """
        earlier = self._reasons.get((what, why), _Omitted(0, where))
        self._reasons[what, why] = _Omitted(earlier.times + 1, earlier.first)

    @property
    def first(self) -> str:
        """Where the first one is, and why it was left out; empty if none was."""
        for (_, why), omitted in self._reasons.items():
            return f"{omitted.first}: {why}"
        return ""

    def say(self) -> None:
        """A line for each reason: how many, why, and where the first one is."""
        for (what, why), omitted in self._reasons.items():
            where = omitted.first if omitted.times == 1 else f"the first is {omitted.first}"
            say(
                f"{self._file}: {amount(omitted.times, what)} left out: {why} "
                f"({shorten(where, 120)})"
            )
