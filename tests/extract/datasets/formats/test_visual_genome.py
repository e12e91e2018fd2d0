import json

import pytest

from sparc.common.errors import DatasetError

IMAGES = [
    {"image_id": 1, "url": "https://example.org/rak/VG_100K_2/1.jpg", "coco_id": 71},
    {"image_id": 2, "url": "https://example.org/rak/VG_100K/2.jpg", "coco_id": None},
]
REGIONS = [
    {
        "id": 1,
        "regions": [
            {"region_id": 5, "image_id": 1, "phrase": "a red roof", "x": 3, "y": 4},
            {"region_id": 6, "image_id": 1, "phrase": "two owls", "x": 8, "y": 9},
        ],
    },
    {"id": 2, "regions": [{"region_id": 7, "image_id": 2, "phrase": "a sign", "x": 1, "y": 2}]},
]
OBJECTS = [
    {
        "image_id": 1,
        "objects": [
            {"names": ["roof"], "synsets": ["roof.n.01"], "x": 1},
            {"names": ["roofs"], "synsets": ["roof.n.01"], "x": 1},
            {"names": ["street light", "lamp"], "synsets": []},
        ],
    },
    {"image_id": 2, "objects": [{"name": "sign", "synsets": ["street_sign.n.01"]}]},
]


@pytest.fixture
def genome(tmp_path, paint, write):
    """A folder in the form of Visual Genome."""

    def build(below="", **documents):
        paint(tmp_path, "VG_100K_2/1.jpg", "VG_100K/2.jpg")
        files = {"image_data": IMAGES, "region_descriptions": REGIONS, "objects": OBJECTS}
        for name, document in {**files, **documents}.items():
            if document is not None:
                write(f"{below}{name}.json", json.dumps(document))

    return build


@pytest.mark.parametrize("below", ["", "annotations/"])
@pytest.mark.parametrize("images", [IMAGES, None])
def test_a_row_is_an_image_and_a_phrase(genome, manifest, captions, labels, below, images):
    genome(below, image_data=images)
    result = manifest(columns=("region_id",))
    assert result.dataset_format == "visual-genome"
    assert captions(result) == [
        ("VG_100K_2/1.jpg", "a red roof"),
        ("VG_100K_2/1.jpg", "two owls"),
        ("VG_100K/2.jpg", "a sign"),
    ]
    assert result.rows["region_id"].to_pylist() == [5, 6, 7]
    assert labels(result) == {"1": ["roof", "street light"], "2": ["street sign"]}
    assert set(result.classes["key"].to_pylist()) == {
        "roof.n.01",
        "street light",
        "street_sign.n.01",
    }
    used = {e.what: e for e in result.account.used}
    assert used[f"{below}region_descriptions.json"].unused == ("x", "y")
    assert used[f"{below}region_descriptions.json"].used == ("phrase", "region_id")


def test_what_is_bad_is_left_out(genome, manifest, captions):
    regions = [*REGIONS, 5, {"regions": []}, {"id": 1, "regions": [{"phrase": None}]}, {"id": 2}]
    regions += [{"id": 9, "regions": [{"phrase": "of nothing"}]}]
    objects = [*OBJECTS, {"image_id": 1, "objects": [{"names": []}]}]
    genome(region_descriptions=regions, objects=objects)
    result = manifest()
    assert len(captions(result)) == 3
    assert sorted((e.first, e.what, e.why) for e in result.account.left_out) == [
        ("[2]", "image", "it is not an object"),
        ("[2].objects[0]", "object", "it has no name and no synset"),
        ("[3]", "image", "it has no image_id"),
        ("[4].regions[0]", "caption", "it is not text"),
        ("[5]", "image", "it has no list of regions"),
        ("image_id 9", "image", "image_data.json does not list it"),
    ]
    genome(image_data=[*IMAGES, {**IMAGES[0], "url": "other"}])
    with pytest.raises(DatasetError, match="image_id 1 occurs twice"):
        manifest()
