"""Whether retrieval rests on the latents that streams share: it is repeated with and without them.

See `REPORT.md` for the table. Which latents are shared is decided on the images of one half of the
sample, and retrieval measured with the queries of the other half, both ways round: a latent that
happens to be active on the same rows in two streams is not rewarded on these very rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from sparc.analyze.maths import mispairing
from sparc.analyze.maths.intervals import mean_of_known, mean_share, with_interval
from sparc.analyze.metrics.retrieval import ranks
from sparc.analyze.rows.sample import Sample
from sparc.common.streams.info import Modality

SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("control", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("kept", pa.string(), nullable=False),
        pa.field("latents", pa.float64(), nullable=False),
        pa.field("queries", pa.int64(), nullable=False),
        pa.field("candidates", pa.int64(), nullable=False),
        *(
            pa.field(f"{name}{end}", pa.float64(), nullable=end != "")
            for name in ("r_at_1", "r_at_10")
            for end in ("", "_low", "_high", "_sd")
        ),
    ]
)

DRAWS = 5
"""Random choices of as many latents as are shared."""

STRATA = 10
"""Classes of frequency that random choices keep to."""

QUANTILE = 0.95
"""A shared latent's excess of overlap is above this quantile of that of mispaired latents."""

Matrices = Mapping[str, sparse.csr_matrix]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Choice(NamedTuple):
    """Latents that are kept, by the images of one half.

    Attributes:
        shared: Which latents the streams share, (latents,).
        random: As many of like frequency, at random, (draws, latents).
    """

    shared: Flags
    random: Flags

    def kept(self) -> Iterator[tuple[str, Flags]]:
        """What is kept, and which latents these are, (cases, latents)."""
        shared = self.shared[None]
        yield "all", np.ones_like(shared)
        yield "shared", shared
        yield "not_shared", ~shared
        yield "random", self.random
        yield "not_random", ~self.random


def choose(matrices: Matrices, *, seed: int) -> Choice:
    """Which latents the streams share, and random choices of as many.

    Args:
        matrices: By stream, the codes of the rows that decide, (rows, latents).
        seed: All that decides beside them.
    """
    active = [matrix > 0 for matrix in matrices.values()]
    counts = np.stack([np.bincount(m.indices, minlength=m.shape[1]) for m in active])
    shared = _shared(active, counts, seed)
    generator = np.random.default_rng([seed, len(shared)])
    random = np.zeros((DRAWS, len(shared)), np.bool_)
    alive = np.flatnonzero(counts.sum(0) > 0)
    by_frequency = alive[np.argsort(counts.sum(0)[alive], kind="stable")]
    for stratum in np.array_split(by_frequency, STRATA):
        for draw in random:
            draw[generator.permutation(stratum)[: shared[stratum].sum()]] = True
    return Choice(shared, random)


def _shared(active: Sequence[Any], counts: npt.NDArray[np.int64], seed: int) -> Flags:
    rows, latents = active[0].shape
    by_latent = [matrix.tocsc() for matrix in active]
    own: list[Floats] = []
    chance: list[Floats] = []
    same = mispairing.same_latents(*counts.shape)
    mispaired = mispairing.mispaired(counts, seed=seed, draw=0)
    for pairing, excesses in ((same, own), (mispaired, chance)):
        for a, b, partners, known in pairing.pairs:
            if not known:
                excesses.append(np.full(latents, np.nan))
                continue
            both = by_latent[a].multiply(by_latent[b][:, partners]).sum(axis=0)
            excesses.append(excess(np.asarray(both).ravel(), counts[a], counts[b][partners], rows))
    mean, of_chance = (mean_of_known(np.stack(x, axis=-1)) for x in (own, chance))
    drawn = of_chance[~np.isnan(of_chance)]
    result: Flags = mean > (np.quantile(drawn, QUANTILE) if len(drawn) else np.inf)
    return result


def excess(
    both: npt.NDArray[Any], first: npt.NDArray[Any], second: npt.NDArray[Any], rows: int
) -> Floats:
    """(J - J0) / (1 - J0): Jaccard of active rows above that of independent sets as large.

    Args:
        both: Rows on which a latent is active in both streams, (latents,).
        first: Those in the first stream.
        second: Those in the second.
        rows: Of how many rows.

    Returns:
        (latents,); NaN where a latent is dead in either stream, or active everywhere in both.
    """
    known = (first > 0) & (second > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = first * second / rows
        jaccard = both / (first + second - both)
        independent = expected / (first + second - expected)
        result: Floats = np.where(known, (jaccard - independent) / (1 - independent), np.nan)
    return result


def choose_by_halves(sample: Sample, matrices: Matrices, *, seed: int) -> tuple[Choice, Choice]:
    """For the queries of each half, what the other half decides.

    Args:
        sample: The rows.
        matrices: By stream, the codes of the sample's rows, (rows, latents).
        seed: Decides the halves, the mispaired latents and the random choices.
    """
    half = _halves(sample, seed)
    first, second = (
        choose({s: m[half != which] for s, m in matrices.items()}, seed=seed) for which in (0, 1)
    )
    return first, second


def table(
    mode: str,
    control: str,
    pairs: Sequence[tuple[str, str]],
    sample: Sample,
    modalities: Mapping[str, Modality],
    matrices: Matrices,
    *,
    choices: Sequence[Choice],
    seed: int,
) -> pa.Table:
    """Retrieval by codes with some latents only, of schema `SCHEMA`.

    Args:
        mode: How the codes were selected.
        control: Which control they are.
        pairs: (source, target): the streams of the queries and of the candidates.
        sample: The rows.
        modalities: By stream, what its encoder reads.
        matrices: By stream, the codes of the sample's rows, (rows, latents).
        choices: As `choose_by_halves` makes them, usually of the same codes.
        seed: Decides the halves.
    """
    half = _halves(sample, seed)
    lines = []
    for source, target in pairs:
        asking = sample.stand_ins(modalities[source])
        offered = sample.stand_ins(modalities[target])
        relevant = sample.relevant(modalities[source], modalities[target])
        queries, candidates = matrices[source][asking], matrices[target][offered]
        images = sample.images[asking]
        for of_halves in zip(*(choice.kept() for choice in choices), strict=True):
            cases = len(of_halves[0][1])
            ranking = np.zeros((cases, len(asking)), np.int64)
            for which, (_, kept) in enumerate(of_halves):
                mine = np.flatnonzero(half[asking] == which)
                for case, latents in enumerate(kept):
                    some = _only(queries[mine], latents), _only(candidates, latents)
                    ranking[case, mine] = ranks(*some, relevant[mine]) if len(mine) else 0
            lines.append(
                {
                    "mode": mode,
                    "control": control,
                    "source": source,
                    "target": target,
                    "kept": of_halves[0][0],
                    "latents": float(np.mean([kept.sum(1).mean() for _, kept in of_halves])),
                    "queries": len(asking),
                    "candidates": len(offered),
                    **_figures(ranking, images),
                }
            )
    return pa.Table.from_pylist(lines, schema=SCHEMA)


def _figures(ranks_of_cases: npt.NDArray[np.int64], images: Any) -> dict[str, float | None]:
    """R@1 and R@10 with intervals, and their standard deviation over random choices."""
    result: dict[str, float | None] = {}
    for n in (1, 10):
        hits = ranks_of_cases <= n
        result |= with_interval(f"r_at_{n}", *mean_share(hits.mean(axis=0), images))
        several = len(hits) > 1
        result[f"r_at_{n}_sd"] = float(hits.mean(axis=1).std(ddof=1)) if several else None
    return result


def _halves(sample: Sample, seed: int) -> npt.NDArray[np.int64]:
    """The half, 0 or 1, of each row's image, (rows,)."""
    images = int(sample.images.max(initial=-1)) + 1
    halves: npt.NDArray[np.int64] = np.random.default_rng([seed, images]).permutation(images) % 2
    return halves[sample.images]


def _only(codes: sparse.csr_matrix, kept: Flags) -> sparse.csr_matrix:
    """Codes without the latents that are not kept."""
    result = codes.copy()
    result.data = np.where(kept[result.indices], result.data, 0)
    result.eliminate_zeros()
    return result
