import numpy as np
from PIL import Image

from sparc.analyze.localize import overlay
from sparc.analyze.localize.words import WordWeight


def brightness(image, box):
    return np.asarray(image.crop(box), float).mean()


def test_a_map_is_brightest_where_it_is_largest():
    image = Image.new("RGB", (60, 40), (128, 128, 128))
    values = np.zeros((40, 60), np.float32)
    values[:10, 40:] = 5
    values[:, :10] = np.nan
    shown = overlay.blend(image, overlay.Layer(values, 5.0))
    assert shown.size == (60, 40)
    yellow, blue = shown.getpixel((55, 4)), shown.getpixel((30, 30))
    assert yellow[0] > blue[0] + 60
    assert yellow[1] > blue[1] + 60
    assert blue[2] > blue[0]
    hatch = np.asarray(shown)[:, :10]
    assert len(np.unique(hatch.reshape(-1, 3), axis=0)) == 2


def test_shares_run_from_the_median_to_the_scale():
    values = np.array([[0.0, 1.0, 2.0, 3.0, np.nan]])
    for scale, expected in ((1.5, [0, 0, 1 / 3, 1, np.nan]), (15, [0, 0, 1 / 30, 0.1, np.nan])):
        np.testing.assert_allclose(overlay.shares(overlay.Layer(values, scale)), [expected])
    assert not overlay.shares(overlay.Layer(np.full((2, 2), 7.0), 1.0)).any()
    assert np.isnan(overlay.shares(overlay.Layer(np.full((2, 2), np.nan), 1.0))).all()


def test_without_a_scale_a_map_has_no_colour():
    image = Image.effect_noise((30, 20), 90).convert("RGB")
    values = np.random.default_rng(0).random((20, 30))
    pixels = np.asarray(overlay.blend(image, overlay.Layer(values, 0.0)))
    assert (pixels == pixels[..., :1]).all()
    coloured = np.asarray(overlay.blend(image, overlay.Layer(values, 0.5)))
    assert not (coloured == coloured[..., :1]).all()


def test_an_overlay_holds_panels_title_and_words():
    image = Image.new("RGB", (1000, 500), "white")
    values = np.random.default_rng(0).random((144, 288))
    maps = {name: overlay.Layer(values, 0.5) for name in ("dino", "clip")}
    words = [WordWeight("word" * 5, 0.1 * n) for n in range(40)]
    plain = overlay.overlay(image, maps, title="a\x1b[31m cat" * 40)
    with_words = overlay.overlay(image, maps, title="a cat", words=words)
    with_legend = overlay.overlay(image, maps, title="a cat", legend="what % means")
    assert with_legend.height == plain.height + 18
    assert plain.width == with_words.width >= 3 * 288
    assert with_words.height > plain.height + 3 * 18  # they do not fit on one line
    sliver = overlay.overlay(
        Image.new("RGB", (20, 4000)), {"dino": overlay.Layer(np.zeros((288, 1)), 1.0)}, title="thin"
    )
    assert sliver.height > 288


def test_a_contact_sheet_holds_all_of_them():
    panels = [Image.new("RGB", (100, 50 + n), (n, 0, 0)) for n in range(7)]
    assert overlay.contact_sheet(panels[:2]).size == (100, 101)
    assert overlay.contact_sheet(panels).size == (200, 51 + 53 + 55 + 56)
