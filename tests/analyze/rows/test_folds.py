import numpy as np
import pytest

from sparc.analyze.rows import folds
from sparc.analyze.rows.folds import assign_folds
from sparc.analyze.rows.images import Images


def make(images, rows_each=1, analysed=None):
    flags = np.ones(images, bool) if analysed is None else np.asarray(analysed, bool)
    return Images(np.repeat(np.arange(images), rows_each), flags)


def test_folds_have_the_same_number_of_whole_images():
    assigned = assign_folds(make(1003, rows_each=3), 7)
    of_image = assigned.of_row.reshape(1003, 3)
    assert (of_image == of_image[:, :1]).all()
    assert np.bincount(of_image[:, 0]).tolist() == [3, *[50] * 20]
    assert (assigned.number, assigned.share) == (20, 50 / 1003)
    assert assigned.rows.tolist() == np.flatnonzero(assigned.of_row).tolist()


def test_the_seed_and_the_images_decide():
    once = assign_folds(make(200), 7)
    assert (assign_folds(make(200), 7).of_row == once.of_row).all()
    assert (assign_folds(make(200), 8).of_row != once.of_row).any()
    assert (assign_folds(make(200, rows_each=2), 7).of_row == np.repeat(once.of_row, 2)).all()
    # Neighbours are as likely to be together as any two images.
    many = assign_folds(make(20_000), 0).of_row
    assert (many[1:] == many[:-1]).mean() == pytest.approx(1 / 20, abs=0.01)


def test_images_that_are_not_analysed_are_in_no_fold():
    analysed = np.arange(90) % 3 > 0
    assigned = assign_folds(make(90, analysed=analysed), 1)
    assert not assigned.of_row[~analysed].any()
    assert (np.bincount(assigned.of_row[analysed])).tolist() == [0, *[3] * 20]
    assert assigned.share == 3 / 60


def test_rows_in_folds_are_bounded(monkeypatch):
    monkeypatch.setattr(folds, "MOST_ROWS", 200)
    assigned = assign_folds(make(1000, rows_each=2), 1)
    assert np.bincount(assigned.of_row).tolist() == [1800, *[10] * 20]
    assert assigned.share == 5 / 1000


@pytest.mark.parametrize("images", [1, 2, 5, 19])
def test_few_images_are_folds_of_one_each(images):
    assigned = assign_folds(make(images, rows_each=2), 1)
    expected = images if images > 1 else 0
    assert assigned.number == expected == len(set(assigned.of_row.tolist()) - {0})
