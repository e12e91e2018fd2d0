import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.metrics import probe
from sparc.analyze.metrics.logistic import Fit, Problem, fit
from sparc.analyze.rows.sample import split


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), separation=st.sampled_from([0.0, 1.0, 50.0]))
def test_regressions_are_those_of_scikit_learn(seed, separation):
    generator = np.random.default_rng(seed)
    y = np.concatenate([[True, False], generator.random(40) < 0.4])
    x = generator.normal(size=(42, 3)) + separation * y[:, None]
    x[:, 2] = generator.random(42) < 0.1
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-9)
    (actual,) = fit([Problem(x, y)])
    for column in range(3):
        model = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000)
        model.fit(x[:, [column]], y)
        assert actual.slope[column] == pytest.approx(model.coef_[0, 0], abs=1e-3)
        assert actual.intercept[column] == pytest.approx(model.intercept_[0], abs=1e-3)


def make(seed, images=400, latents=12):
    """Latent 3 predicts class 0, nothing class 1; class 2 is rare, class 3 is everywhere."""
    generator = np.random.default_rng(seed)
    labels = np.zeros((images, 4), np.int32)
    labels[:, 0] = generator.random(images) < 0.3
    labels[:, 1] = generator.random(images) < 0.3
    labels[:19, 2] = 1
    labels[:, 3] = 1
    values = generator.random((images, latents)) * (generator.random((images, latents)) < 0.3)
    values[:, 3] = labels[:, 0] * (1 + generator.random(images))
    return sparse.csr_matrix(values.astype(np.float32)), sparse.csr_matrix(labels)


def measured(matrix, labels, ids=(7, 5, 3, 1), control="trained"):
    code_set = CodeSet("independent", control)
    return probe.table(matrix, labels, np.array(ids), code_set, "a", 1).to_pylist()


def test_a_planted_latent_is_selected_and_the_rest_is_chance():
    actual = {x["class_id"]: x for x in measured(*make(0))}
    # The rare class has too few images, the one that all carry has no others.
    assert set(actual) == {7, 5}
    assert actual[7]["latent"] == 3
    assert actual[7]["log_loss"] < 0.1
    assert actual[7]["accuracy"] == 1
    assert actual[5]["log_loss"] == pytest.approx(np.log(2), abs=0.1)
    assert actual[5]["images"] == int(make(0)[1][:, 1].sum())


def test_a_latent_selected_among_noise_is_not_better_than_chance():
    """The mean loss over many unpredictable classes is not below chance."""
    generator = np.random.default_rng(3)
    labels = sparse.csr_matrix((generator.random((300, 60)) < 0.4).astype(np.int32))
    matrix = sparse.csr_matrix(generator.random((300, 50)).astype(np.float32))
    losses = [x["log_loss"] for x in measured(matrix, labels, range(60))]
    assert len(losses) == 60
    assert np.mean(losses) > np.log(2)


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_is_that_of_plain_steps(seed):
    """One class, repeated with scikit-learn on the same parts."""
    matrix, labels = make(seed, images=120)
    (line, *_) = measured(matrix, labels)
    positive = labels.toarray()[:, 0] > 0
    generator = np.random.default_rng([1, 7])
    count = min(positive.sum(), (~positive).sum())
    chosen = np.concatenate(
        [generator.permutation(np.flatnonzero(side))[:count] for side in (positive, ~positive)]
    )
    part = np.concatenate([split(count, generator) for _ in range(2)])
    y = positive[chosen]
    best = None
    for latent in range(12):
        x = matrix.toarray()[chosen][:, [latent]].astype(np.float64)
        x = (x - x[part == 0].mean()) / x[part == 0].std()
        model = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(
            x[part == 0], y[part == 0]
        )
        choice, score = (log_loss(y[part == p], model.predict_proba(x[part == p])) for p in (1, 2))
        if best is None or choice < best[0]:
            best = choice, latent, score
    assert line["latent"] == best[1]
    assert line["log_loss"] == pytest.approx(best[2], abs=1e-5)
    assert line["log_loss_low"] < line["log_loss"] < line["log_loss_high"]


def test_without_an_active_latent_nothing_is_predicted():
    _, labels = make(0)
    (line, *_) = measured(sparse.csr_matrix((400, 12), dtype=np.float32), labels)
    assert (line["latent"], line["accuracy"]) == (None, 0)  # a tie is wrong
    assert line["log_loss"] == pytest.approx(np.log(2))
    # A probe fitted on other images might use a latent.
    assert line["log_loss_low"] < line["log_loss"] - 0.01
    assert line["log_loss_high"] > line["log_loss"] + 0.01
    assert line["accuracy_low"] == 0
    assert 0 < line["accuracy_high"] < 0.1


def test_intervals_are_those_of_the_tested_images():
    """500 images tested: the interval of a share and of a mean, as one computes them by hand."""
    generator = np.random.default_rng(0)
    right = generator.random(500) < 0.8
    losses = generator.exponential(size=500)
    probed = [probe._Probed(0, losses, right, 1000)]
    columns = {**probe._log_losses(probed), **probe._accuracies(probed)}
    actual = {name: column[0] for name, column in columns.items()}
    for name, values, least in (("accuracy", right, 0.5), ("log_loss", losses, 0.5)):
        assert actual[name] == pytest.approx(values.mean())
        width = actual[f"{name}_high"] - actual[f"{name}_low"]
        # With 20 folds a standard error is known to about a sixth.
        assert width == pytest.approx(2 * 1.96 * values.std() / np.sqrt(500), rel=0.4)
        assert actual[f"{name}_low"] > least


@pytest.mark.parametrize("half", [5, 10, 60])
@pytest.mark.parametrize("truths", [(0.99, 0.99), (0.9, 0.9), (0.95, 0.5)])
def test_intervals_of_accuracy_have_their_coverage(half, truths):
    """Few tested images: all may be right, which does not make it certain."""
    generator = np.random.default_rng(1)
    drawn = [np.concatenate([generator.random(half) < p for p in truths]) for _ in range(400)]
    actual = probe._accuracies(
        [probe._Probed(0, np.ones(2 * half), right, 4 * half) for right in drawn]
    )
    held = (actual["accuracy_low"] <= np.mean(truths)) & (
        np.mean(truths) <= actual["accuracy_high"]
    )
    assert held.mean() >= 0.92


def test_all_right_is_not_certain():
    actual = probe._accuracies([probe._Probed(0, np.ones(20), np.ones(20, bool), 40)])
    assert (actual["accuracy"], actual["accuracy_high"]) == (1, 1)
    # Of 20 throws of a coin that shows heads with this chance, all do in 5% of the cases.
    assert actual["accuracy_low"] == pytest.approx(0.05 ** (1 / 20))


@pytest.mark.parametrize("strength", [0.0, 0.5, 2.0])
def test_intervals_of_log_loss_cover_other_images_to_fit_and_to_test(strength):
    """Near chance what is fitted matters more than what is tested: without it 84% to 89% held."""
    generator = np.random.default_rng(2)
    lines = []
    for seed in range(150):
        y = np.arange(120) < 60
        x = (generator.normal(size=120) + strength * y).clip(0)
        lines += probe.table(
            sparse.csr_matrix(x[:, None], dtype=np.float32),
            sparse.csr_matrix(y[:, None].astype(np.int32)),
            np.arange(1),
            CodeSet("joint"),
            "a",
            seed,
        ).to_pylist()
    value, low, high = (
        np.array([x[f"log_loss{end}"] for x in lines]) for end in ("", "_low", "_high")
    )
    truth = value.mean()
    assert ((low <= truth) & (truth <= high)).mean() >= 0.93
    assert (high - low).mean() < 2 * 1.96 * 1.4 * value.std()


def test_a_tie_but_for_rounding_goes_to_the_first_candidate():
    y = np.repeat([True, False], 8)
    part = np.tile([0, 0, 1, 2], 4)
    prepared = probe._Prepared(np.array([5, 3]), np.zeros((16, 2)), y, part)
    # The second one's loss where it is validated is smaller by 7e-16.
    fitted = Fit(np.zeros(2), np.array([0.3, 0.3 - 1e-14]))
    assert probe._probe(prepared, fitted).latent == 5
