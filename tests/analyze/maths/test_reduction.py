import os
import time

import numpy as np
import pytest

from sparc.analyze import cluster
from sparc.analyze.maths import reduction
from sparc.analyze.maths.reduction import open_reducer
from sparc.common.errors import SparcError


def term(shared, part):
    """A number whose sum depends on the order in which it is taken."""
    return np.array([shared * 10.0 ** ((part * 7) % 23), 1.0 / (part + 1)])


def merge(results):
    return sum(results)


def reduce(scheduler, workers, parts=37):
    with open_reducer(scheduler, workers) as reducer:
        return reducer.reduce(term, merge, 0.1, parts)


@pytest.mark.parametrize("parts", [1, 2, 8, 9, 64, 65])
def test_the_sum_is_that_of_all_parts(parts):
    expected = sum(term(0.1, part) for part in range(parts))
    np.testing.assert_allclose(reduce("sync", 0, parts), expected)


@pytest.mark.parametrize("parts", [7, 8, 9, 14, 15, 50])
def test_many_parts_make_few_tasks(monkeypatch, parts):
    monkeypatch.setattr(reduction, "_TASKS", 7)
    expected = sum(term(0.1, part) for part in range(parts))
    np.testing.assert_allclose(reduce("sync", 0, parts), expected)
    assert (reduce("threads", 2, parts) == reduce("sync", 0, parts)).all()

    tasks = []
    monkeypatch.setattr(reduction, "_map_after", lambda *_: tasks.append(1) or 0)
    reduce("sync", 0, parts)
    assert len(tasks) <= 7


def test_graphs_do_not_grow_with_the_parts():
    """A task that maps, one that merges and one that waits, of each; and what they share."""
    common = (int,)
    sizes = {
        parts: len(reduction._graph(term, merge, common, parts, 2).__dask_graph__())
        for parts in (10, 10**3, 10**4, 10**6)
    }
    assert sizes[10] <= 2 * 3 * 10
    assert sizes[10**6] <= 6 * reduction._TASKS
    assert sizes[10**6] <= 1.1 * sizes[10**4]


def test_results_do_not_depend_on_the_workers():
    reference = reduce("sync", 0)
    for workers in (1, 2, 5):
        assert (reduce("threads", workers) == reference).all()


class Counted:
    """A result that knows how many of its kind are held."""

    held = most = 0

    def __init__(self):
        Counted.held += 1
        Counted.most = max(Counted.most, Counted.held)

    def __del__(self):
        Counted.held -= 1


def test_few_results_are_held_however_many_parts():
    Counted.most = 0
    with open_reducer("sync", 1) as reducer:
        reducer.reduce(lambda *_: Counted(), lambda *_: Counted(), None, 512)
    # One of each of the two levels, one part ahead, the next one, and what they are merged to.
    assert Counted.most <= 5


def test_parts_wait_for_slow_merges():
    def merge(_):
        time.sleep(0.002)
        return Counted()

    Counted.most = 0
    with open_reducer("threads", 2) as reducer:
        reducer.reduce(lambda *_: Counted(), merge, None, 128)
    # Two parts ahead, and what is held anyway.
    assert Counted.most <= 2 + 5


def test_a_cluster_gives_the_same_bits():
    distributed = pytest.importorskip("distributed")
    local = distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        dashboard_address=None,
        host="127.0.0.1",
        protocol="tcp",
    )
    with local:
        assert (reduce(local.scheduler_address, 0) == reduce("sync", 0)).all()


def test_a_cluster_that_does_not_answer_is_named(monkeypatch):
    distributed = pytest.importorskip("distributed")

    def refuse(*args, **options):
        raise OSError("timed out")

    monkeypatch.setattr(distributed, "Client", refuse)
    with pytest.raises(SparcError, match=r"no Dask scheduler answers at tcp://127.0.0.1:1"):
        reduce("tcp://127.0.0.1:1", 0)


def die(shared, part):
    os._exit(9)


def die_once(marker, part):
    if not marker.exists():
        marker.touch()
        os._exit(9)
    return np.array([part])


def test_a_pass_is_begun_again_where_workers_die_and_given_up_where_they_do_so_always(
    monkeypatch, tmp_path, capsys
):
    """The only worker dies with all that it was sent."""
    distributed = pytest.importorskip("distributed")
    one = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None
    )
    with one, open_reducer(one.scheduler_address) as reducer:
        assert reducer.reduce(die_once, sum, tmp_path / "died", 5) == sum(range(5))
        assert "what they were at is begun again" in capsys.readouterr().err
        monkeypatch.setattr(cluster, "_TRIES", 1)
        with pytest.raises(SparcError, match=r"workers of the Dask cluster died, .* to continue"):
            reducer.reduce(die, sum, {}, 3)


@pytest.fixture(scope="module")
def empty_cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=0,
        processes=False,
        dashboard_address=None,
        host="127.0.0.1",
        protocol="tcp",
    ) as empty:
        yield empty


def test_a_cluster_without_workers_is_an_error_after_a_while(monkeypatch, empty_cluster):
    monkeypatch.setattr(cluster, "_WORKERS_SECONDS", 0.2)
    address = empty_cluster.scheduler_address
    message = f"{address} has had no worker for 0 s: start some .dask worker {address}. and run"
    with pytest.raises(SparcError, match=message):
        reduce(address, 0)


def test_workers_with_other_versions_are_refused_by_name(monkeypatch, empty_cluster):
    def versions(**others):
        return lambda: {"sparc": "1", "numpy": "2", **others}

    empty_cluster.scale(1)
    answers = iter([versions(), versions(numpy="2.1")])
    monkeypatch.setattr(cluster, "software_versions", lambda: next(answers)())
    with pytest.raises(SparcError, match=r"worker tcp://\S+ has numpy 2\.1, this process 2: inst"):
        reduce(empty_cluster.scheduler_address, 0)
