import numpy as np
import pytest
from PIL import Image

from sparc.pipelines.demo import scenes
from sparc.pipelines.demo.drawings import drawings
from sparc.pipelines.demo.scenes import SIZE, compose

SCENES = [("train", index) for index in range(25)] + [("test", index) for index in range(5)]


def same(a, b) -> bool:
    return (
        a.image.tobytes() == b.image.tobytes()
        and a.captions == b.captions
        and [(o.drawing, o.mask.tobytes()) for o in a.objects]
        == [(o.drawing, o.mask.tobytes()) for o in b.objects]
    )


def test_a_scene_depends_on_seed_split_and_index_alone():
    first = compose(3, "train", 7)
    for index in range(3):
        compose(5, "test", index)
    assert same(first, compose(3, "train", 7))
    for other in (compose(4, "train", 7), compose(3, "test", 7), compose(3, "train", 8)):
        assert not same(first, other)


@pytest.mark.parametrize(("split", "index"), SCENES)
def test_captions_name_every_object_and_nothing_else(split, index):
    scene = compose(0, split, index)
    assert scene.image.size == (SIZE, SIZE)
    assert 1 <= len(scene.objects) <= 3
    here = {placed.drawing.phrase for placed in scene.objects}
    assert len(here) == len(scene.objects)
    assert len(set(scene.captions)) == len(scene.captions) == scenes.CAPTIONS
    for caption in scene.captions:
        text = caption[0].lower() + caption[1:]
        rest = text
        for phrase in sorted(here, key=len, reverse=True):
            assert phrase in text or phrase.lower() in text
            rest = rest.replace(phrase, " ").replace(phrase.lower(), " ")
        assert not [d.phrase for d in drawings() if f" {d.phrase} " in f" {rest} "]


def test_all_numbers_of_objects_and_grounds_occur():
    composed = [compose(0, "train", index) for index in range(60)]
    assert {len(scene.objects) for scene in composed} == {1, 2, 3}
    corners = {scene.image.getpixel((0, 0)) for scene in composed}
    assert len(corners) > 5


def test_masks_are_what_can_be_seen(monkeypatch):
    """Drawings of one colour each: a mask must be where the scene has that colour."""
    colours = {d: (50 + i, 255 - i, (i * 37) % 256, 255) for i, d in enumerate(drawings())}
    monkeypatch.setattr(scenes, "open_drawing", lambda d: Image.new("RGBA", (128, 128), colours[d]))
    overlaps = 0
    for index in range(30):
        scene = compose(1, "train", index)
        pixels = np.asarray(scene.image)
        together = np.zeros((SIZE, SIZE), dtype=int)
        for placed in scene.objects:
            solid = (pixels == colours[placed.drawing][:3]).all(axis=2)
            assert not (solid & ~placed.mask).any()
            # The turned edge of a drawing is blended with what is behind it.
            assert (placed.mask & ~solid).sum() < 0.1 * placed.mask.sum()
            together += placed.mask
        assert together.max() == 1
        overlaps += any(o.mask.sum() < 0.9 * max_area(o.mask) for o in scene.objects)
    assert overlaps > 3


def max_area(mask) -> int:
    """Area of a square drawing, from the box around what can be seen of it."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int((rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1))
