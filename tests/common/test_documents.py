import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparc.common.documents import seal, unseal

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=10,
)


@given(st.dictionaries(TEXTS.filter(lambda key: key != "sha256"), VALUES))
def test_what_is_sealed_comes_back_as_plain_json(document):
    content = seal(document)
    assert unseal(content) == document
    assert {**document, "sha256": json.loads(content)["sha256"]} == json.loads(content)


def test_no_flipped_bit_goes_unnoticed():
    document = {"lr": 0.003, "seed": 42, "name": "käse", "nested": {"k": [4, 8]}}
    content = seal(document)
    for place in range(len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            try:
                document_read = unseal(bytes(damaged))
            except ValueError:
                continue
            # White space that became other white space.
            assert document_read == document
            assert content[place : place + 1].isspace()


@pytest.mark.parametrize("content", [b"[1]", b"3", b"", b'{"a": 1}', b'{"sha256": 1}'])
def test_what_was_never_sealed_is_refused(content):
    with pytest.raises(ValueError, match=r"."):
        unseal(content)
