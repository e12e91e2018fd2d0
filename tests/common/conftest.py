"""Small caches, made from arrays."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sparc.common.cache import tables
from sparc.common.cache.arrays import write_arrays
from sparc.common.cache.reader import ActivationCache

CLASSES = pa.table(
    {
        "class_id": [0, 1, 2],
        "key": ["/m/0", "/m/1", "/m/2"],
        "name": ["animal", "cat", "dog"],
        "parent_id": [None, 0, 0],
        "depth": [1, 2, 2],
    },
    schema=tables.CLASSES,
)


@pytest.fixture
def features() -> dict[str, np.ndarray]:
    """Two streams of 23 rows; rows 4 and 22 are bad in the first one."""
    random = np.random.default_rng(0)
    image = random.standard_normal((23, 6)).astype(np.float32)
    image[4] = 0
    image[22, 3] = np.nan
    return {"image": image, "text": random.standard_normal((23, 4)).astype(np.float32)}


@pytest.fixture
def cache(tmp_path: Path, features: dict[str, np.ndarray]) -> ActivationCache:
    """A cache of those features, in chunks of ten rows."""
    return write_arrays(
        tmp_path / "cache",
        features,
        modality={"text": "text"},
        captions=[f"caption {i}" for i in range(23)],
        label_ids=[[i % 3] for i in range(23)],
        classes=CLASSES,
        rows_per_chunk=10,
    )
