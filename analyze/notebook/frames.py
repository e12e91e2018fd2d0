"""Tables as a notebook wants them: of pandas where that is installed, else of Arrow."""

from typing import Any

import pyarrow as pa


def frame(table: pa.Table) -> Any:
    """A `pandas.DataFrame` where pandas is installed, else the table itself."""
    try:
        import pandas  # noqa: F401
    except ImportError:
        return table
    return table.to_pandas()
