"""Do the intervals of what a model and features give hold the truth? Run it by hand.

    python tests/benchmarks/bench_coverage_tables.py [--sets 200] [--rows 500 2000] [--seed 0]

The companion of `bench_coverage.py`, which says how its output is read: reconstruction, selection,
what is left out, monosemanticity, retrieval, the intervention on it, the probe and the
classification, each by the table that `sparc-analyze run` writes, and explained variance by target,
a mean over two sources of three streams. A model with random weights stays as it is, and so do the
latents that the intervention keeps; every set has other images of eight classes, with one row each
or up to four.
"""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from bench_coverage import Figures, ends, run
from scipy import sparse

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.codes.encode import encode_jointly
from sparc.analyze.maths.reduction import Reducer
from sparc.analyze.measures.reconstruction import Reconstruction
from sparc.analyze.metrics import (
    classification,
    intervention,
    left_out,
    probe,
    reconstruction,
    retrieval,
    selection,
)
from sparc.analyze.metrics.meaning import monosemanticity
from sparc.analyze.report.figure_names import as_text
from sparc.analyze.rows.folds import Folds, assign_folds
from sparc.analyze.rows.images import Images
from sparc.analyze.rows.sample import Sample, split_images
from sparc.train.config import ModelConfig, StreamShape
from sparc.train.model.initialize import create_model
from sparc.train.model.network import Sparc

LATENTS, DIM, CLASSES = 48, 12, 8
MOST_SCORED = 500
"""Images that retrieval, the probe and the classification take at most."""


class World(NamedTuple):
    """What data sets are drawn from.

    Attributes:
        name: What it is called.
        own: Standard deviation of what is a stream's own; of what streams share it is 1.
        captions: How many rows an image has at most.
    """

    name: str
    own: float
    captions: int


WORLDS = World("alike streams", 0.3, 1), World("unlike streams, captions", 1.5, 4)


class _InMemory(NamedTuple):
    """As much of `sparc.analyze.codes.parts.Parts` as monosemanticity reads, in one part."""

    features: dict[str, npt.NDArray[np.float32]]
    of_rows: CodeRows
    streams: tuple[str, ...]
    latents: int = LATENTS

    @property
    def cache(self) -> Any:
        streams = {name: SimpleNamespace(dim=DIM) for name in self.streams}
        return SimpleNamespace(info=SimpleNamespace(rows=len(self.of_rows.rows)), streams=streams)

    def __len__(self) -> int:
        return 1

    def codes(self, _part: int) -> CodeRows:
        return self.of_rows

    def placed_features(self, _part: int, stream: str) -> tuple[npt.NDArray[np.int64], Any]:
        return self.of_rows.rows, self.features[stream]


def measure(world: World, rows: int, sets: int, seed: int) -> Iterator[Figures]:
    """The figures of each set, by name: value and ends of the interval."""
    generator = np.random.default_rng(seed)
    shapes = tuple(StreamShape(name, DIM) for name in ("a", "b"))
    model = create_model(ModelConfig(streams=shapes, latents=LATENTS, k=6), seed=1)
    of_three = create_model(
        ModelConfig(streams=(*shapes, StreamShape("c", DIM)), latents=LATENTS, k=6), seed=1
    )
    sharing = create_model(model.config, seed=1)  # half of its latents mean the same in both
    sharing.encoder["b"].data[: LATENTS // 2] = sharing.encoder["a"].data[: LATENTS // 2]
    centres = generator.normal(size=(2, CLASSES, DIM))
    choices: tuple[intervention.Choice, ...] = ()
    for number in range(sets):
        captions = generator.integers(1, 1 + world.captions, rows)
        of_row = np.repeat(np.arange(rows), captions)[:rows]
        images = of_row[-1] + 1
        of_image = generator.integers(0, CLASSES, images)
        of_both = generator.normal(size=(images, DIM))
        features = {}
        for stream, centre in zip(("a", "b"), centres, strict=True):
            own = generator.normal(size=(rows if stream == "b" else images, DIM))
            own = own if stream == "b" else own[of_row]  # Captions differ, the image does not.
            both = (centre[of_image] + of_both)[of_row]
            features[stream] = (both + world.own * own).astype(np.float32)
        folds = assign_folds(Images(of_row, np.ones(images, np.bool_)), seed)
        figures = dict(_figures(model, features, folds, of_row, of_image))
        sample = _scored(of_row)
        matrices = _matrices(sharing, features, sample)
        choices = choices or intervention.choose_by_halves(sample, matrices, seed=seed)
        figures |= _interventions(sample, matrices, choices, seed)
        own = np.random.default_rng([seed, number]).normal(size=(images, DIM))[of_row]
        third = (both + world.own * own).astype(np.float32)
        yield figures | dict(_by_target(of_three, {**features, "c": third}, folds))


def _encode_independently(
    model: Sparc, features: dict[str, npt.NDArray[np.float32]], rows: npt.NDArray[np.int64]
) -> CodeRows:
    alone = {s: encode_jointly(model, {s: x}, rows, batch_size=4096) for s, x in features.items()}
    return CodeRows(
        rows,
        {s: codes.indices[s] for s, codes in alone.items()},
        {s: codes.values[s] for s, codes in alone.items()},
    )


def _interventions(
    sample: Sample,
    matrices: intervention.Matrices,
    choices: Sequence[intervention.Choice],
    seed: int,
) -> Figures:
    lines = intervention.table(
        "independent", "trained", [("b", "a")], sample, {"a": "image", "b": "text"}, matrices,
        choices=choices, seed=seed,
    ).to_pylist()  # fmt: skip
    return {
        f"intervention, {line['kept']}, {name}": ends(line, name)
        for line in lines
        for name in ("r_at_1", "r_at_10")
    }


def _matrices(
    model: Sparc, features: dict[str, npt.NDArray[np.float32]], sample: Sample
) -> intervention.Matrices:
    some = {stream: x[sample.rows] for stream, x in features.items()}
    codes = _encode_independently(model, some, sample.rows)
    return {stream: codes.matrix(stream, LATENTS) for stream in codes.streams}


def _scored(of_row: npt.NDArray[np.int64]) -> Sample:
    some = np.flatnonzero(of_row < MOST_SCORED)
    return Sample(some, of_row[some], np.full(len(some), -1))


def _by_target(
    model: Sparc, features: dict[str, npt.NDArray[np.float32]], folds: Folds
) -> Iterator[tuple[str, tuple[float, float, float]]]:
    codes = _encode_independently(model, features, np.arange(len(folds.of_row)))
    sums = reconstruction.sum_errors(model, features, codes, folds)
    table = reconstruction.table(sums, CodeSet("independent"), folds.share)
    figures = as_text(Reconstruction().figures(table.to_pylist()))
    for stream in features:
        low, value, high = (
            figures[f"explained_variance_cross{end}/independent/trained/{stream}"]
            for end in ("_low", "", "_high")
        )
        assert low is not None
        assert value is not None
        assert high is not None
        yield f"explained_variance_cross of {stream}", (value, low, high)


def _figures(
    model: Sparc,
    features: dict[str, npt.NDArray[np.float32]],
    folds: Folds,
    of_row: npt.NDArray[np.int64],
    of_image: npt.NDArray[np.int64],
) -> Iterator[tuple[str, tuple[float, float, float]]]:
    rows = np.arange(len(of_row))
    joint = encode_jointly(model, features, rows, batch_size=4096)
    independent = _encode_independently(model, features, rows)
    counts = selection.count_choices(joint, independent, LATENTS, folds, padded=False)
    yield (
        "selection, share",
        ends(selection.table(counts, "trained", folds).to_pylist()[0], "share"),
    )
    tables = left_out.tables(model, features, "trained", folds, batch_size=4096)
    for line in tables.selection.to_pylist():
        if line["left_out"] == "a":
            kind = "selected" if line["stream"] is None else "active"
            yield f"left out, {kind}, kept", ends(line, "kept")
            yield f"left out, {kind}, jaccard", ends(line, "jaccard")
    for line in tables.reconstruction.to_pylist():
        if (line["left_out"], line["target"]) == (None, "b"):
            yield f"reconstruction, {line['source']} to b, nmse", ends(line, "nmse")
            yield (
                f"reconstruction, {line['source']} to b, explained",
                ends(line, "explained_variance"),
            )
    first = np.unique(of_row, return_index=True)[1]
    code_set = CodeSet("joint")
    scores = monosemanticity.score_latents(
        _InMemory(features, joint, joint.streams),
        first,
        folds,
        Reducer("sync", 1),  # type: ignore[arg-type]
    )
    for line in monosemanticity.means(scores, code_set, folds.share).to_pylist():
        if line["stream"] == "a":
            yield f"monosemanticity, in {line['reference']}", ends(line, "value")
    sample = _scored(of_row)
    some = sample.rows
    line = retrieval.table(
        "raw", None, "trained", [("b", "a")], sample, {"a": "image", "b": "text"},
        lambda source, _: features[source][some], lambda target: features[target][some],
    ).to_pylist()[0]  # fmt: skip
    for name in ("r_at_1", "r_at_10", "mean_reciprocal_rank"):
        yield f"retrieval, {name}", ends(line, name)
    first = first[:MOST_SCORED]
    labels = sparse.csr_matrix(np.eye(CLASSES, dtype=np.int32)[of_image[: len(first)]])
    codes = joint.matrix("a", LATENTS)[first]
    # A single latent is there to be chosen, so that the truth is the same in all sets.
    single = sparse.csr_matrix(features["a"][first][:, :1].clip(0))
    ids = np.arange(CLASSES)
    for line in probe.table(single, labels, ids, code_set, "a", 1).to_pylist():
        if line["class_id"] == 0:
            yield "probe, accuracy", ends(line, "accuracy")
            yield "probe, log loss", ends(line, "log_loss")
    chosen = split_images(labels, 1)
    line = classification.row("codes", "joint", "trained", "a", "a", codes, chosen).to_pylist()[0]
    yield "classification", ends(line, "mean_average_precision")


if __name__ == "__main__":
    run(__doc__.splitlines()[0], WORLDS, measure, rows=[500, 2000])
