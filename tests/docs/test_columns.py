"""The pages on tables say what the code declares, and so does the contract, `analyze/REPORT.md`."""

import json
import re

import pyarrow.parquet as pq
import pytest
from columns import COMMON, EXAMPLES, REPORT, ROOT, Column, contract, schemas, type_of


@pytest.fixture(scope="module")
def declared():
    return schemas()


def test_the_contract_is_read_table_by_table():
    page = """
## some.parquet, means.parquet
| column | type | meaning |
|---|---|---|
| mode, stream, latent | string ×2, int32 | |
| rows, top | list of int64, float32 | a \\| b |

`means`: one row for each.

| column | type | meaning |
|---|---|---|
| a, b | float64 | of both |

## sparc-analyze name
| other | table |
| x | y |
"""
    assert contract(page) == {
        "some": {
            "mode": Column("string", "", False),
            "stream": Column("string", "", False),
            "latent": Column("int32", "", False),
            "rows": Column("list of int64", "a \\| b", False),
            "top": Column("list of float32", "a \\| b", False),
        },
        "means": {
            "a": Column("float64", "of both", False),
            "b": Column("float64", "of both", False),
        },
    }


def test_the_contract_has_the_columns_and_types_of_the_code(declared):
    compared = 0
    for table, columns in contract(REPORT.read_text(encoding="utf-8")).items():
        for name, column in columns.items():
            if not name.startswith("…"):
                assert name in declared[table].names, f"REPORT.md: {table} has no {name}"
                assert column.type in ("", type_of(declared[table].field(name))), (table, name)
                compared += 1
    assert compared > 150


def test_every_column_of_the_code_is_in_the_contract(declared):
    """In a table of columns, or in the prose of its table's section."""
    page = REPORT.read_text(encoding="utf-8")
    sections = re.split(r"(?m)^## ", page)
    for table, schema in declared.items():
        heading = rf"sparc-analyze {table}\n|.*\b{table}\.parquet"
        section = next(text for text in sections if re.match(heading, text))
        for name in schema.names:
            figure, _, kind = name.rpartition("_")
            end_of_interval = kind in ("low", "high") and figure in schema.names
            if name not in COMMON and not end_of_interval:
                assert re.search(rf"\b{name}\b|…_{kind}\b", section), (table, name)


def test_examples_are_rows_of_the_report_that_ships():
    examples = json.loads(EXAMPLES.read_text(encoding="utf-8"))
    files = list((ROOT / "sparc/demo/report").glob("*.parquet"))
    assert len(files) > 20
    for file in files:
        rows = pq.read_table(file).to_pylist()
        shown = [{name: _begun(item) for name, item in row.items()} for row in rows]
        assert examples[file.stem] in shown, file.stem


def _begun(item):
    """Of a list, what an example shows."""
    return item[:3] if isinstance(item, list) else item
