"""Documents that exhaust a reader are refused in one line."""

import pytest

from sparc.common.parsing import DEEPEST, parse_json, parse_object, parse_toml


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[" * 100_000, "nests"),
        (b'{"a":' * 100_000, "nests"),
        (b"[" * (DEEPEST + 2) + b"]" * (DEEPEST + 2), "nests"),
        (b"[1" + b"0" * 400 + b"]", "beyond 64 bits"),
        (b"1" * 5000, "digits"),
        (b"1e999", "not finite"),
        (b"[NaN]", "NaN"),
        (b'["\\ud800"]', "not Unicode"),
        (b'{"\\ud800": 1}', "not Unicode"),
        (b'["a\\u0000b"]', "NUL"),
        (b"\xff", "utf-8"),
        (b"", "Expecting value"),
    ],
)
def test_what_cannot_be_worked_with_is_refused(content, why) -> None:
    with pytest.raises(ValueError, match=why):
        parse_json(content)


def test_an_object_is_no_list() -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        parse_object(b"[]")
    assert parse_object(b'{"a": [1, -2.5, "x", null, true]}') == {"a": [1, -2.5, "x", None, True]}


@pytest.mark.parametrize(
    "content", ["a = " + "[" * 100_000, "a = " + "{b = " * 100_000, f"a = {10**30}", "a = inf", "a"]
)
def test_the_same_goes_for_toml(content) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_toml(content.encode())
