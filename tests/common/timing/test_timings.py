"""What is shown of timings, and the file that they are appended to."""

import json
from pathlib import Path

import pytest

from sparc.common.errors import SparcError
from sparc.common.timing import timekeeper as module
from sparc.common.timing.file import append_timings, check_timings_file
from sparc.common.timing.phases import Phase, Role
from sparc.common.timing.shares import Shares
from sparc.common.timing.timekeeper import Timekeeper
from sparc.common.timing.timings import Timings, percentages

ENCODER = Shares(Role.ENCODER, "cpu", 1, 1500, {Phase.STARVED: 74.4, Phase.ENCODE: 45.6})
LOADERS = Shares(
    Role.LOADER, "", 4, 0, {Phase.DECODE: 300.0, Phase.READ: 60.0, Phase.PREPARE: 120.0}
)


def timings(*shares: Shares, **others: object) -> Timings:
    return Timings("sparc-extract run", 120.0, shares, **others)  # type: ignore[arg-type]


def test_a_block_says_who_was_how_fast_and_where_the_time_went() -> None:
    steps = {f"step {number}": float(number) for number in range(1, 8)}
    assert next(timings(ENCODER).lines()) == "time: 1,500 rows in 120.0 s, 12.5 rows/s"
    assert list(timings(ENCODER, LOADERS, steps=steps, advice="more threads").lines()) == [
        "time: 120.0 s",
        "  encoder cpu: 12.5 rows/s; waiting for images 62%, encode 38%",
        "  4 loaders: decode 62%, prepare 25%, read 13%",
        "  steps: step 7 7.0 s, step 6 6.0 s, step 5 5.0 s, step 4 4.0 s, step 3 3.0 s, "
        "2 others 3.0 s",
        "  more threads",
    ]


def test_of_many_workers_the_others_are_a_range_and_names_are_data() -> None:
    workers = [
        Shares(Role.ENCODER, f"\x1b{number}", 1, 10 * number, {Phase.ENCODE: 10.0})
        for number in range(12)
    ]
    lines = list(timings(*workers).lines())
    assert len(lines) == 1 + 8 + 1
    assert lines[3] == r"  encoder \x1b2: 2.0 rows/s; encode 100%"
    assert lines[-1] == "  4 more encoders, 8.0 to 11.0 rows/s"


@pytest.mark.parametrize("seconds", [[1, 1, 1], [1, 2, 4, 8, 16, 0.01], [1e-9, 5], [7]])
def test_percentages_add_up_to_a_hundred(seconds: list[float]) -> None:
    shares = Shares(Role.TRAINER, "", 1, 0, dict(zip(Phase, seconds, strict=False)))
    percent = [int(part.split()[-1].rstrip("%")) for part in percentages(shares).split(", ")]
    assert sum(percent) == 100
    assert percent == sorted(percent, reverse=True)


def test_a_file_gets_a_line_now_and_then_and_one_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bar:
        def set_postfix_str(self, text: str, *, refresh: bool) -> None:
            shown.append(text)

    shown: list[str] = []
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LOOKS", 0.0)
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    path = tmp_path / "new folder" / "timings.jsonl"
    check_timings_file(path)
    later = Shares(Role.ENCODER, "cpu", 1, 500, {Phase.ENCODE: 30.0, Phase.STARVED: 10.0})
    looks = iter([ENCODER, ENCODER, ENCODER + later, ENCODER + later, ENCODER + later])
    with Timekeeper("sparc-analyze run", lambda: [next(looks), LOADERS], str, path) as keeper:
        keeper.show(Bar())
        keeper.show(Bar())
        keeper.add_step("codes", 1.5)
        keeper.add_step("codes", 1.0)
    assert shown == ["waiting for images 62%", "encode 75%"], "since the last look"
    assert keeper.ended.rows == 2000
    check_timings_file(path)
    append_timings(path, timings(LOADERS), finished=True)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["finished"] for line in lines] == [False, False, True, True]
    assert [line["rows"] for line in lines] == [1500, 2000, 2000, 0]
    assert lines[0]["threads"][0]["seconds"] == {"encode": 45.6, "starved": 74.4}
    assert lines[2]["steps"] == {"codes": 2.5}


def test_an_interrupted_command_says_where_its_time_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "LONG", 0.0)
    path = tmp_path / "timings.jsonl"
    with (
        pytest.raises(KeyboardInterrupt),
        Timekeeper("sparc-train run", lambda: [LOADERS], lambda _: "decoding is it", path),
    ):
        raise KeyboardInterrupt
    assert json.loads(path.read_text())["finished"] is False
    first, _, advice = capsys.readouterr().err.splitlines()
    assert first.startswith("time: ")
    assert advice.strip() == "decoding is it"


def test_a_full_disk_ends_the_timings_and_not_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LOOKS", 0.0)
    with Timekeeper("sparc-train run", lambda: [LOADERS], str, Path("/dev/full")) as keeper:
        assert keeper.timings().rows == 0
    assert capsys.readouterr().err == (
        "note: /dev/full gets no further lines: No space left on device\n"
    )


def test_a_file_of_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    for content in (b"my notes\n", b'{"format": "sparc-run"}\n', b"[1]", b"\xff\x00"):
        path = tmp_path / "notes"
        path.write_bytes(content)
        with pytest.raises(SparcError, match="holds no timings of SPARC: choose another name"):
            check_timings_file(path)
        assert path.read_bytes() == content
    with pytest.raises(SparcError, match="cannot be written"):
        check_timings_file(tmp_path)
