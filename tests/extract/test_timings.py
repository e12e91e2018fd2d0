"""What an extraction says about its time: who waited, and what would help."""

import json
import time

import fakes
import pytest

from sparc.common.errors import SparcError
from sparc.common.timing import stopwatch
from sparc.common.timing.phases import Phase, Role
from sparc.common.timing.shares import Shares, together
from sparc.extract import job
from sparc.extract.config import ExtractConfig
from sparc.extract.timings import advice

CAPTIONS = [[f"image {number}"] for number in range(24)]
SLOW = 0.02


@pytest.fixture
def config(fake_streams, tmp_path) -> ExtractConfig:
    return ExtractConfig(
        streams=fake_streams,
        rows_per_chunk=8,
        batch_size=4,
        workers=2,
        devices="cpu,cpu",
        timings=tmp_path / "timings.jsonl",
    )


class Clock:
    """Time that passes while somebody sleeps by it, and stands still while the machine is busy."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
        self.now += seconds


def test_encoders_that_wait_for_images_are_told_from_those_that_encode(
    fake_dataset, fake_encoders, config, tmp_path, monkeypatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(stopwatch, "time", clock)
    monkeypatch.setattr(fakes, "time", clock)

    class SlowDataset(fake_dataset):
        def read_image(self, image: str) -> bytes:
            clock.sleep(SLOW)
            return super().read_image(image)

    slow = job.run(SlowDataset(CAPTIONS), tmp_path / "slow", config, build=fake_encoders())
    fast = job.run(
        fake_dataset(CAPTIONS), tmp_path / "fast", config, build=fake_encoders(delay=SLOW)
    )
    for summary, longer, shorter in (
        (slow, Phase.STARVED, Phase.ENCODE),
        (fast, Phase.ENCODE, Phase.STARVED),
    ):
        assert summary.timings.rows == len(CAPTIONS)
        workers = [one.worker for one in summary.timings.shares if one.role == Role.ENCODER]
        assert workers == ["cpu (1)", "cpu (2)"]
        encoders = together(summary.timings.shares, Role.ENCODER)
        assert encoders is not None
        assert encoders.share(longer) > encoders.share(shorter)
    loaders = together(slow.timings.shares, Role.LOADER)
    assert loaders is not None
    assert loaders.threads == config.threads
    assert loaders.seconds[Phase.READ] > 0.99 * len(CAPTIONS) * SLOW
    lines = [json.loads(line) for line in config.timings.read_text().splitlines()]
    assert [line["rows"] for line in lines] == [len(CAPTIONS)] * 2
    assert [line["advice"] for line in lines] == [slow.timings.advice, fast.timings.advice]


def test_advice_names_what_bounds_a_job_only_where_one_thing_does() -> None:
    def said(encoder: dict[Phase, float], loader: dict[Phase, float]) -> str:
        return advice(
            [
                Shares(Role.ENCODER, "cuda:0", 1, 10, encoder),
                Shares(Role.LOADER, "", 1, 0, loader),
                Shares(Role.WRITER, "", 1, 0, {Phase.IDLE: 10}),
            ]
        )

    starved = {Phase.STARVED: 7.0, Phase.ENCODE: 3.0}
    assert said(starved, {Phase.DECODE: 9, Phase.IDLE: 1}).startswith(
        "decoding images is the bound: encoders wait 70% of the time for it; "
    )
    assert said(starved, {Phase.PREPARE: 5, Phase.READ: 4}).startswith("preparing images is")
    assert said(starved, {Phase.READ: 1, Phase.IDLE: 9}) == "", "the loaders did not work either"
    assert said({Phase.BLOCKED: 6, Phase.ENCODE: 4}, {Phase.IDLE: 9}).startswith("writing is")
    assert said({Phase.STARVED: 2, Phase.ENCODE: 6, Phase.BLOCKED: 2}, {Phase.READ: 9}) == ""
    assert advice([]) == ""


def test_a_file_of_something_else_is_refused_before_anything_is_read(
    fake_dataset, fake_encoders, config, tmp_path
) -> None:
    config.timings.write_text("notes")
    encoders = fake_encoders()
    with pytest.raises(SparcError, match=r"timings.jsonl exists and holds no timings"):
        job.run(fake_dataset(CAPTIONS), tmp_path / "cache", config, build=encoders)
    assert not encoders.built
    assert not (tmp_path / "cache").exists()
