"""Data files of a site, read back by plain means: a script is one call with strict JSON."""

import base64
import json
import math

import numpy as np

from sparc.analyze.browse.contents import columns
from sparc.analyze.browse.contents.detail import Example, Histogram, Quantile
from sparc.analyze.browse.contents.scripts import script
from sparc.analyze.browse.contents.views import Words

HOSTILE = "</script><img onerror='x()'> & \u202eevil\u2028line\ntwo"


def read(content: bytes) -> tuple[str, dict]:
    text = content.decode("ascii" if content.isascii() else "utf-8")
    assert text.startswith("sparcData(")
    assert text.endswith(");\n")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    arguments = text.removeprefix("sparcData(").removesuffix(");\n")
    name, document = json.loads(f"[{arguments}]", parse_constant=refuse)
    return name, document


def test_a_script_calls_one_function_with_strict_json() -> None:
    words = Words(words=(HOSTILE,), starts=columns.counts([0, 1]), latents=columns.counts([70_000]))
    content = script("words", words)
    for forbidden in ("<", ">", "&", "\u2028", "\u202e", "NaN"):
        assert forbidden not in content.decode()
    name, document = read(content)
    assert name == "words"
    assert document["words"] == ["</script><img onerror='x()'> & \\u202eevil\\u2028line\\ntwo"]
    assert document["latents"]["type"] == "u4"
    assert np.frombuffer(base64.b64decode(document["latents"]["data"]), "<u4").tolist() == [70_000]


def test_numbers_are_short_and_finite() -> None:
    histogram = Histogram(
        edges=(0.0, 1 / 3, math.inf), counts=(3, 1 << 40), examples=((Example(4, math.nan),),)
    )
    _, document = read(script("x", histogram))
    assert document == {
        "edges": [0, 0.333333, None],
        "counts": [3, 1 << 40],
        "examples": [[[4, None]]],
    }
    _, document = read(script("x", Quantile(at=0.5, examples=())))
    assert document == {"at": 0.5, "examples": []}


def test_columns_give_back_their_values() -> None:
    few = columns.floats([0.123456789, np.nan, -2])
    assert few.type == "f4"
    np.testing.assert_array_equal(few.decode(), np.float32([0.123456789, np.nan, -2]))
    many = columns.floats(np.linspace(0, 1e6, 5000))
    assert many.type == "f2"
    assert np.isfinite(many.decode()).all()
    np.testing.assert_allclose(many.decode()[1:300], np.linspace(0, 1e6, 5000)[1:300], rtol=1e-3)
    assert [columns.counts([n]).type for n in (0, 255, 256, 65_535, 65_536)] == [
        *("u1", "u1", "u2", "u2", "u4")
    ]
    assert columns.places([3, -1]).decode().tolist() == [3, -1]
    assert columns.flags([True, False]).decode().tolist() == [1, 0]


def test_a_text_is_written_once() -> None:
    column = columns.texts(["owl", None, "owl", "", "cat"])
    assert column.values == ("cat", "owl")
    assert column.decode() == ["owl", None, "owl", None, "cat"]
    assert columns.texts([None]).decode() == [None]
