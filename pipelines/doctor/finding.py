"""One line of what `sparc doctor` says."""

from typing import NamedTuple


class Finding(NamedTuple):
    """Something that this machine or installation has or lacks.

    Attributes:
        topic: What it is about, a word.
        text: What was seen.
        advice: What to type, or to do, for more; empty where nothing is missing.
        is_fault: Whether commands will fail without it.
    """

    topic: str
    text: str
    advice: str = ""
    is_fault: bool = False
