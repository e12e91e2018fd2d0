"""The table of agreement, as a report makes it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sparc.analyze.codes.code_rows import CodeRows, concatenate
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.metrics.agreement import counts, table
from sparc.analyze.rows import top_rows
from sparc.analyze.rows.images import Images
from sparc.analyze.rows.labels import Labels


@pytest.fixture(scope="session")
def measured() -> Callable[..., pa.Table]:
    """The table of codes of 10 latents with lists of 3 rows."""

    def measure(
        parts: Sequence[CodeRows],
        labels: Labels,
        images: Images | None = None,
        sample: Any = (),
        seed: int = 42,
    ) -> pa.Table:
        spare, codes = top_rows.with_spare(3), concatenate(parts)
        by_class = counts.merge([counts.count_classes(part, labels, 10) for part in parts])
        lists = []
        for stream in by_class.streams:
            strongest = [
                top_rows.strongest(part, stream, spare, labels.labelled[part.rows])
                for part in parts
            ]
            lists.append(top_rows.marked(top_rows.merge(strongest, spare), spare))
        return table.table(
            by_class,
            lists,
            labels,
            CodeSet("joint"),
            top=3,
            images=images or one_row_per_image(labels),
            sample=codes.take(np.flatnonzero(np.isin(codes.rows, sample))),
            seed=seed,
        )

    return measure


def one_row_per_image(labels: Labels) -> Images:
    """Every row shows another image."""
    rows = labels.matrix.shape[0]
    return Images(np.arange(rows), np.ones(rows, np.bool_))
