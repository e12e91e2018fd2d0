import json

import pytest

from sparc.common.errors import DatasetError


def talk(image, *answers, **more):
    turns = [{"from": "human", "value": "<image>\nWhat?"}]
    for answer in answers:
        turns += [{"from": "gpt", "value": answer}, {"from": "human", "value": "And?"}]
    return {"image": image, "conversations": turns, **more}


ENTRIES = [
    talk("coco/a.jpg", "one", "two", id=1),
    talk("coco/b.jpg", "<image>\nof b", id=2),
    talk("coco/a.jpg", "two", "three", id=3),
]


@pytest.fixture
def llava(tmp_path, paint, write):
    """A folder with a list of conversations."""

    def build(entries=ENTRIES, file="llava.json", images="pictures/coco"):
        paint(tmp_path / images, "a.jpg", "b.jpg", "c.jpg")
        lines = [json.dumps(entry) for entry in entries]
        text = "\n".join(lines) if file.endswith("jsonl") else f"[{', '.join(lines)}]"
        write(file, text)

    return build


@pytest.mark.parametrize("file", ["llava.json", "talk/any.jsonl"])
@pytest.mark.parametrize("images", ["pictures/coco", "coco", "images/coco", "coco/../coco"])
def test_answers_are_captions(llava, manifest, captions, file, images):
    llava(file=file, images=images)
    result = manifest(columns=("id",))
    folder = images.rpartition("/")[2] if ".." in images else images
    assert result.dataset_format == "llava"
    expected = [("a", "one", 1), ("a", "two", 1), ("a", "three", 3), ("b", "of b", 2)]
    assert captions(result) == [(f"{folder}/{name}.jpg", text) for name, text, _ in expected]
    assert result.rows["id"].to_pylist() == [number for _, _, number in expected]
    (used,) = manifest().account.used
    assert (used.used, used.unused) == (("image", "answers"), ("id",))
    assert [e.what for e in result.account.unused] == [f"{folder}/c.jpg"]


def test_the_keys_of_openai(llava, manifest, captions):
    parts = [{"type": "text", "text": "of a"}, {"type": "image"}]
    messages = [
        {"role": "user", "content": "What?"},
        {"role": "assistant", "content": parts},
        {"role": "assistant", "content": "again"},
    ]
    llava([{"images": ["coco/a.jpg"], "messages": messages}])
    assert captions(manifest()) == [
        ("pictures/coco/a.jpg", "of a"),
        ("pictures/coco/a.jpg", "again"),
    ]


def test_files_that_are_called_like_splits_are_splits(llava, manifest, captions):
    llava(ENTRIES[:1], "llava_train.json")
    llava(ENTRIES[1:2], "llava-val-2.json")
    assert captions(manifest(split="val")) == [("pictures/coco/b.jpg", "of b")]
    unused = {e.what: e.advice for e in manifest(split="val").account.unused}
    assert unused["llava_train.json"] == "--split chooses another"
    with pytest.raises(DatasetError, match="choose one with --split: train, val"):
        manifest()
    llava(ENTRIES[2:], "more.json")
    assert len(manifest().rows) == 4


def test_one_bad_record_is_one_omission(llava, manifest, captions):
    llava([5, talk(None, "x"), talk(["a", "b"], "x"), {"image": "a"}, talk("coco/b.jpg"), *ENTRIES])
    result = manifest()
    assert len(result.rows) == 4
    assert [(e.what, e.why, e.first) for e in result.account.left_out] == [
        ("entry", "it is not an object", "[0]"),
        ("entry", "it has no image", "[1]"),
        ("entry", "its answers are about several images", "[2]"),
        ("entry", "it has no list of conversations", "[3]"),
        ("caption", "the conversation has no answer", "[4]"),
    ]
    llava([talk(None, "x")])
    with pytest.raises(DatasetError, match=r"no entry that can be used: \[0\]: it has no image"):
        manifest()
