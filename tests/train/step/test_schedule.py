import itertools

import pytest

from sparc.train.step.schedule import learning_rate


def course(schedule, warmup_steps, steps=100, peak=2.0):
    return [
        learning_rate(step, steps=steps, peak=peak, warmup_steps=warmup_steps, schedule=schedule)
        for step in range(steps)
    ]


def test_constant_after_the_warm_up():
    rates = course("constant", 10)
    assert rates[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert set(rates[9:]) == {2.0}


def test_the_cosine_spans_what_is_left_of_the_run():
    rates = course("cosine", 20)
    assert rates[19] == rates[20] == 2.0
    assert rates[60] == pytest.approx(1.0)
    assert all(a > b for a, b in itertools.pairwise(rates[20:]))
    assert 0 < rates[-1] < 0.002


def test_the_tail_is_the_last_fifth():
    rates = course("tail", 10)
    assert rates[9:81] == [2.0] * 72
    assert rates[81:] == pytest.approx([2.0 * (19 - i) / 20 for i in range(19)])


def test_a_warm_up_longer_than_the_run():
    assert course("cosine", 1000)[-1] == pytest.approx(0.2)
