"""Whatever stands in the metadata: a manifest that holds to its schema, or one line of error."""

import io
import json
import tarfile
import zipfile
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from sparc.common.cache import tables
from sparc.common.errors import SparcError
from sparc.extract.datasets import DatasetOptions, open_dataset

CSV = b'file_name,text,labels\na.png,"one, two",cat;dog\na.png,three,\n'
JSONL = rb'{"file_name": "a.png", "text": ["one", "\ud83d\ude00"], "labels": ["cat"]}' + b"\n"
COCO = json.dumps(
    {
        "images": [{"id": 1, "file_name": "a.png", "height": 4, "width": 4}],
        "categories": [{"id": 3, "name": "cat", "supercategory": "animal"}],
        "annotations": [
            {
                "image_id": 1,
                "category_id": 3,
                "caption": "one",
                "segmentation": {"size": [4, 4], "counts": "4444"},
            },
            {
                "image_id": 1,
                "category_id": 3,
                "caption": "two",
                "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]],
            },
        ],
    }
).encode()
NARRATIVES = b'{"image_id": "a", "caption": "one"}\n{"image_id": "b", "caption": "two"}\n'
LABELS = b"ImageID,LabelName,Confidence\na,/cat,1\na,/dog,0\n"
HIERARCHY = b'{"LabelName": "/e", "Subcategory": [{"LabelName": "/cat", "Subcategory": []}]}'


KARPATHY = json.dumps(
    {"images": [{"filename": "a.png", "cocoid": 7, "sentences": [{"raw": "one"}], "split": ""}]}
).encode()
REGIONS = json.dumps([{"id": "a", "regions": [{"phrase": "one", "x": 1}]}]).encode()
TURNS = [{"from": "human", "value": "?"}, {"from": "gpt", "value": "one"}]
LLAVA = json.dumps([{"image": "a.png", "conversations": TURNS}]).encode()
VOC = b"<annotation><filename>a.png</filename><object><name>cat</name></object></annotation>"
CELEBA = b"1\nSmiling Young\na.png 1 -1\n"


def outcome_of(call):
    """What it gives, or None where it refuses, in one line."""
    try:
        return call()
    except SparcError as error:
        message = str(error)
    assert message
    assert message.isprintable()
    return None


def shard() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in (("a.png", b"x"), ("a.json", b'{"caption": "one"}')):
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(100))
        archive.writestr("metadata.csv", CSV)
    return buffer.getvalue()


FILES = {
    "metadata.csv": CSV,
    "metadata.jsonl": JSONL,
    "captions_val.json": COCO,
    "instances_val.json": COCO,
    "open_images_test_captions.jsonl": NARRATIVES,
    "labels.csv": LABELS,
    "hierarchy.json": HIERARCHY,
    "0.tar": shard(),
    "dataset_coco.json": KARPATHY,
    "region_descriptions.json": REGIONS,
    "llava.json": LLAVA,
    "a.xml": VOC,
    "list_attr_celeba.txt": CELEBA,
    "data.zip": zipped(),
}
PIECES = [b'"', b"\n", b"\\", b"\xff\xfe", b"\0", b"../", b"{", b"[", b"]", b"null", b"-1", b",,"]
PIECES += [b"1e999", b"NaN", b"\\ud800", b"9" * 30, b"true", b"\r", b"\xef\xbb\xbf", b"/"]

mutations = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 6),
        st.one_of(st.sampled_from(PIECES), st.binary(max_size=4)),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=300)
@given(st.sampled_from(sorted(FILES)), mutations)
def test_mutated_metadata(tmp_path_factory, name, changes):
    content = FILES[name]
    for place, removed, added in changes:
        position = int(place * len(content))
        content = content[:position] + added + content[position + removed :]
    folder = tmp_path_factory.mktemp("fuzz", numbered=True)
    data = folder / "data"
    data.mkdir()
    if name not in ("0.tar", "data.zip"):
        (data / "a.png").write_bytes(b"")
    given_files = {}
    if name in ("labels.csv", "hierarchy.json"):
        for part in ("labels.csv", "hierarchy.json"):
            (folder / part).write_bytes(content if part == name else FILES[part])
            given_files[part.split(".")[0]] = folder / part
    else:
        (data / name).write_bytes(content)
    options = DatasetOptions(masks=True, **given_files)
    opened = outcome_of(partial(open_dataset, data, options))
    manifest = outcome_of(opened.manifest) if opened else None
    if manifest is None:
        return
    assert manifest.rows.schema == tables.ROWS
    assert manifest.rows.num_rows
    manifest.rows.validate(full=True)
    manifest.classes.validate(full=True)
    tables.manifest_digest(manifest.rows)
    for ids in manifest.rows["label_ids"].to_pylist():
        assert all(0 <= i < manifest.classes.num_rows for i in ids)
    if manifest.masks is not None:
        assert manifest.masks.schema == tables.MASKS
    for image in manifest.rows["image"].to_pylist():
        outcome_of(partial(opened.read_image, image))
