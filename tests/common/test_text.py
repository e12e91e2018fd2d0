import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparc.common.text import amount, printable, shorten, size


@given(st.text())
def test_printable_text_stays_on_one_line_and_moves_no_cursor(text: str) -> None:
    assert printable(text).isprintable()
    if text.isprintable():
        assert printable(text) == text


@given(st.text(), st.integers(1, 50))
def test_shortened_text_has_at_most_that_width(text: str, width: int) -> None:
    assert len(shorten(text, width)) <= width


def test_escapes_show_what_was_there() -> None:
    assert printable("a\x1b[2J\n\u202eb") == "a\\x1b[2J\\n\\u202eb"
    assert shorten("abcdef", 4) == "abc…"


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(1, "row", "1 row"), (0, "row", "0 rows"), (5733, "class", "5,733 classes")],
)
def test_amounts(number: int, noun: str, text: str) -> None:
    assert amount(number, noun) == text


def test_sizes() -> None:
    assert [size(n) for n in (0, 999, 1000, 25_600_000, 3e9, 4e15)] == [
        "0 bytes", "999 bytes", "1.0 kB", "25.6 MB", "3.0 GB", "4000.0 TB",
    ]  # fmt: skip
