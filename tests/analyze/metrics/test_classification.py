import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import StandardScaler

from sparc.analyze.metrics import classification
from sparc.analyze.metrics.classification import average_precision, fit_ridges
from sparc.analyze.rows.sample import split_images


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000), wide=st.booleans(), as_sparse=st.booleans(),
    ridge=st.sampled_from([1e-3, 1.0, 10.0]),
)  # fmt: skip
def test_predictions_are_those_of_scikit_learn(seed, wide, as_sparse, ridge):
    generator = np.random.default_rng(seed)
    dim = 50 if wide else 12
    inputs = generator.random((40, dim)) * (generator.random((40, dim)) < 0.5)
    training = np.arange(40) < 25
    inputs[training, 2] = 3  # constant where it is training: it must not count
    labels = generator.random((40, 3)) < 0.4
    kept = np.flatnonzero(inputs[training].std(axis=0) > 1e-9)
    x = StandardScaler().fit(inputs[training][:, kept]).transform(inputs[:, kept])
    model = Ridge(alpha=ridge * 25).fit(x[training], labels[training].astype(float))
    wrap = sparse.csr_matrix if as_sparse else np.asarray
    (fitted,) = fit_ridges(wrap(inputs), labels, training, [ridge])
    some = generator.random(15) < 0.5
    np.testing.assert_allclose(fitted.scores(some), model.predict(x[~training][some]), atol=1e-6)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_average_precision_is_that_of_scikit_learn(seed):
    generator = np.random.default_rng(seed)
    labels = generator.random((20, 3)) < 0.3
    labels[0] = True
    scores = generator.permutation(60).reshape(20, 3).astype(float)
    expected = [average_precision_score(labels[:, c], scores[:, c]) for c in range(3)]
    folds = np.concatenate([[0], generator.integers(1, 4, 19)])
    actual = average_precision(scores, labels, folds)
    assert actual.shape == (1 + folds.max(), 3)
    np.testing.assert_allclose(actual[:1], average_precision(scores, labels))
    np.testing.assert_allclose(actual[0], expected)
    for fold in range(1, len(actual)):
        left = folds != fold
        expected = [average_precision_score(labels[left, c], scores[left, c]) for c in range(3)]
        np.testing.assert_allclose(actual[fold], expected)


def test_a_class_that_one_fold_has_is_left_out_with_it():
    labels = np.array([[True, True], [False, True], [False, False]])
    actual = average_precision(np.array([[3.0, 1], [2, 2], [1, 3]]), labels, np.array([1, 2, 2]))
    np.testing.assert_allclose(actual, [[1, (1 / 2 + 2 / 3) / 2], [np.nan, 1 / 2], [1, 1]])


def test_ties_count_as_wrong():
    labels = np.array([[True], [False], [False], [True]])
    assert average_precision(np.zeros((4, 1)), labels)[0, 0] == pytest.approx((1 / 3 + 2 / 4) / 2)


def make(images=400):
    generator = np.random.default_rng(0)
    labels = (generator.random((images, 5)) < 0.3).astype(np.int32)
    labels[:, 3] = 0
    labels[:, 4] = 1
    x = generator.normal(size=(images, 20))
    x[:, 7] += 4 * labels[:, 0]
    return x, sparse.csr_matrix(labels)


def test_classes_in_the_inputs_are_predicted_and_others_are_chance():
    x, labels = make()
    images = split_images(labels, 1)

    def line(inputs):
        table = classification.row("codes", "joint", "trained", "a", "b", inputs, images)
        return table.to_pylist()[0]

    actual = line(x)
    assert (actual["images"], actual["classes"]) == (400, 3)
    assert actual["ridge"] in classification.RIDGES
    assert actual["mean_average_precision"] > (0.9 + 0.2 + 0.2) / 3
    noise = np.random.default_rng(5).normal(size=(400, 20))
    assert line(noise)["mean_average_precision"] == pytest.approx(0.35, abs=0.08)
    # Constant inputs predict nothing, and ties count as wrong.
    assert line(np.ones((400, 3)))["mean_average_precision"] < 0.3


def test_intervals_are_those_of_the_tested_images():
    x, labels = make()
    images = split_images(labels, 1)
    tested = images.parts == 2
    table = classification.row("codes", "joint", "trained", "a", "a", x, images).to_pylist()[0]
    training = images.parts == 0
    (ridge,) = fit_ridges(x, images.labels, training, [table["ridge"]])
    scores = ridge.scores(tested[~training])
    values = []
    for fold in range(21):
        left = (images.folds[tested] != fold) | (fold == 0)
        y = images.labels[tested][left]
        values.append(
            np.mean([average_precision_score(y[:, c], scores[left, c]) for c in range(3)])
        )
    squares = sum((v - np.mean(values[1:])) ** 2 for v in values[1:])
    margin = stats.t.ppf(0.975, 19) * np.sqrt(19 / 20 * squares)
    low, high = (table[f"mean_average_precision_{end}"] for end in ("low", "high"))
    assert table["mean_average_precision"] == pytest.approx(values[0])
    # As wide as that of a mean, but longer where there is more room.
    assert high - low == pytest.approx(2 * margin, rel=0.1)
    assert 0 < high - values[0] < values[0] - low < 1


def test_a_perfect_precision_is_not_certain():
    images = split_images(make()[1], 1)
    perfect = np.hstack([np.asarray(images.labels, float)] * 2)
    table = classification.row("codes", "joint", "trained", "a", "a", perfect, images).to_pylist()[
        0
    ]
    assert table["mean_average_precision"] == table["mean_average_precision_high"] == 1
    tested = np.count_nonzero(images.parts == 2)
    assert table["mean_average_precision_low"] == pytest.approx(0.05 ** (1 / tested))


def test_too_few_images_give_nulls():
    x, labels = make()
    images = split_images(labels[:8], 1)
    table = classification.row("raw", None, "trained", "a", "a", x[:8], images)
    for end in ("", "_low", "_high"):
        assert table[f"mean_average_precision{end}"].to_pylist() == [None]
