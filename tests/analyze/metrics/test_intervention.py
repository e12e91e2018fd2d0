"""Retrieval with some latents only, against plain loops and against planted codes."""

from itertools import combinations, permutations

import numpy as np
import pytest
from scipy import sparse

from sparc.analyze.maths.mispairing import partners
from sparc.analyze.metrics import intervention
from sparc.analyze.rows.sample import Sample

MODALITIES = {"a": "image", "b": "text", "c": "text"}
SEED = 3


def draw(generator, images=60, latents=40):
    """Dense codes by stream of images with two captions each, and their sample.

    The first half of the latents is active on the same rows in all streams, with like values; the
    other half, and the last two, which are dead somewhere, on rows of each stream's own.
    """
    rows = 2 * images
    common = generator.random((rows, latents)) < 0.15
    common[1::2] = common[::2]  # an image is one feature
    codes = {}
    for stream in MODALITIES:
        active = common.copy()
        active[:, latents // 2 :] = generator.random((rows, latents - latents // 2)) < 0.15
        codes[stream] = active * generator.uniform(0.5, 1, active.shape).astype(np.float32)
    codes["a"][1::2] = codes["a"][::2]
    codes["a"][:, -1] = 0
    for values in codes.values():
        values[:, -2] = 0
    sample = Sample(np.arange(rows), np.arange(rows) // 2, np.full(rows, -1))
    return codes, sample


def table_of(codes, sample, streams=("a", "b", "c")):
    matrices = {s: sparse.csr_matrix(codes[s]) for s in streams}
    pairs = list(permutations(streams, 2))
    choices = intervention.choose_by_halves(sample, matrices, seed=SEED)
    return intervention.table(
        "independent", "trained", pairs, sample, MODALITIES, matrices, choices=choices, seed=SEED
    ).to_pylist()


def plain_shared(codes):
    """The definition of REPORT.md, latent by latent; the mispaired partners are a module's own."""
    latents = codes["a"].shape[1]
    active = {s: x > 0 for s, x in codes.items()}

    def excess(x, y):
        if not x.any() or not y.any():
            return None
        jaccard = (x & y).sum() / (x | y).sum()
        both = x.mean() * y.mean()
        chance = both / (x.mean() + y.mean() - both)
        return (jaccard - chance) / (1 - chance)

    own, mispaired = [[] for _ in range(latents)], [[] for _ in range(latents)]
    for number, (s, t) in enumerate(combinations(codes, 2)):
        counts = active[s].sum(0), active[t].sum(0)
        others = partners(*counts, seed=SEED, draw=0, pair=number)
        for latent in range(latents):
            x = active[s][:, latent]
            own[latent].append(excess(x, active[t][:, latent]))
            mispaired[latent].append(excess(x, active[t][:, others[latent]]))

    def mean(values):
        known = [v for v in values if v is not None]
        return np.mean(known) if known else np.nan

    chance = np.array([mean(v) for v in mispaired])
    least = np.quantile(chance[~np.isnan(chance)], 0.95)
    return np.array([mean(v) > least for v in own])


def plain_rank(queries, candidates, asked, offered):
    """Ranks by float64 cosines."""
    result = []
    for query, image in zip(queries, asked, strict=True):
        scores = []
        for candidate in candidates:
            norms = np.linalg.norm(query) * np.linalg.norm(candidate)
            scores.append(query @ candidate / norms if norms else 0.0)
        scores = np.array(scores)
        best = scores[offered == image].max()
        result.append(1 + (scores[offered != image] >= best - 1e-6).sum())
    return np.array(result)


@pytest.fixture(scope="module")
def drawn():
    return draw(np.random.default_rng(0))


def test_figures_are_those_of_plain_loops(drawn):
    codes, sample = drawn
    images = int(sample.images.max()) + 1
    half = (np.random.default_rng([SEED, images]).permutation(images) % 2)[sample.images]
    shared = [plain_shared({s: x[half != which] for s, x in codes.items()}) for which in (0, 1)]
    lines = {(x["source"], x["target"], x["kept"]): x for x in table_of(codes, sample)}
    assert len(lines) == 6 * 5
    for source, target in permutations(MODALITIES, 2):
        asking = np.arange(0, 120, 2) if source == "a" else np.arange(120)
        offered = np.arange(0, 120, 2) if target == "a" else np.arange(120)
        for kept, masks in (
            ("all", [np.ones(40, bool)] * 2),
            ("shared", shared),
            ("not_shared", [~mask for mask in shared]),
        ):
            ranks = np.zeros(len(asking))
            for which in (0, 1):
                mine = half[asking] == which
                ranks[mine] = plain_rank(
                    codes[source][asking[mine]] * masks[which],
                    codes[target][offered] * masks[which],
                    sample.images[asking[mine]],
                    sample.images[offered],
                )
            line = lines[source, target, kept]
            assert line["latents"] == np.mean([mask.sum() for mask in masks])
            assert (line["queries"], line["candidates"]) == (len(asking), len(offered))
            assert line["r_at_1"] == pytest.approx((ranks <= 1).mean())
            assert line["r_at_10"] == pytest.approx((ranks <= 10).mean())
            assert line["r_at_1_low"] <= line["r_at_1"] <= line["r_at_1_high"]
            assert line["r_at_1_sd"] is None


def test_shared_latents_are_the_planted_ones_and_carry_retrieval(drawn):
    codes, sample = drawn
    choice = intervention.choose({s: sparse.csr_matrix(x) for s, x in codes.items()}, seed=SEED)
    assert choice.shared[:20].all()
    assert choice.shared[20:].sum() <= 3  # one in twenty by chance
    lines = table_of(codes, sample)
    kept = {x["kept"] for x in lines}
    r_at_1 = {name: np.mean([x["r_at_1"] for x in lines if x["kept"] == name]) for name in kept}
    assert r_at_1["shared"] > 0.1 + max(r_at_1["all"], r_at_1["random"])
    assert r_at_1["not_shared"] < 0.05 < r_at_1["not_random"]
    assert all((x["r_at_1_sd"] is None) == ("random" not in x["kept"]) for x in lines)


def test_random_choices_keep_to_the_frequency_and_number_of_the_shared_ones():
    generator = np.random.default_rng(1)
    codes, _ = draw(generator, images=200, latents=100)
    for values in codes.values():  # frequencies from rare to common
        values *= generator.random(values.shape) < np.linspace(0.2, 1, 100)
    matrices = {s: sparse.csr_matrix(x) for s, x in codes.items()}
    shared, random = intervention.choose(matrices, seed=SEED)
    counts = sum((x > 0).sum(0) for x in codes.values())
    strata = np.array_split(np.argsort(counts, kind="stable")[(counts == 0).sum() :], 10)
    for draw_ in random:
        assert not draw_[counts == 0].any()
        assert [draw_[s].sum() for s in strata] == [shared[s].sum() for s in strata]
    assert len({draw_.tobytes() for draw_ in random}) == len(random)


@pytest.mark.parametrize("images", [1, 2, 3])
def test_few_images_and_dead_streams_are_no_errors(images):
    codes, sample = draw(np.random.default_rng(0), images=images)
    codes["c"][:] = 0
    for line in table_of(codes, sample):
        assert 0 <= line["r_at_1"] <= line["r_at_10"] <= 1
        assert (line["r_at_1_low"] is None) == (images == 1)
