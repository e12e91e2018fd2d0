import pytest

from sparc.analyze.report.notes import Note
from sparc.common.errors import ConfigError


@pytest.mark.parametrize(
    ("note", "value"),
    [
        (Note("images are permuted in blocks"), "images are permuted in blocks"),
        (
            Note("the cache has no captions", ("naming",)),
            {"text": "the cache has no captions", "tables": ["naming"]},
        ),
    ],
)
def test_notes_are_written_and_read_back_and_those_of_earlier_versions_are_texts(note, value):
    assert note.to_json() == value
    assert Note.from_json(value, source="report.json: notes") == note


@pytest.mark.parametrize("value", [3, None, {"tables": []}, {"text": "a", "tables": "naming"}])
def test_a_damaged_note_is_an_error(value):
    with pytest.raises(ConfigError, match=r"report\.json: notes"):
        Note.from_json(value, source="report.json: notes")
