"""What is shown of timings, and the file that they are appended to."""

import json
from pathlib import Path

import pytest

from sparc.common.errors import SparcError
from sparc.common.timing import live as module
from sparc.common.timing.file import TimingsFile
from sparc.common.timing.live import Live
from sparc.common.timing.phases import Phase, Role
from sparc.common.timing.shares import Shares
from sparc.common.timing.timings import Timings, percentages

ENCODER = Shares(Role.ENCODER, "cpu", 1, 1500, {Phase.STARVED: 74.4, Phase.ENCODE: 45.6})
LOADERS = Shares(
    Role.LOADER, "", 4, 0, {Phase.DECODE: 300.0, Phase.READ: 60.0, Phase.PREPARE: 120.0}
)


def timings(*shares: Shares, **others: object) -> Timings:
    return Timings("sparc-extract run", 120.0, 1500, shares, **others)  # type: ignore[arg-type]


def test_a_block_says_who_was_how_fast_and_where_the_time_went() -> None:
    steps = {f"step {number}": float(number) for number in range(1, 8)}
    assert list(timings(ENCODER, LOADERS, steps=steps, advice="more threads").lines()) == [
        "time: 1,500 rows in 120.0 s, 12.5 rows/s",
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
    looks = iter([ENCODER, ENCODER + ENCODER, ENCODER + ENCODER])
    live = Live(
        lambda: timings(next(looks)),
        lambda recent: f"{recent[0].seconds[Phase.STARVED]:.1f} s of waiting",
        TimingsFile(path),
    )
    live.show(Bar())
    live.show(Bar())
    assert shown == ["74.4 s of waiting", "74.4 s of waiting"], "those since the last look"
    live.end()
    TimingsFile(path).append(timings(LOADERS), finished=True)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["finished"] for line in lines] == [False, False, True, True]
    assert [line["threads"][0]["rows"] for line in lines] == [1500, 3000, 3000, 0]
    assert lines[0]["threads"][0]["seconds"] == {"encode": 45.6, "starved": 74.4}


def test_a_file_of_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    for content in (b"my notes\n", b'{"format": "sparc-run"}\n', b"[1]", b"\xff\x00"):
        path = tmp_path / "notes"
        path.write_bytes(content)
        with pytest.raises(SparcError, match="holds no timings of SPARC: choose another name"):
            TimingsFile(path)
        assert path.read_bytes() == content
    with pytest.raises(SparcError, match="cannot be written"):
        TimingsFile(tmp_path)
