import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparc.common.errors import DatasetError
from sparc.extract.datasets import json_lists
from sparc.extract.datasets.account import Omissions
from sparc.extract.datasets.json_lists import JsonList, JsonLists

texts = st.text('ab"\\\\[]{},: \n\u00e9', max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)


def flat(value):
    def outline(inner):
        return None if isinstance(inner, list | dict) else inner

    if isinstance(value, dict):
        return {key: outline(inner) for key, inner in value.items()}
    return [outline(inner) for inner in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("lists") / "document.json"


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(texts, st.lists(values, max_size=5) | values, min_size=1, max_size=4),
    st.sampled_from([5, 16, 1 << 20]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from([None, 1]),
    st.booleans(),
)
def test_as_the_json_module_reads_it(path, document, chunk, encoding, indent, ascii_only):
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    path.write_bytes(text.encode(encoding))
    omissions = Omissions("document")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lists, "_CHUNK", chunk)
        with JsonLists(path, "document", omissions) as lists:
            for key in [*reversed(document), *document]:
                assert (key in lists) == isinstance(document[key], list)
                if key in lists:
                    expected = document[key]
                    assert list(lists.entries(key, "object")) == list(enumerate(expected))
                    outlines = list(enumerate(map(flat, expected)))
                    assert list(lists.flat_entries(key, "object")) == outlines
            assert "absent key" not in lists
    assert not omissions.first


def read(path, content, key="k"):
    path.write_bytes(content)
    omissions = Omissions("document")
    with JsonLists(path, "document", omissions) as lists:
        return list(lists.entries(key, "object")), [str(line) for line in omissions.left_out()]


def test_a_broken_entry_is_one_entry(path):
    entries, left_out = read(path, b'{"k": [{"a": 1}, {"a": 01}, {"a" 2}, null, {"a": NaN}, 7]}')
    assert [position for position, _ in entries] == [0, 3, 4, 5]
    assert str(entries) == "[(0, {'a': 1}), (3, None), (4, {'a': nan}), (5, 7)]"
    assert left_out == ["document: 2 objects left out: it is not JSON (the first is k[1])"]


def test_whole_numbers_and_texts_stay_what_they_are(path):
    entries, _ = read(path, b'{"k": [{"a": 18446744073709551617}, {"a": "\\ud800x"}]}')
    assert entries == [(0, {"a": 18446744073709551617}), (1, {"a": "\ufffdx"})]


def test_bytes_that_are_not_utf_8_are_said(path, capsys):
    entries, _ = read(path, b'{"k": [{"a": "\xff"}, {"a": "b"}]}')
    assert entries == [(0, {"a": "\ufffd"}), (1, {"a": "b"})]
    assert "bytes that are not UTF-8 replaced in 1 object of k" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"[{}]", "is not a JSON object"),
        (b'{"k": 5}', "has no list 'k'"),
        (b'{"k": {"k": []}}', "has no list 'k'"),
        (b'{"k" [1]}', "byte 5 is not JSON: no key comes before this"),
        (b'{"k": [{"a": 1}}', "byte 15 is not JSON: the list 'k' ends without ]"),
        (b'{"k": [{"a": 1},', "it ends in the midst of the list 'k'; the file is cut off"),
        (b'{"k": [{"a": "1}]}', "a text in it is not closed"),
        (b'{"a": [1], "a": [1], "k": [1]}', "has two lists 'a'"),
        (b'{"a": [1]', r"it ends before its last }"),
    ],
)
def test_what_is_wrong_with_a_document(path, content, message):
    with pytest.raises(DatasetError, match=message):
        read(path, content)


def test_an_entry_without_end_is_not_kept_in_memory(path, monkeypatch):
    monkeypatch.setattr(json_lists, "_CHUNK", 16)
    monkeypatch.setattr(json_lists, "LARGEST_ENTRY", 64)
    with pytest.raises(DatasetError, match="byte 15 is not JSON: an entry of 'k' is not closed"):
        read(path, b'{"k": [{"a": 1},{"a": "' + b"x" * 200)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(values, max_size=5),
    st.sampled_from([5, 16, 1 << 20]),
    st.sampled_from(["utf-8", "utf-8-sig"]),
    st.sampled_from([None, 1]),
)
def test_a_document_that_is_one_list(path, document, chunk, encoding, indent):
    path.write_bytes(json.dumps(document, indent=indent).encode(encoding))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lists, "_CHUNK", chunk)
        with JsonList(path, "document", Omissions("document")) as entries:
            assert list(entries.all_entries("entry")) == list(enumerate(document))


def test_one_list_that_is_none(path):
    for content, message in [
        ('{"a": []}', "is not a JSON list"),
        ('[{"a": 1}, {"b"', "ends in the midst"),
        ("[1}", "ends without ]"),
    ]:
        path.write_text(content)
        with (
            pytest.raises(DatasetError, match=message),
            JsonList(path, "document", Omissions("document")) as entries,
        ):
            list(entries.all_entries("entry"))
    omissions = Omissions("document")
    path.write_text('[{"a": 1}, {"b": tru}, {"c": 3}]')
    with JsonList(path, "document", omissions) as entries:
        assert list(entries.all_entries("entry")) == [(0, {"a": 1}), (2, {"c": 3})]
    assert omissions.first == "[1]: it is not JSON"
