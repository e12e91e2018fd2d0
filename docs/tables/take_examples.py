"""Takes the example rows of the pages beside this file from tables, into `examples.json`.

Those of a report are of the one that ships, the others were written by `bias`, `concepts`, …:

    .venv/bin/python docs/tables/take_examples.py sparc/demo/report/*.parquet FILE.parquet …

A file is called after its table. Of every table one row is taken: what the trained model does where
streams select independently, if the table says so, of the latent or the streams that are given.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from sparc.analyze.report.tables import read_table

EXAMPLES = Path(__file__).with_name("examples.json")
ITEMS = 3
"""Of a list, which the row has."""

WANTED: dict[str, Any] = {
    "mode": "independent",
    "control": "trained",
    "space": "codes",
    "map": "text",
    "restriction": "all_rows",
    "averaged_over": "all",
    "kept": "shared",
    "matching": "joint",
    "measure": "rows_jaccard",
    "images": "several",
    "class": None,
    "left_out": "minilm",
    "source": "minilm",
    "target": "dino",
    "second": "effnet",
    "reference": "dino",
    "stream": "dino",
    "rank": 1,
    "associated": True,
    "alive_streams": 3,
}
"""What the row has, if any row has it, the more important first."""


def choose(table: pa.Table, latent: int) -> dict[str, Any]:
    """The example row: what is wanted, else of this latent, else of the deepest classes."""
    rows = table.to_pylist()
    means = [row for row in rows if row.get("first", "") is None]
    rows = means or rows
    for name, value in {**WANTED, "latent": latent, "first_latent": latent}.items():
        rows = [row for row in rows if row.get(name, value) == value] or rows
    row = max(rows, key=lambda row: row.get("depth", 0))
    return {
        name: value[:ITEMS] if isinstance(value, list) else value for name, value in row.items()
    }


def take(files: list[Path], latent: int) -> None:
    """Write the example rows of some tables; those of other tables stay."""
    examples = json.loads(EXAMPLES.read_text(encoding="utf-8")) if EXAMPLES.exists() else {}
    for file in files:
        table = read_table(file.read_bytes(), str(file))
        if file.stem == "concepts":
            table = table.rename_columns(
                [name.replace("_dino", "_s") for name in table.column_names]
            )
            others = [name for name in table.column_names if name.endswith(("_effnet", "_minilm"))]
            table = table.drop_columns(others)
        if table.num_rows:
            examples[file.stem] = choose(table, latent)
    text = json.dumps(examples, indent=1, sort_keys=True, ensure_ascii=False)
    EXAMPLES.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+", help="Tables, each called after its table.")
    parser.add_argument("--latent", type=int, default=298, help="Whose rows are taken.")
    arguments = parser.parse_args()
    take(arguments.files, arguments.latent)
