import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from sparc.analyze.metrics import retrieval
from sparc.analyze.rows.images import number_images
from sparc.analyze.rows.sample import choose_sample


def of_images(query_images, candidate_images):
    """Which candidates show each query's image."""
    return sparse.csr_matrix(np.equal.outer(query_images, candidate_images))


def brute_force(queries, candidates, query_images, candidate_images):
    """Ranks by plain loops in float64."""
    ranks = []
    for query, image in zip(queries, query_images, strict=True):
        scores = []
        for candidate in candidates:
            norms = np.linalg.norm(query) * np.linalg.norm(candidate)
            scores.append(float(query @ candidate) / norms if norms else 0.0)
        right = [s for s, p in zip(scores, candidate_images, strict=True) if p == image]
        wrong = [s for s, p in zip(scores, candidate_images, strict=True) if p != image]
        ranks.append(1 + sum(s >= max(right) - 1e-6 for s in wrong))
    return ranks


@given(
    seed=st.integers(0, 10_000),
    images=st.integers(1, 8),
    copies=st.integers(0, 8),
    as_sparse=st.booleans(),
    cost=st.sampled_from([0, 12, 1 << 20]),
)
def test_ranks_are_those_of_plain_loops(seed, images, copies, as_sparse, cost):
    """Several captions per image, zero vectors and duplicates among the candidates."""
    generator = np.random.default_rng(seed)
    # Small whole numbers tie often and their cosines are never nearly equal by accident.
    queries = generator.choice([0, 1, 2], size=(images, 4)).astype(np.float64)
    candidates = generator.choice([0, 1, 2], size=(images + copies, 4)).astype(np.float64)
    of = np.concatenate([np.arange(images), generator.integers(0, images, copies)])
    shuffle = generator.permutation(len(of))
    candidates, of = candidates[shuffle], of[shuffle]
    asked = generator.permutation(images)
    wrap = sparse.csr_matrix if as_sparse else np.asarray
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "_COST_OF_A_PRODUCT", cost)
        actual = retrieval.ranks(
            wrap(queries.astype(np.float32)),
            wrap(candidates.astype(np.float32)),
            of_images(asked, of),
        )
    assert actual.tolist() == brute_force(queries, candidates, asked, of)


@pytest.mark.parametrize("wrap", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("scores", [1, 16 * 50, 1 << 22])
@pytest.mark.parametrize("cost", [0, 1 << 20])
def test_more_queries_than_a_batch(monkeypatch, wrap, scores, cost):
    monkeypatch.setattr(retrieval, "_SCORES", scores)
    monkeypatch.setattr(retrieval, "_COST_OF_A_PRODUCT", cost)
    vectors = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    images = np.arange(50)
    noisy = (vectors + np.random.default_rng(1).normal(size=vectors.shape)).astype(np.float32)
    actual = retrieval.ranks(wrap(noisy), wrap(vectors), of_images(images, images))
    assert actual.tolist() == brute_force(noisy, vectors, images, images)


def test_both_ways_to_multiply_sparse_vectors_give_the_same_bits():
    generator = np.random.default_rng(0)
    queries, candidates = (
        sparse.random(n, 90, density=0.1, format="csr", dtype=np.float32, random_state=generator)
        for n in (30, 40)
    )
    scores = retrieval._sum_of_products(candidates.T.tocsr(), queries)
    np.testing.assert_array_equal(scores, (candidates @ queries.T.toarray()).T)
    assert scores.dtype == np.float32


def test_a_tie_of_duplicated_images_counts_against_the_query():
    vectors = np.ones((10, 3), np.float32) * np.float32(0.1)
    images = np.arange(10)
    assert retrieval.ranks(vectors, vectors, of_images(images, images)).tolist() == [10] * 10


def test_all_zero_features_rank_last():
    zero = np.zeros((4, 3), np.float32)
    images = np.arange(4)
    right = of_images(images, images)
    assert retrieval.ranks(zero, zero, right).tolist() == [4] * 4
    assert retrieval.ranks(sparse.csr_matrix(zero), zero, right).tolist() == [4] * 4


def sample_of(ids):
    """All rows of some images, named by row."""
    everything = np.ones(len(ids), bool)
    images = number_images([pa.array(ids, pa.string())], everything)
    return choose_sample(images, everything, len(ids), 0)


def test_figures_of_a_hand_made_case():
    """Two images with two captions each; the second caption of each is the other's best."""
    sample = sample_of(["a", "a", "b", "b"])
    images = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    texts = np.array([[1, 0.1], [0, 1], [0.1, 1], [1, 0]], np.float32)
    vectors = {"image": images, "text": texts}
    actual = retrieval.table(
        "codes", "independent", "trained", [("image", "text"), ("text", "image")], sample,
        {"image": "image", "text": "text"}, lambda s, _: vectors[s], lambda t: vectors[t],
    ).to_pylist()  # fmt: skip
    image_to_text, text_to_image = actual
    # Image a: caption 3 (of b) scores 1, its own best 0.995: rank 2. The same for b.
    assert (image_to_text["queries"], image_to_text["candidates"]) == (2, 4)
    assert (image_to_text["r_at_1"], image_to_text["r_at_5"]) == (0, 1)
    assert image_to_text["median_rank"] == 2
    # Captions 0 and 2 find their image, 1 and 3 the other one.
    assert (text_to_image["queries"], text_to_image["candidates"]) == (4, 2)
    assert text_to_image["r_at_1"] == 0.5
    assert text_to_image["median_rank"] == 1.5
    assert text_to_image["mean_reciprocal_rank"] == pytest.approx((1 + 0.5 + 1 + 0.5) / 4)


def test_equal_captions_of_other_images_are_relevant():
    """Three drawings of one emoji have the same caption: no model can distinguish them."""
    sample = sample_of(["a", "b", "c", "d"]).with_captions(pa.array(["owl", "owl", "owl", "cat"]))
    vectors = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)
    for source, target in (("image", "text"), ("text", "image"), ("text", "text")):
        (line,) = retrieval.table(
            "codes", "independent", "trained", [(source, target)], sample,
            {"image": "image", "text": "text"}, lambda *_: vectors, lambda _: vectors,
        ).to_pylist()  # fmt: skip
        assert line["r_at_1"] == 1
    # Among images only the drawing itself is relevant, and it ties with the two others.
    (line,) = retrieval.table(
        "codes", "independent", "trained", [("image", "image")], sample,
        {"image": "image"}, lambda *_: vectors, lambda _: vectors,
    ).to_pylist()  # fmt: skip
    assert line["r_at_1"] == 0.25


def line_of(results, images):
    """The table's line for ranks that came about somehow."""
    return retrieval._with_intervals(np.array(results), np.array(images))


def test_intervals_are_those_of_independent_images():
    """A share of one half among 2,000 images: 1.96 standard errors to either side."""
    actual = line_of([1, 20] * 1000, range(2000))
    error = np.sqrt(0.25 / 2000)
    assert actual["r_at_1"] == 0.5
    assert actual["r_at_1_low"] == pytest.approx(0.5 - 1.96 * error, abs=0.2 * error)
    assert actual["r_at_1_high"] == pytest.approx(0.5 + 1.96 * error, abs=0.2 * error)
    reciprocal = np.array([1, 1 / 20] * 1000)
    width = actual["mean_reciprocal_rank_high"] - actual["mean_reciprocal_rank_low"]
    assert width == pytest.approx(2 * 1.96 * reciprocal.std() / np.sqrt(2000), rel=0.1)


def test_captions_of_one_image_do_not_narrow_an_interval():
    once = line_of([1, 20] * 100, range(200))
    copies = line_of(np.repeat([1, 20] * 100, 5), np.repeat(np.arange(200), 5))
    for name, value in once.items():
        assert copies[name] == pytest.approx(value, abs=1e-3), name
        if name.endswith("_low"):
            assert copies[name] <= value + 1e-12


def test_constant_ranks_have_an_interval():
    """Fifty of fifty, mid-P: the chance of them, halved, is 2.5% at the lower end."""
    actual = line_of([1] * 50, range(50))
    assert (actual["r_at_1"], actual["r_at_1_high"]) == (1, pytest.approx(1))
    assert actual["r_at_1_low"] == pytest.approx(0.05 ** (1 / 50))
    copies = line_of([1] * 250, np.repeat(np.arange(50), 5))
    assert copies["r_at_1_low"] == pytest.approx(actual["r_at_1_low"])


def test_one_image_has_no_interval():
    actual = line_of([1, 2], [0, 0])
    assert actual["r_at_1"] == 0.5
    assert actual["r_at_1_low"] is actual["mean_reciprocal_rank_high"] is None


@pytest.mark.parametrize("truth", [0.02, 0.5, 0.97])
def test_intervals_have_their_coverage(truth):
    """Sixty images of one to five captions, of which half follow their image."""
    draws = np.random.default_rng(0)
    sets, held = 400, 0
    for _ in range(sets):
        images = np.repeat(np.arange(60), draws.integers(1, 6, 60))
        follows = draws.random(len(images)) < 0.5
        of_image = (draws.random(60) < truth)[images]
        success = np.where(follows, of_image, draws.random(len(images)) < truth)
        actual = line_of(np.where(success, 1, 20), images)
        held += actual["r_at_1_low"] <= truth <= actual["r_at_1_high"]
    # One or two images decide where successes are rare: the interval is then a little wide.
    assert 0.93 <= held / sets <= (0.995 if truth == 0.02 else 0.99)
