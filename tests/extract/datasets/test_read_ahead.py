"""Parts of files that are fetched before they are wanted."""

import threading

from sparc.extract.datasets.folders.read_ahead import Part, ReadAhead
from sparc.extract.encoding.loader import ImageLoader


class Behind:
    """A dataset of images behind a store that answers once all is forgotten."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = threading.Event()
        self.ahead = ReadAhead(self._fetch)

    def _fetch(self, file: str, offset: int, size: int) -> bytes:
        self.asked.append(file)
        self.go.wait(60)
        return bytes(size)

    def read_image(self, image_path: str) -> bytes:
        return self.ahead.take(Part(image_path, 0, 10))

    def expect(self, image_paths) -> None:
        self.ahead.expect(Part(path, 0, 10) for path in image_paths)

    def forget(self) -> None:
        self.ahead.forget()
        self.go.set()


def test_an_interruption_waits_for_no_image_that_has_not_been_asked_for() -> None:
    dataset = Behind()
    with ImageLoader(dataset, 2) as loader:
        loader.submit([f"p{n}" for n in range(60)], {})
    assert dataset.read_image("p59") == bytes(10)
    dataset.ahead._pool.shutdown()  # as the end of a process does
    assert len(dataset.asked) < 20


def test_who_waits_for_a_part_that_is_forgotten_fetches_it() -> None:
    dataset, got = Behind(), []
    dataset.expect([f"p{n}" for n in range(20)])
    thread = threading.Thread(target=lambda: got.append(dataset.read_image("p19")))
    thread.start()
    while Part("p19", 0, 10) in dataset.ahead._ahead:
        pass
    dataset.forget()
    thread.join(60)
    assert got == [bytes(10)]
