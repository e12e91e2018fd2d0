"""Tables as a notebook wants them: of pandas where that is installed, else of Arrow."""

import re
from typing import Any

import pyarrow as pa

FIRST = (r"latent", r"name_(?!images_).+", r"images_.+", r"class_.+")
"""Patterns of the columns that come first: pandas shows the first ten and the last ten."""


def frame(table: pa.Table) -> Any:
    """A `pandas.DataFrame` where pandas is installed, else the table itself.

    The columns that say what a row is come first, in the order of `FIRST`, then the others as they
    are; a wide frame is cut in its middle where it is shown.
    """
    ranks = {name: _rank(name) for name in table.column_names}
    table = table.select(sorted(table.column_names, key=ranks.__getitem__))
    try:
        import pandas  # noqa: F401
    except ImportError:
        return table
    return table.to_pandas()


def _rank(column: str) -> int:
    """The place of a column among the groups of `FIRST`."""
    return next((i for i, own in enumerate(FIRST) if re.fullmatch(own, column)), len(FIRST))
