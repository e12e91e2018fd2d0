"""Whoever takes chunks waits for what is written, and never for nothing."""

import threading

import pytest

from sparc.extract.encoding.chunk_queue import ChunkQueue

CHUNKS = ["first", "second", "third"]


def test_it_ends_without_a_chunk_written_where_none_is_left():
    queue = ChunkQueue(iter(CHUNKS[:1]), ahead=1)
    assert queue.take(wait=True) == "first"
    assert queue.take(wait=True) is None


@pytest.mark.parametrize("ahead", [1, 2])
def test_no_more_are_handed_out_than_may_be_unwritten(ahead):
    queue = ChunkQueue(iter(CHUNKS), ahead)
    assert [queue.take(wait=False) for _ in range(ahead)] == CHUNKS[:ahead]
    assert queue.take(wait=False) is None
    queue.written()
    assert queue.take(wait=True) == CHUNKS[ahead]


@pytest.mark.parametrize("end", ["written", "stop"])
def test_who_waits_goes_on_when_a_chunk_is_written_or_the_queue_stops(end):
    queue = ChunkQueue(iter(CHUNKS), ahead=1)
    queue.take(wait=True)
    taken = []
    threads = [
        threading.Thread(target=lambda: taken.append(queue.take(wait=True)), daemon=True)
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    getattr(queue, end)()
    if end == "written":
        queue.written()
    for thread in threads:
        thread.join(20)
    assert sorted(taken, key=str) == ([None, None] if end == "stop" else CHUNKS[1:])
    assert queue.stopped == (end == "stop")


def test_a_queue_that_hands_out_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        ChunkQueue(iter(CHUNKS), ahead=0)
