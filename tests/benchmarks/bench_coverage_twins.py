"""Do the intervals of the means of twins hold the truth? Run it by hand.

    python tests/benchmarks/bench_coverage_twins.py [--sets 200] [--rows 500 2000] [--seed 0]

The companion of `bench_coverage.py`, which says how its output is read. Rows are images here. In
the worlds, twins share images by chance alone, because they like the same classes, or because one
copies the other.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from bench_coverage import Figures, ends, run

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.metrics.meaning import twins
from sparc.analyze.rows.folds import Folds, assign_folds
from sparc.analyze.rows.images import Images

LATENTS, CLASSES = 256, 24


class World(NamedTuple):
    """What data sets are drawn from.

    Attributes:
        name: What it is called.
        often: On what share of the images latents are active, (latents,).
        classes: Whether this share depends on the image's class.
        copied: On what share of the images an odd latent does as the even one before it.
    """

    name: str
    often: npt.NDArray[np.float64]
    classes: bool = False
    copied: float = 0.0


_POWER = 0.5 / np.arange(1, 1 + LATENTS)
_PAIRED = _POWER.repeat(2)[:LATENTS]
_ALIKE = np.full(LATENTS, 0.02)
WORLDS = (
    World("power law, chance", _POWER),
    World("power law, classes", _POWER, classes=True),
    World("power law, copies", _PAIRED, copied=0.8),
    World("all alike, chance", _ALIKE),
    World("all alike, classes, copies", _ALIKE, classes=True, copied=0.5),
)


def measure(world: World, rows: int, sets: int, seed: int) -> Iterator[Figures]:
    """The figures of each set, by name: value and ends of the interval."""
    generator = np.random.default_rng(seed)
    affinity = generator.gamma(0.4, 1 / 0.4, (LATENTS, CLASSES))
    if world.copied:
        affinity[1::2] = affinity[::2]
    indices = np.tile(np.arange(LATENTS, dtype=np.uint8), (rows, 1))
    for _ in range(sets):
        of_image = generator.integers(0, CLASSES, rows)
        kind = affinity[:, of_image].T if world.classes else 1.0
        chance = np.minimum(world.often * kind, 0.9)
        values = {}
        for stream in ("a", "b"):
            drawn = generator.random((rows, LATENTS), np.float32)
            copies = generator.random((rows, LATENTS // 2), np.float32) < world.copied
            drawn[:, 1::2] = np.where(copies, drawn[:, ::2], drawn[:, 1::2])
            values[stream] = (drawn < chance).astype(np.float32)
        codes = CodeRows(np.arange(rows), dict.fromkeys(values, indices), values)
        folds = assign_folds(Images(np.arange(rows), np.ones(rows, np.bool_)), seed)
        yield dict(_figures(codes, folds))


def _figures(codes: CodeRows, folds: Folds) -> Iterator[tuple[str, tuple[float, float, float]]]:
    near = []
    for of_stream in (codes, twins.any_stream(codes)):
        stream = of_stream.streams[0]
        flags = (of_stream.values[stream] > 0).astype(np.float32)
        both = (flags.T @ flags).astype(np.int32)
        near.append(twins.nearest(stream, both, both.diagonal().astype(np.int64), range(LATENTS)))
    table = twins.means(near, near, CodeSet("joint"), codes.take(folds.rows), folds)
    for line in table.to_pylist():
        of = "in any stream" if line["stream"] is None else "in one stream"
        yield f"twins, jaccard, {of}", ends(line, "jaccard")
        yield f"twins, effective, {of}", ends(line, "effective")


if __name__ == "__main__":
    run(__doc__.splitlines()[0], WORLDS, measure, rows=[500, 2000])
