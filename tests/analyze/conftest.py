"""Codes, labels, caches and models for the tests of the analysis."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.codes.parts import Parts
from sparc.analyze.codes.permutation import Permutation
from sparc.analyze.codes.store import CodeLayout, CodeStore
from sparc.analyze.rows.images import read_images
from sparc.analyze.rows.labels import Labels, labels_of
from sparc.common.cache.arrays import write_arrays
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.tables import CLASSES
from sparc.common.files.folder import Folder
from sparc.train import ModelConfig, Sparc, StreamShape, create_model

# Class 11 is shallow (depth 1, no children); classes 6 to 9 lie at depth 3.
PARENTS: list[int | None] = [None, None, 0, 0, 1, 1, 2, 2, 3, 4, 4, None]


def make_codes(
    seed: int, *, rows: int, latents: int, k: int, streams: Sequence[str], joint: bool = False
) -> CodeRows:
    """Codes with ties, zeros among the selected and latents that nobody selects."""
    generator = np.random.default_rng(seed)
    usable = generator.permutation(latents)[: max(k, latents * 3 // 4)]

    def select() -> Any:
        chosen = [generator.permutation(usable)[:k] for _ in range(rows)]
        return np.sort(np.array(chosen).reshape(rows, k), axis=1).astype(np.uint16)

    shared = select()
    indices = {stream: shared if joint else select() for stream in streams}
    values = {
        stream: generator.choice([0, 0.25, 0.5, 1, 3], size=(rows, k)).astype(np.float32)
        for stream in streams
    }
    return CodeRows(np.arange(rows), indices, values)


def make_classes(parents: Sequence[int | None]) -> pa.Table:
    """A table of classes with the right depths."""

    def depth(class_id: int) -> int:
        parent = parents[class_id]
        return 1 if parent is None else 1 + depth(parent)

    count = len(parents)
    columns = {
        "class_id": range(count),
        "key": [f"/m/{c}" for c in range(count)],
        "name": [f"class {c}" for c in range(count)],
        "parent_id": list(parents),
        "depth": [depth(c) for c in range(count)],
    }
    return pa.table(columns, schema=CLASSES)


@pytest.fixture(scope="session")
def random_codes() -> Callable[..., CodeRows]:
    return make_codes


@pytest.fixture(scope="session")
def dense() -> Callable[[CodeRows, str, int], Any]:
    """Codes as a dense array, (rows, latents) float64, entry by entry."""

    def to_dense(codes: CodeRows, stream: str, latents: int) -> Any:
        result = np.zeros((len(codes.rows), latents))
        for row in range(len(codes.rows)):
            for index, value in zip(
                codes.indices[stream][row], codes.values[stream][row], strict=True
            ):
                result[row, index] = value
        return result

    return to_dense


@pytest.fixture(scope="session")
def split() -> Callable[[CodeRows, Sequence[int]], list[CodeRows]]:
    """Codes cut into consecutive parts at some rows."""

    def cut(codes: CodeRows, at: Sequence[int]) -> list[CodeRows]:
        ends = [0, *sorted({a for a in at if 0 < a < len(codes.rows)}), len(codes.rows)]
        return [codes.take(np.arange(a, b)) for a, b in pairwise(ends)]

    return cut


@pytest.fixture(scope="session")
def make_labels() -> Callable[..., Labels]:
    def make(label_ids: Sequence[Sequence[int]], parents: Sequence[int | None]) -> Labels:
        column = pa.chunked_array([pa.array(label_ids, pa.list_(pa.int32()))])
        labels = labels_of(column.chunks, make_classes(parents), where="test")
        assert labels is not None
        return labels

    return make


@pytest.fixture(scope="session")
def parents() -> list[int | None]:
    return list(PARENTS)


@pytest.fixture(scope="session")
def classes() -> Callable[..., pa.Table]:
    return make_classes


DIMS = {"dino": 24, "clip_image": 16, "clip_text": 16}


@pytest.fixture(scope="session")
def make_cache() -> Callable[..., ActivationCache]:
    """A cache of images with two captions each; row 5 is not valid."""

    def make(
        folder: Path,
        *,
        rows: int = 150,
        rows_per_chunk: int = 32,
        labels: bool = True,
        streams: Sequence[str] = tuple(DIMS),
        dtype: Any = "float16",
        columns: Mapping[str, Any] | None = None,
    ) -> ActivationCache:
        generator = np.random.default_rng(3)
        hidden = generator.normal(size=(rows // 2 + 1, 8))
        features = {}
        for name, dim in DIMS.items():
            of_image = hidden @ generator.normal(size=(8, dim))
            of_image += 0.3 * generator.normal(size=of_image.shape)
            values = np.repeat(of_image, 2, axis=0)[:rows].astype(np.float32)
            if name == "clip_text":
                values = values + 0.2 * generator.normal(size=values.shape).astype(np.float32)
            features[name] = values
        features["dino"][5] = 0
        some = [generator.integers(0, len(PARENTS), r // 2 % 3 * 2).tolist() for r in range(rows)]
        some[1::2] = some[: rows - 1 : 2]  # those of the image
        return write_arrays(
            folder,
            {name: features[name] for name in streams},
            modality={"clip_text": "text"} if "clip_text" in streams else None,
            sample_ids=[f"image {row // 2}" for row in range(rows)],
            captions=[f"caption {row}" for row in range(rows)],
            label_ids=some if labels else None,
            classes=make_classes(PARENTS) if labels else None,
            columns=columns,
            rows_per_chunk=rows_per_chunk,
            dtype=dtype,
        )

    return make


@pytest.fixture(scope="session")
def model() -> Sparc:
    shapes = tuple(StreamShape(name, dim) for name, dim in DIMS.items())
    return create_model(ModelConfig(streams=shapes, latents=40, k=6), seed=5)


@pytest.fixture(scope="session")
def saved_model(model: Sparc, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    model.save(folder)
    return folder


@pytest.fixture(scope="session")
def make_parts() -> Callable[..., Parts]:
    """Codes of all rows of a cache as a report holds them, those of valid rows written to disk."""

    def make(
        folder: Path, cache: ActivationCache, codes: CodeRows, stored: CodeSet, *, latents: int
    ) -> Callable[[CodeSet], Parts]:
        layout = CodeLayout(
            streams=codes.streams,
            latents=latents,
            k=codes.values[codes.streams[0]].shape[1],
            rows=cache.info.rows,
            rows_per_chunk=cache.info.rows_per_chunk,
        )
        store = CodeStore(Folder(folder))
        store.create(layout, cache.valid_rows(codes.streams), [stored])
        for chunk in range(layout.chunks):
            store.write(stored, chunk, codes.take(store.valid_rows(chunk)))
        order = Permutation(
            counts=store.counts,
            sizes=read_images(cache, store.valid).rows(store.valid),
            block_rows=2 * layout.rows_per_chunk,
            seed=3,
        )
        return lambda code_set: Parts(store, cache, code_set, order)

    return make


@pytest.fixture(scope="session")
def margin() -> Callable[[Sequence[float], float], float]:
    """Half of a 95% interval, from a figure on all images and without each group of them."""

    def half(figures: Sequence[float], share: float) -> float:
        without, groups = np.array(figures[1:], np.float64), len(figures) - 1
        variance = (1 - share) ** 2 / share * without.var(ddof=1)
        return float(stats.t.ppf(0.975, groups - 1) * np.sqrt(variance))

    return half
