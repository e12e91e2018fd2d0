"""The kinds of artefacts, and the file by which each is recognized."""

from collections.abc import Mapping
from typing import Literal

Kind = Literal["cache", "run", "report", "site"]

FILES: Mapping[Kind, str] = {
    "cache": "cache.json",
    "report": "report.json",
    "run": "config.json",
    "site": "site.json",
}
