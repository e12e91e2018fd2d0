"""What reports of earlier versions of the format say otherwise, and how it is read today.

`REPORT.md` lists the same under *Version 2* and *Version 3*. This module must not know how files
are read or written.
"""

import re
from collections.abc import Mapping

import pyarrow as pa

from sparc.analyze.measures.registry import MEASURES
from sparc.analyze.report.figure_names import ENDS

RENAMED_COLUMNS = {
    "own_picture": "own_image",
    "pictures": "images",
    "pictures_both": "images_both",
    "pictures_first": "images_first",
    "pictures_latent": "images_latent",
    "pictures_second": "images_second",
    "pictures_with": "images_with",
    "pictures_without": "images_without",
    "pictures_word": "images_word",
}
"""Columns of reports of version 2, and what they have been called since."""

RENAMED_CONTROLS = {"none": "trained"}
"""Values of the column `control` in reports up to version 3, and what they have been called since.

They also stand in the names of figures and of an unfinished report's pieces.
"""


def current_table(table: pa.Table) -> pa.Table:
    """A table of an earlier version with the columns and controls of today."""
    table = table.rename_columns([RENAMED_COLUMNS.get(c, c) for c in table.column_names])
    if "control" not in table.column_names:
        return table
    place = table.schema.get_field_index("control")
    controls = [RENAMED_CONTROLS.get(c, c) for c in table["control"].to_pylist()]
    return table.set_column(place, table.schema.field(place), pa.array(controls, pa.string()))


def current_figures(figures: Mapping[str, float | None]) -> dict[str, float | None]:
    """Figures by the names of today; those of today stay.

    No control of today is called as one was before, so that no version has to be known.
    """
    metrics = {metric.name + end: metric for m in MEASURES for metric in m.metrics for end in ENDS}

    def current(name: str) -> str:
        kind, *parts = name.split("/")
        if kind in metrics and "control" in metrics[kind].by:
            place = metrics[kind].by.index("control")
            if place < len(parts):
                parts[place] = RENAMED_CONTROLS.get(parts[place], parts[place])
        return "/".join([kind, *parts])

    return {current(name): value for name, value in figures.items()}


def current_piece(file: str) -> str:
    """The name of a piece's file as it is today; that of a piece of today stays."""
    controls = "|".join(map(re.escape, RENAMED_CONTROLS))
    return re.sub(rf"-({controls})(?=[-.])", lambda m: f"-{RENAMED_CONTROLS[m[1]]}", file)
