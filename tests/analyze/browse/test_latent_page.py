"""The page of a latent, in a real browser: its pictures, its name, its heat maps."""

from . import latents, plan

ESCAPE, RIGHT = "\ue00c", "\ue014"


def test_a_latent_shows_the_pictures_of_its_table(open_site):
    site = open_site("shapes", "#/latent/1")
    detail = latents.detail(site.plan, 1)
    shown = site.run(
        "return [...document.querySelectorAll('.stream-row')].map((line) =>"
        " [...line.querySelectorAll('.shot')].map((shot) => Number(shot.dataset.row)))"
    )
    tops = [
        [detail.rows[place].row for place, _ in detail.modes["independent"][s].top]
        for s in site.plan.streams
    ]
    assert shown == tops
    several = site.run(
        "return [...document.querySelectorAll('.shot.several')].map((s) => +s.dataset.row)"
    )
    assert set(several) == {
        row for top in tops for row in top if sum(row in other for other in tops) > 1
    }
    assert site.texts(".caption mark")[:2] == plan.concept(site.plan, 1).split()

    site.click("#modes button", "Joint")
    site.until("location.hash.includes('mode=joint')")
    assert "given in part by construction" in site.texts(".images .help")[0]
    site.click("#groups button", "Median")
    site.until("location.hash.includes('group=0.5')")
    assert site.count(".stream-row .shot") == 4 * 3
    site.click(".values .bin")
    site.until("location.hash.includes('bin=')")
    assert site.count(".bin-examples .shot") == 0  # joint values have no examples


def test_a_number_that_two_concepts_share_is_explained(open_site):
    site = open_site("shapes", f"#/latent/{plan.TWO_CONCEPTS}")
    (verdict,) = site.texts(".verdict")
    assert (
        "Two concepts share this number: clip's own, which no other stream has; and that of dino "
        "and text, which clip lacks."
    ) in " ".join(verdict.split())


def test_a_class_does_not_look_like_a_name(open_site):
    weight = "return getComputedStyle(document.querySelector('h1')).fontWeight"
    site = open_site("no captions", "#/latent/0")
    assert "no name; this is its most frequent class" in site.texts(".eyebrow")[0]
    assert site.run(weight) == "400"
    assert any("do not have" in text for text in site.texts(".panel .help"))
    site.go("#/")
    assert site.count(".card-name b") == 0
    assert all(" class, " in text for text in site.texts(".card-name .weak"))
    site = open_site("two streams", "#/latent/1")
    assert site.texts(".eyebrow") == ["Latent 1"]
    assert int(site.run(weight)) > 400


def test_heat_maps_are_drawn_and_pictures_are_enlarged(open_site):
    site = open_site("shapes", "#/latent/1")
    site.click(".images button", "Heat maps off")
    site.until("location.hash.includes('maps=1')")
    lights = site.run(
        "const map = document.querySelector('.heat').getContext('2d');"
        "const { data } = map.getImageData(0, 0, 16, 16);"
        "return [0, 8 * 16 + 8].map((at) => data[at * 4] + data[at * 4 + 1] + data[at * 4 + 2])"
    )
    assert lights[1] > lights[0]
    assert "1.00" in site.texts(".scale")[0]
    site.click(".shot")
    assert site.count("dialog[open] .heat.shown") == 1
    assert "1 of 9" in site.texts(".zoom-where")[0]
    site.keys(RIGHT)
    assert "2 of 9" in site.texts(".zoom-where")[0]
    site.keys(ESCAPE)
    site.until("!document.querySelector('dialog')")
