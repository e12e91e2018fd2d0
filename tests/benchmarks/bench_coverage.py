"""Do the intervals of a report hold the truth as often as they say? Run it by hand.

    python tests/benchmarks/bench_coverage.py [--sets 200] [--rows 500 2000 10000 60000] [--seed 0]

Draws many data sets from one world, measures each as `sparc-analyze run` does, and counts how often
the interval holds the truth, which is the mean of the figure over all sets. Beside this stands the
mean half width in units of 1.96 standard deviations of the figure: 1 is as narrow as can be.

The worlds differ in how often latents are active (a power law, or all alike and seldom), in how
alike the streams are, in how often classes occur, and in how many captions an image has. What is
counted needs no model: codes are drawn.
"""

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.maths.intervals import mean_share
from sparc.analyze.metrics import overlap
from sparc.analyze.metrics.agreement.counts import count_classes
from sparc.analyze.metrics.agreement.table import table as agreement_table
from sparc.analyze.metrics.meaning import purity, row_counts
from sparc.analyze.rows import top_rows
from sparc.analyze.rows.folds import Folds, assign_folds
from sparc.analyze.rows.images import Images
from sparc.analyze.rows.labels import Labels, labels_of
from sparc.common.cache import tables

LATENTS, CLASSES, TOP = 64, 24, 10


@dataclasses.dataclass(frozen=True)
class World:
    """What data sets are drawn from.

    Attributes:
        name: What it is called.
        often: On what share of the rows latents are active, (latents,).
        alike: On what share of the rows the second stream has what the first has.
        uneven: Whether some classes are frequent.
        captions: How many rows an image has at most.
        stronger: Whether latents are stronger on classes that activate them more often.
    """

    name: str
    often: npt.NDArray[np.float64]
    alike: float
    uneven: bool = False
    captions: int = 1
    stronger: bool = False


_POWER = 0.5 / np.arange(1, 1 + LATENTS)
_SELDOM = np.full(LATENTS, 0.004)
WORLDS = (
    World("power law, independent", _POWER, 0.0),
    World("power law, joint", _POWER, 0.85),
    World("seldom, independent, uneven classes", _SELDOM, 0.0, uneven=True),
    World("power law, half alike, captions", _POWER, 0.5, uneven=True, captions=4),
    World("power law, half alike, stronger on some classes", _POWER, 0.5, stronger=True),
)

Figures = dict[str, tuple[float, float, float]]
"""Of a set, by name: a figure and the ends of its interval."""


def measure(world: World, rows: int, sets: int, seed: int) -> Iterator[Figures]:
    """The figures of each set, by name: value and ends of the interval."""
    generator = np.random.default_rng(seed)
    weights = 1 / np.arange(1, 1 + CLASSES) if world.uneven else np.ones(CLASSES)
    affinity = generator.gamma(0.4, 1 / 0.4, (2, LATENTS, CLASSES))
    for _ in range(sets):
        captions = generator.integers(1, 1 + world.captions, rows)
        of_row = np.repeat(np.arange(rows), captions)[:rows]
        of_image = generator.choice(CLASSES, of_row[-1] + 1, p=weights / weights.sum())
        drawn = generator.random((of_row[-1] + 1, LATENTS))[of_row]
        fresh = generator.random(drawn.shape)
        values = {}
        for stream, mine in (
            ("a", drawn),
            ("b", np.where(generator.random(drawn.shape) < world.alike, drawn, fresh)),
        ):
            kind = affinity[0] if stream == "a" or world.alike else affinity.mean(axis=0)
            chance = np.minimum(world.often[:, None] * kind, 0.9)[:, of_image[of_row]].T
            strength = generator.random(drawn.shape)
            if world.stronger:
                strength *= (0.2 + np.minimum(kind, 4))[:, of_image[of_row]].T
            strength += 0.1
            values[stream] = np.where(mine < chance, strength, 0).astype(np.float32)
        indices = np.tile(np.arange(LATENTS, dtype=np.uint8), (rows, 1))
        codes = CodeRows(np.arange(rows), dict.fromkeys(values, indices), values)
        images = Images(of_row, np.ones(of_row[-1] + 1, np.bool_))
        yield dict(_figures(codes, assign_folds(images, seed), of_image[of_row], images))


def _figures(
    codes: CodeRows,
    folds: Folds,
    classes: npt.NDArray[np.int64],
    images: Images,
) -> Iterator[tuple[str, tuple[float, float, float]]]:
    column = [pa.array(classes[:, None].tolist(), pa.list_(pa.int32()))]
    ids = range(CLASSES)
    tree = {"class_id": ids, "key": map(str, ids), "name": map(str, ids)}
    tree |= {"parent_id": [None] * CLASSES, "depth": [1] * CLASSES}
    labels = labels_of(
        column, pa.table({k: list(v) for k, v in tree.items()}, tables.CLASSES), where=""
    )
    assert labels is not None
    spare = top_rows.with_spare(TOP)
    lists = [top_rows.strongest(codes, stream, spare) for stream in codes.streams]
    fold_codes = codes.take(folds.rows)
    code_set = CodeSet("independent")
    lines = agreement_table(
        count_classes(codes, labels, LATENTS), lists, labels, code_set,
        top=TOP, images=images, sample=fold_codes, seed=0,
    ).to_pylist()  # fmt: skip
    for line in lines:
        if line["first"] is None and line["depth"] == 1:
            name = f"{line['restriction']}, {line['averaged_over']}"
            yield f"agreement, {name}", ends(line, "value")
            yield f"excess, {name}", ends(line, "excess")
    pairs = overlap.count_pairs(codes, LATENTS)
    for line in overlap.means(
        pairs, codes.streams, lists, code_set, length=TOP, folds=folds, fold_codes=fold_codes
    ).to_pylist():
        yield f"overlap, {line['measure']}", ends(line, "value")
    of_rows = overlap.row_table(
        pairs, codes.streams, code_set, folds=folds, fold_codes=fold_codes
    ).to_pylist()
    for name in ("jaccard", "cosine"):
        yield f"row_overlap, {name}", ends(of_rows[0], name)
    for line in _purity(lists[0], labels, fold_codes, codes, folds):
        yield f"purity, {line['restriction']}", ends(line, "purity")
    right = codes.values["a"][:, 0] > 0
    share, interval = mean_share(right, images.of_row)
    yield "a share", (share, float(interval.low), float(interval.high))


def ends(line: dict[str, float], name: str) -> tuple[float, float, float]:
    """A figure of a line of a table, and the ends of its interval."""
    return line[name], line[f"{name}_low"], line[f"{name}_high"]


def _purity(
    lists: top_rows.TopRows, labels: Labels, fold_codes: CodeRows, codes: CodeRows, folds: Folds
) -> list[dict[str, Any]]:
    """The lines of the means of purity of the first stream."""
    shape = LATENTS, len(codes.rows)
    active = purity.active_rows(lists, fold_codes, "a", folds, top=TOP, shape=shape)
    first = codes._replace(indices={"a": codes.indices["a"]}, values={"a": codes.values["a"]})
    tables = purity.tables(
        lambda depth: row_counts.count_rows(first, labels.at_depth(depth, first.rows), LATENTS),
        {"a": active}, labels, np.ones(len(codes.rows), np.bool_), CodeSet("independent"),
        folds.share,
    )  # fmt: skip
    lines: list[dict[str, Any]] = tables.means.to_pylist()
    return lines


class Coverage(NamedTuple):
    """How good the intervals of a figure are.

    Attributes:
        held: The share of them that hold the truth.
        width: Half their mean width in units of 1.96 standard deviations of the figure.
    """

    held: float
    width: float


def coverage(results: list[tuple[float, float, float]]) -> Coverage:
    """From a figure and the ends of its interval in each set."""
    lines = np.array(results, np.float64)
    value, low, high = lines[~np.isnan(lines).any(axis=1)].T
    truth, spread = value.mean(), value.std(ddof=1)
    width = (high - low).mean() / 2 / (1.96 * spread) if spread else np.nan
    return Coverage(float(((low <= truth) & (truth <= high)).mean()), float(width))


def run(
    title: str,
    worlds: Sequence[Any],
    measure: Callable[[Any, int, int, int], Iterator[Figures]],
    *,
    rows: list[int],
) -> None:
    """Print what each world gives, and then by figure the least and the most of it.

    Args:
        title: What the program does.
        worlds: Each has a `name`.
        measure: From a world, a number of rows, a number of sets and a seed to their figures.
        rows: The numbers of rows by default.
    """
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--rows", type=int, nargs="+", default=rows)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    by_figure: dict[str, list[Coverage]] = {}
    print(f"{'claimed 95%':<40}{'rows':>8}{'held':>8}{'half width':>12}")
    for world in worlds:
        for number in arguments.rows:
            print(world.name, flush=True)
            sets: dict[str, list[tuple[float, float, float]]] = {}
            for figures in measure(world, number, arguments.sets, arguments.seed):
                for name, figure in figures.items():
                    sets.setdefault(name, []).append(figure)
            for name, results in sets.items():
                held, width = coverage(results)
                by_figure.setdefault(name, []).append(Coverage(held, width))
                print(f"  {name:<38}{number:>8}{held:>8.1%}{width:>12.2f}", flush=True)
    print("| figure | intervals that held the truth | half width |\n|---|---|---|")
    for name, each in by_figure.items():
        held, widths = [100 * x.held for x in each], [x.width for x in each]
        print(
            f"| {name} | {min(held):.0f}% to {max(held):.0f}% "
            f"| {np.nanmin(widths):.1f} to {np.nanmax(widths):.1f} |"
        )


if __name__ == "__main__":
    run(__doc__.splitlines()[0], WORLDS, measure, rows=[500, 2000, 10_000, 60_000])
