"""False discoveries and power of the tables with tests: under the null, and with planted effects.

    python tests/benchmarks/bench_nulls.py [--runs 200] [--seed 1] [--planted-runs 40]
        [--workers 2]

Size: codes, words and attributes are independent, in worlds where a careless test rejects too often
(uneven numbers of captions, uneven frequencies, few images, many images, one class, dead latents).
The share of runs with any discovery is printed beside the nominal rate: under the null every
discovery is false, so that the false discovery rate is the chance of any. (A run counts if any
stream has a discovery; each stream has its own nominal rate.)

Power: a latent, a pair or a name is planted at several strengths, and the share of runs that detect
it is printed. For agreement, where a share of the latents stand for the same classes in all
streams, it is the excess over any two latents, which should be that share.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from sparc.analyze.bias.associations import find_bias
from sparc.analyze.bias.attribute import Attribute
from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.maths.reduction import Reducer
from sparc.analyze.metrics.agreement.counts import count_classes
from sparc.analyze.metrics.agreement.table import table as agreement_table
from sparc.analyze.metrics.meaning import cofiring, naming
from sparc.analyze.rows import top_rows
from sparc.analyze.rows.folds import assign_folds
from sparc.analyze.rows.images import Images
from sparc.analyze.rows.labels import labels_of
from sparc.analyze.rows.words import CaptionWords
from sparc.common.cache.tables import CLASSES

Flags = np.ndarray
RATE = 0.05  # What `sparc-analyze bias` claims by default.
STREAM = "text"


class Shape(NamedTuple):
    """How large a simulated cache is and how its codes and words are spread.

    Attributes:
        images: How many images.
        captions: Draws the number of captions of each image.
        latents: How many latents; a tenth of them are dead.
        frequencies: The least and the largest share of rows on which a latent is active.
        word: The share of captions that have the word, or of images that have the class.
    """

    images: int
    captions: Callable[[np.random.Generator, int], np.ndarray]
    latents: int = 100
    frequencies: tuple[float, float] = (0.005, 0.2)
    word: float = 0.1


def one(generator: np.random.Generator, images: int) -> np.ndarray:
    return np.ones(images, np.int64)


def one_to_six(generator: np.random.Generator, images: int) -> np.ndarray:
    return generator.integers(1, 7, images)


def some_have_two(generator: np.random.Generator, images: int) -> np.ndarray:
    return 1 + (generator.random(images) < 0.12)


def some_have_twelve(generator: np.random.Generator, images: int) -> np.ndarray:
    return np.where(generator.random(images) < 0.1, 12, 1)


SHAPES = {
    "one caption": Shape(1500, one),
    "1 to 6 captions": Shape(1500, one_to_six),
    "12% have a second caption": Shape(20_000, some_have_two, latents=60),
    "10% have 12 captions": Shape(2000, some_have_twelve),
    "few images": Shape(60, one_to_six, frequencies=(0.02, 0.5), word=0.3),
    "few have the attribute": Shape(3000, one_to_six, word=0.002),
    "even frequencies": Shape(1500, one_to_six, frequencies=(0.1, 0.1)),
}


class Data(NamedTuple):
    """A simulated cache and the codes of its one stream, a row for each caption."""

    codes: CodeRows
    images: Images
    latents: int


class CacheInfo(NamedTuple):
    rows: int


class Cache(NamedTuple):
    info: CacheInfo


class Parts:
    """Codes in memory: what `find_bias` and `count_cofiring` ask of `Parts`."""

    def __init__(self, data: Data, pieces: int = 3) -> None:
        ends = np.linspace(0, len(data.codes.rows), pieces + 1).astype(int)
        self._pieces = [data.codes.take(np.arange(a, b)) for a, b in pairwise(ends)]
        self.streams, self.latents = data.codes.streams, data.latents
        self.code_set = CodeSet("independent")
        self.cache = Cache(CacheInfo(len(data.codes.rows)))

    def __len__(self) -> int:
        return len(self._pieces)

    def codes(self, part: int, streams: tuple[str, ...] = ()) -> CodeRows:
        return self._pieces[part]

    def rows(self, part: int) -> np.ndarray:
        return self._pieces[part].rows


def rows_of(shape: Shape, generator: np.random.Generator) -> Images:
    """Images with a row for each caption."""
    of_row = np.repeat(np.arange(shape.images), shape.captions(generator, shape.images))
    return Images(of_row, np.ones(shape.images, np.bool_))


def chances(shape: Shape, images: Images) -> np.ndarray:
    """The chance that each latent is active on a row under the null, (rows, latents)."""
    frequencies = np.geomspace(*shape.frequencies, shape.latents)
    frequencies[::10] = 0
    return np.tile(frequencies, (len(images.of_row), 1))


def draw(images: Images, chance: np.ndarray, generator: np.random.Generator) -> Data:
    """Codes that are active with some chances."""
    return make(images, generator.random(chance.shape) < chance, generator)


def make(images: Images, active: Flags, generator: np.random.Generator) -> Data:
    """Codes that are active where they are to be, with random values."""
    rows, latents = active.shape
    values = np.where(active, 0.1 + generator.random(active.shape), 0).astype(np.float32)
    indices = np.tile(np.arange(latents, dtype=np.uint16), (rows, 1))
    codes = CodeRows(np.arange(rows), {STREAM: indices}, {STREAM: values})
    return Data(codes, images, latents)


# ---------------------------------------------------------------------- findings


class Findings(NamedTuple):
    """What `find_bias` reports: latents, and pairs of latents; by control."""

    latents: set[tuple[str, int]]
    pairs: set[tuple[str, int, int]]


def bias(data: Data, held: Flags, seed: int, rate: float = RATE) -> Findings:
    """What goes with an attribute of images."""
    tables = find_bias(
        Parts(data), data.images, Attribute("it", held, np.ones_like(held)), {},
        Reducer("sync", None),
        rate=rate, examples=1, pair_latents=data.latents, most_pairs=50, seed=seed,
    )  # fmt: skip
    latents = tables.associations.filter(tables.associations["associated"]).to_pylist()
    pairs = tables.pairs.to_pylist()
    return Findings(
        {(x["control"], x["latent"]) for x in latents},
        {(x["control"], x["first_latent"], x["second_latent"]) for x in pairs},
    )


def names(data: Data, by_caption: Flags, top: int = 50) -> set[tuple[int, int]]:
    """The words, by number, that name latents.

    Args:
        data: The codes.
        by_caption: (rows, words), 1 where a caption has a word.
        top: Rows of a latent's list.
    """
    of_row, images = data.images.of_row, len(data.images)
    spelt = np.array([f"{w:03}" for w in range(by_caption.shape[1])], object)
    captions = [" ".join(spelt[held]) for held in by_caption]
    tables = naming.table(
        [STREAM], [top_rows.strongest(data.codes, STREAM, top)], data.latents,
        CaptionWords(lambda: [pa.array(captions)], data.images), data.images,
        np.bincount(of_row, minlength=images), CodeSet("independent"), names=5,
    )  # fmt: skip
    return {(x["latent"], int(x["word"])) for x in tables.to_pylist()}


def random_words(images: Images, generator: np.random.Generator, words: int = 60) -> Flags:
    """Captions of which every word has a frequency of its own, (rows, words)."""
    frequencies = np.geomspace(0.01, 0.2, words)
    return generator.random((len(images.of_row), words)) < frequencies


def pairs_that_fire_together(data: Data) -> set[tuple[int, int]]:
    """The pairs of `cofiring.parquet`."""
    first_rows = data.images.first_rows(np.ones(len(data.codes.rows), np.bool_))
    reducer = Reducer("sync", None)
    tables = cofiring.count_cofiring(Parts(data), first_rows, reducer, partners=10, seed=1).pairs
    table = cofiring.table(tables, CodeSet("independent"))
    return {(x["first_latent"], x["second_latent"]) for x in table.to_pylist()}


# ---------------------------------------------------------------------- under the null


def word_in_captions(shape: Shape, images: Images, generator: np.random.Generator) -> Flags:
    """The images of which any caption has a word."""
    return images.any_row(generator.random(len(images.of_row)) < shape.word)


def class_of_images(shape: Shape, images: Images, generator: np.random.Generator) -> Flags:
    """A class that is more frequent among the images with many captions."""
    captions = images.count_rows(np.ones(len(images.of_row), np.bool_))
    return generator.random(len(images)) < np.minimum(shape.word * captions / captions.mean(), 1)


def null_associations(shape: Shape, seed: int) -> dict[str, bool]:
    """Whether `sparc-analyze bias` finds anything, by what it finds."""
    generator = np.random.default_rng(seed)
    images = rows_of(shape, generator)
    data = draw(images, chances(shape, images), generator)
    results = {}
    for kind, attribute in (("words:", word_in_captions), ("class:", class_of_images)):
        result = bias(data, attribute(shape, images, generator), seed)
        controls = {control for control, *_ in result.latents}
        results[f"bias {kind}"] = "trained" in controls
        results[f"bias {kind} shuffled"] = "shuffled" in controls
        results[f"bias {kind} pairs"] = any(control == "trained" for control, *_ in result.pairs)
    return results


def null_pairs(shape: Shape, seed: int) -> dict[str, bool]:
    """Whether pairs are discovered of latents that are independent given an attribute."""
    generator = np.random.default_rng(seed)
    images = rows_of(shape, generator)
    held = word_in_captions(shape, images, generator)
    chance = chances(shape, images)
    chance[:, ::2] *= np.where(held[images.of_row], 2.5, 0.7)[:, None]
    tables = bias(draw(images, chance, generator), held, seed)
    return {
        "pairs of associated latents": any(control == "trained" for control, *_ in tables.pairs)
    }


def null_names(shape: Shape, seed: int) -> dict[str, bool]:
    """Whether any latent gets a name."""
    generator = np.random.default_rng(seed)
    images = rows_of(shape, generator)
    data = draw(images, chances(shape, images), generator)
    return {"naming": bool(names(data, random_words(images, generator)))}


def null_meetings(shape: Shape, seed: int) -> dict[str, bool]:
    """Whether any two latents are said to be active together."""
    generator = np.random.default_rng(seed)
    images = rows_of(shape, generator)
    data = draw(images, chances(shape, images), generator)
    return {"cofiring": bool(pairs_that_fire_together(data))}


NULLS = (null_associations, null_pairs, null_names, null_meetings)
CLAIMED = {"naming": naming.LARGEST_Q, "cofiring": cofiring.LARGEST_Q}
"""By discovery, the nominal false discovery rate if not `RATE`."""


def share_of_runs(
    null: Callable[[Shape, int], Mapping[str, bool]],
    shape: Shape,
    runs: int,
    seed: int,
    each: Callable[..., Iterable[Any]] = map,
) -> dict[str, float]:
    """The share of the runs with a discovery under the null.

    Args:
        null: Simulates a cache and gives its discoveries.
        shape: The shape of the cache.
        runs: How many.
        seed: Where their seeds begin.
        each: Applies a function to each seed, perhaps in several processes.
    """
    results = list(each(partial(null, shape), _seeds(runs, seed)))
    return {kind: float(np.mean([values[kind] for values in results])) for kind in results[0]}


# ---------------------------------------------------------------------- planted effects

PLANTED = Shape(2000, one_to_six, word=0.1)
LATENT, PARTNER = 75, 74
RARE = (
    31  # A latent that is active on 1.6% of the rows, so that its list is mostly what is planted.
)


def planted_association(odds: float, seed: int) -> bool:
    """Whether a latent is discovered whose odds are larger with the attribute."""
    generator = np.random.default_rng(seed)
    images = rows_of(PLANTED, generator)
    held = word_in_captions(PLANTED, images, generator)
    chance = chances(PLANTED, images)
    base = chance[:, LATENT] / (1 - chance[:, LATENT]) * np.where(held[images.of_row], odds, 1)
    chance[:, LATENT] = base / (1 + base)
    return ("trained", LATENT) in bias(draw(images, chance, generator), held, seed).latents


def planted_pair(share: float, seed: int) -> bool:
    """Whether two latents are discovered of which one copies the other on a share of such rows."""
    generator = np.random.default_rng(seed)
    images = rows_of(PLANTED, generator)
    held = word_in_captions(PLANTED, images, generator)
    active = generator.random((len(images.of_row), PLANTED.latents)) < 0.1
    copied = held[images.of_row] & (generator.random(len(active)) < share)
    active[copied, PARTNER] |= active[copied, LATENT]
    tables = bias(make(images, active, generator), held, seed, rate=RATE).pairs
    return ("trained", PARTNER, LATENT) in tables


def planted_name(share: float, seed: int) -> bool:
    """Whether a word names a latent that is active on a share of the captions with it."""
    generator = np.random.default_rng(seed)
    images = rows_of(PLANTED, generator)
    words = random_words(images, generator)
    active = generator.random((len(images.of_row), PLANTED.latents)) < chances(PLANTED, images)
    active[:, RARE] |= words[:, 30] & (generator.random(len(words)) < share)
    return (RARE, 30) in names(make(images, active, generator), words)


STRENGTHS: tuple[tuple[str, Callable[[float, int], bool], tuple[float, ...]], ...] = (
    ("bias, odds ratio on a row", planted_association, (1.25, 1.5, 2.0, 3.0)),
    ("pairs, share of rows that copy", planted_pair, (0.1, 0.3, 0.6, 1.0)),
    ("naming, share of captions", planted_name, (0.1, 0.2, 0.5, 1.0)),
)


def power(
    find: Callable[[float, int], bool],
    strength: float,
    runs: int,
    seed: int,
    each: Callable[..., Iterable[Any]] = map,
) -> float:
    """The share of the runs that detect a planted effect; arguments as for `share_of_runs`."""
    return float(np.mean(list(each(partial(find, strength), _seeds(runs, seed)))))


# ---------------------------------------------------------------------- agreement

AGREEING = (0.0, 0.25, 0.5, 0.75, 1.0)
MISSED = (0.0, 0.3)
"""On which share of its rows a latent is not active, in each stream on others; 0: clean codes."""

_CONCEPTS, _LATENTS, _SEEN = 40, 80, ("a", "b", "c")


def excess(share: float, seed: int, *, missed: float) -> float:
    """Agreement's excess where a share of the latents stand for the same classes in all streams.

    A latent is active on the images of three classes. A latent that is not shared has other ones in
    each stream.

    Args:
        share: The share of the latents that are shared.
        seed: Everything else follows from it.
        missed: On which share of these rows it is not active.
    """
    generator = np.random.default_rng(seed)
    images = rows_of(Shape(1000, one_to_six), generator)
    often = 1 / np.sqrt(1 + np.arange(_CONCEPTS))
    of_row = generator.choice(_CONCEPTS, len(images), p=often / often.sum())[images.of_row]
    labels = labels_of(
        [pa.array(of_row[:, None].tolist(), pa.list_(pa.int32()))],
        _flat_classes(_CONCEPTS),
        where="here",
    )
    assert labels is not None
    shared = np.arange(_LATENTS) < share * _LATENTS
    alike, values = _some_classes(generator), {}
    for stream in _SEEN:
        stands_for = np.where(shared[:, None], alike, _some_classes(generator))
        active = stands_for[:, of_row].T & (generator.random((len(of_row), _LATENTS)) >= missed)
        values[stream] = active.astype(np.float32)
    indices = np.tile(np.arange(_LATENTS, dtype=np.uint8), (len(of_row), 1))
    codes = CodeRows(np.arange(len(of_row)), dict.fromkeys(_SEEN, indices), values)
    folds = assign_folds(images, seed)
    table = agreement_table(
        count_classes(codes, labels, _LATENTS),
        [top_rows.strongest(codes, stream, top_rows.with_spare(50)) for stream in _SEEN],
        labels,
        CodeSet("independent"),
        top=50,
        images=images,
        sample=codes.take(folds.rows),
        seed=seed,
    )
    (results,) = (
        line["excess"]
        for line in table.to_pylist()
        if (line["depth"], line["first"]) == (1, None)
        and (line["restriction"], line["averaged_over"]) == ("all_rows", "all")
    )
    return float(results)


def _some_classes(generator: np.random.Generator) -> Flags:
    """Three classes for each latent, (latents, classes)."""
    return generator.random((_LATENTS, _CONCEPTS)).argsort(axis=1) < 3


def _flat_classes(number: int) -> pa.Table:
    names = [f"class {c}" for c in range(number)]
    nothing, ones = [None] * number, [1] * number
    return pa.table([range(number), names, names, nothing, ones], schema=CLASSES)


def _seeds(runs: int, seed: int) -> range:
    return range(seed * 1_000_000, seed * 1_000_000 + runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--planted-runs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.workers) as pool:
        size(options.runs, options.seed, pool.map)
        print()
        strengths(options.planted_runs, options.seed, pool.map)
        print()
        agreeing(options.planted_runs, options.seed, pool.map)


def size(runs: int, seed: int, each: Callable[..., Iterable[Any]]) -> None:
    """Print false discoveries under the null."""
    print(f"{'under the null':<28} {'discovery':<30} {'claimed':>8} {'measured':>9}")
    for name, shape in SHAPES.items():
        for null in NULLS:
            for kind, share in share_of_runs(null, shape, runs, seed, each).items():
                claimed = CLAIMED.get(kind, RATE)
                print(f"{name:<28} {kind:<30} {claimed:>8.1%} {share:>9.1%}", flush=True)


def strengths(runs: int, seed: int, each: Callable[..., Iterable[Any]]) -> None:
    """Print the power to detect planted effects."""
    print(f"{'planted effect':<34} {'strength':>8} {'power':>7}")
    for name, find, planted in STRENGTHS:
        for strength in planted:
            share = power(find, strength, runs, seed, each)
            print(f"{name:<34} {strength:>8} {share:>7.0%}", flush=True)


def agreeing(runs: int, seed: int, each: Callable[..., Iterable[Any]]) -> None:
    """Print agreement's excess where a share of the latents mean the same in all streams."""
    print(f"{'latents that mean the same':<28} {'rows missed':>12} {'excess':>8} {'sd':>7}")
    for missed in MISSED:
        for share in AGREEING:
            excesses = list(each(partial(excess, share, missed=missed), _seeds(runs, seed)))
            line = (
                f"{share:<28.0%} {missed:>12.0%} {np.mean(excesses):>8.3f} {np.std(excesses):>7.3f}"
            )
            print(line, flush=True)


if __name__ == "__main__":
    main()
