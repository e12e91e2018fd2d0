"""Puts tables of columns into the pages on a report's tables: `<!-- columns of NAME … -->`.

Columns and types are those that the code declares, what they mean is what `analyze/REPORT.md` says,
and an example row is one of the report that ships (`docs/tables/examples.json`, by
`take_examples.py`). Where `REPORT.md` says it in prose, the page says it within the comment, a
column a line:

    <!-- columns of selection
    share: of the jointly selected latents, the share that …
    -->

What does not fit is a warning, an error with `--strict`: a column that is nowhere explained, a
meaning or an example of a column that does not exist, or a table without a page.
"""

import importlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.pages import Page

from sparc.analyze.measures.registry import MEASURES

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "analyze/REPORT.md"
EXAMPLES = ROOT / "docs/tables/examples.json"

OF_COMMANDS = {
    "associations": "sparc.analyze.bias.latents:SCHEMA",
    "pairs": "sparc.analyze.bias.pairs:SCHEMA",
    "concepts": "sparc.analyze.concepts.table:schema",
    "stability": "sparc.analyze.stability.match:SCHEMA",
    "matching": "sparc.analyze.stability.match:MATCHING_SCHEMA",
    "name": "sparc.analyze.name.word_list:SCHEMA",
    "search": "sparc.analyze.search.searcher:SCHEMA",
}
"""By table that a command writes into no report, where its columns are declared; `concepts` has
columns for each stream, here of one that is called `s`."""

COMMON = {
    "mode": "`joint` or `independent`",
    "control": "`trained`, or a control: [controls](index.md#controls)",
    "stream": "the stream",
    "latent": "its number, from 0",
    "first": "the first stream of the pair",
    "second": "the second stream of the pair",
}
"""What a column means wherever neither the page nor `REPORT.md` says more."""

_DIRECTIVE = re.compile(r"<!-- columns of (\w+)\n?(.*?)-->", re.DOTALL)
_HEADER = "| column | type | meaning |"

_log = get_plugin_logger("columns")


class Column(NamedTuple):
    """What `REPORT.md` says of a column."""

    type: str
    meaning: str
    alone: bool
    """Whether this is said of it alone, not of several columns at once."""


def schemas() -> dict[str, pa.Schema]:
    """The columns of every table, of a report and of commands, as the code declares them."""
    result = {name: schema for measure in MEASURES for name, schema in measure.schemas().items()}
    for table, home in OF_COMMANDS.items():
        module, _, name = home.partition(":")
        declared = getattr(importlib.import_module(module), name)
        result[table] = declared if isinstance(declared, pa.Schema) else declared(["s"])
    return result


def contract(page: str) -> dict[str, dict[str, Column]]:
    """What the tables of `REPORT.md` say: by table, by column, in the page's order."""
    result: dict[str, dict[str, Column]] = {}
    table, within = "", False
    for line in page.splitlines():
        if heading := re.match(r"## (?:sparc-analyze (\w+)$)?(?:.*?(\w+)\.parquet)?", line):
            table = heading[1] or heading[2] or ""
        elif begins := re.match(r"`(\w+)`: ", line):
            table = begins[1]
        if line.startswith(_HEADER):
            within = True
        elif not line.startswith("|"):
            within = False
        elif within and not line.startswith("|---"):
            names, types, meaning = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:4])
            each = names.split(", ")
            for name, kind in zip(each, _types(types, len(each)), strict=True):
                result.setdefault(table, {})[name] = Column(kind, meaning, len(each) == 1)
    return result


def _types(text: str, columns: int) -> list[str]:
    """The types of some columns: `string ×2, int32`, `list of int64, float32`, or one of all."""
    lists = text.startswith("list of ")
    result = []
    for kind in text.removeprefix("list of ").split(", "):
        name, _, times = kind.partition(" ×")
        result += [f"list of {name}" if lists else name] * int(times or 1)
    return result * columns if len(result) == 1 else result


def type_of(field: pa.Field) -> str:
    """The type of a column in the words of `REPORT.md`."""
    if pa.types.is_list(field.type):
        return f"list of {type_of(field.type.value_field)}"
    return {"double": "float64", "float": "float32"}.get(str(field.type), str(field.type))


def _shown(value: Any) -> str:
    """A value of the example row."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return ", ".join(_shown(item) for item in value)
    text = f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")
    return f"`{text}`"


def _lines(
    table: str, schema: pa.Schema, said: Mapping[str, str], example: Mapping[str, Any]
) -> Iterator[str]:
    """The table: a line for each column, or for several of which one thing is said at once."""
    yield "| column | type | meaning | example |"
    yield "|---|---|---|---|"
    # The ends of an interval stand with their figure.
    ends = {f"{name}_{end}" for name in schema.names for end in ("low", "high")}
    fields = [field for field in schema if field.name not in ends]
    for meaning, group in itertools.groupby(fields, key=lambda field: said[field.name]):
        cells = [_cells(field, f"{field.name}_low" in schema.names, example) for field in group]
        names, types, values = ("<br>".join(column) for column in zip(*cells, strict=True))
        if not meaning:
            _log.warning(f"columns of {table} are explained nowhere: {names}")
        yield f"| {names} | {types} | {meaning} | {values} |"


def _cells(field: pa.Field, interval: bool, example: Mapping[str, Any]) -> tuple[str, str, str]:
    """A column's name, its type and its value in the example row."""
    name, value = f"`{field.name}`", _shown(example[field.name]) if example else ""
    if interval:
        name += ", `…_low`, `…_high`"
        if example:
            low, high = (_shown(example[f"{field.name}_{end}"]) for end in ("low", "high"))
            value += f", {low} to {high}"
    return name, type_of(field), value


class _Pages:
    """What the hook knows while a site is built."""

    def __init__(self) -> None:
        self.schemas = schemas()
        self.contract = contract(REPORT.read_text(encoding="utf-8"))
        self.examples = json.loads(EXAMPLES.read_text(encoding="utf-8"))
        self.shown: set[str] = set()

    def replace(self, directive: re.Match[str]) -> str:
        """A directive's table of columns."""
        table, text = directive.groups()
        if table not in self.schemas:
            _log.warning(f"there is no table {table}")
            return ""
        self.shown.add(table)
        schema, example = self.schemas[table], self.examples.get(table, {})
        own = dict(line.split(": ", 1) for line in text.strip().splitlines())
        for name in {**own, **example}:
            if name not in schema.names:
                _log.warning(f"{table} has no column {name}")
        said = {name: own.get(name) or self._of_report(table, name) for name in schema.names}
        return "\n".join(_lines(table, schema, said, example))

    def _of_report(self, table: str, name: str) -> str:
        """What `REPORT.md` says of a column, or what such a column means everywhere."""
        columns = self.contract.get(table, {})
        column = columns.get(name) or columns.get(f"…{name[name.rfind('_') :]}")
        if column and column.meaning and (column.alone or name not in COMMON):
            return column.meaning
        return COMMON.get(name, "")


_pages: _Pages


def on_config(_config: MkDocsConfig) -> None:
    """Read what the code and `REPORT.md` say."""
    global _pages
    _pages = _Pages()


def on_page_markdown(markdown: str, *, page: Page, **_others: object) -> str:
    """Put the tables of columns into a page."""
    if not page.file.src_uri.startswith("tables/"):
        return markdown
    return _DIRECTIVE.sub(_pages.replace, markdown)


def on_env(*_arguments: object, **_others: object) -> None:
    """Say which tables no page explains."""
    for table in sorted(_pages.schemas.keys() - _pages.shown if _pages.shown else ()):
        _log.warning(f"no page of docs/tables has the columns of {table}")
