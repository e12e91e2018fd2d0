"""The page of a site, in a real browser over `file://`: what it shows, and what its controls do."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from . import plan, synthetic
from .conftest import PLANS, Site, copy_page

VIEWS = (
    "#/",
    "#/latents",
    "#/latent/0",
    "#/latent/2?mode=joint",
    "#/latent/3?group=all&bin=2&maps=1",
    "#/latent/9",
    "#/map",
    "#/bias",
    "#/compare",
    "#/notes",
    "#/about",
)
ESCAPE, ENTER, LEFT, RIGHT, END = "\ue00c", "\ue007", "\ue012", "\ue014", "\ue010"


def columns(of):
    """The columns of the list as plain arrays, by key."""
    made = {column.key: column.data.decode() for column in synthetic.list_columns(of)}
    return {
        key: np.asarray(values, object if isinstance(values, list) else float)
        for key, values in made.items()
    }


def listed(by, keep):
    """The latents that a filter keeps, by a column, largest first, those without a value last."""
    order = sorted(np.flatnonzero(keep), key=lambda n: (np.isnan(by[n]), -float(by[n]), n))
    return [int(n) for n in order]


def test_the_start_shows_pictures_of_what_is_shared_and_figures_with_their_controls(open_site):
    site = open_site("shapes")
    kinds = [plan.kind(site.plan, latent) for latent in range(site.plan.latents)]
    counts = [int(text) for text in site.texts(".door h2 .count")]
    assert counts == [kinds.count("shared"), kinds.count("only"), kinds.count("lacking")]
    site.until("document.querySelectorAll('.card .tile').length === 4 * 4 * (3 + 1 + 2)")
    pictures = site.run(
        "return [...document.querySelectorAll('.card .tile')].map((t) => t.style.backgroundImage)"
    )
    assert all("images/000/" in url for url in pictures)
    leading = site.texts(".figures > .headlines > .headline")
    assert "0.375" in leading[0]
    assert "untrained model" in leading[0]
    assert "0.044" in leading[0]
    assert not any("joint" in figure for figure in leading)
    joint = site.run("return document.querySelector('.headline.is-given').textContent")
    assert "given in part by construction" in joint
    site.click(".door a.more", f"See all {kinds.count('shared')}")
    site.until("document.querySelector('.row')")
    assert site.address == "#/latents?is=shared"
    assert {plan.kind(site.plan, latent) for latent in site.latents()} == {"shared"}
    assert set(site.run("return [...document.querySelectorAll('.who')].map((e) => e.title)")) == {
        "all streams"
    }


def test_every_view_is_drawn_at_every_width(open_site):
    site = open_site("shapes")
    for view in VIEWS:
        site.go(view)
        assert site.count("[role=alert]") == 0, (view, site.texts("[role=alert]"))
        for width in (360, 900, 2560):
            site.size(width)
            assert site.overflow() <= 0, (view, width)


@pytest.mark.parametrize("name", [name for name in PLANS if name not in ("shapes", "many")])
def test_a_report_that_lacks_something_is_drawn_likewise(open_site, name):
    site = open_site(name)
    site.size(360)
    for view in ("#/", "#/latents", "#/latent/0", "#/latent/3?group=all&bin=2&mode=joint", "#/map"):
        site.go(view)
        lacks = view == "#/map" and not site.plan.more
        assert (site.count("[role=alert]") == 1) == lacks, (view, site.texts("[role=alert]"))
        assert site.overflow() <= 0, view


def test_the_list_of_many_has_few_rows_in_the_document_and_is_sorted_and_filtered(open_site):
    site = open_site("many", "#/latents")
    site.until("document.querySelector('.row')")
    table = columns(site.plan)
    alive = table["dead"] == 0
    expected = listed(table["interest"], alive)
    assert site.latents() == expected[: len(site.latents())]
    assert site.texts(".counts") == ["9,000 of 10,000 latents; 1,000 dead ones hidden"]
    site.run("document.querySelector('.scroll').focus()")
    site.keys(END)
    site.until(f"document.querySelector('[data-latent=\"{expected[-1]}\"]')")
    assert site.count(".row") < 40

    site.go("#/latents?sort=-rows&f=agreement:0.2..0.5&f=rows:100..")
    site.until("document.querySelector('.row')")
    kept = (
        alive & (table["agreement"] >= 0.2) & (table["agreement"] <= 0.5) & (table["rows"] >= 100)
    )
    expected = listed(table["rows"], kept)
    assert site.latents() == expected[: len(site.latents())]
    assert site.texts(".counts b") == [f"{len(expected):,}"]

    site.act(
        "[...document.querySelectorAll('.sorter')].find((e) => e.innerText === 'latent').click()"
    )
    site.until("document.querySelector('.row')")
    assert site.latents()[:5] == sorted(expected)[:5]
    assert "sort=latent" in site.address
    site.driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
    used = site.driver.execute_cdp_cmd("Runtime.getHeapUsage", {})
    heap = used["usedSize"] + used["embedderHeapUsedSize"] + used["backingStorageSize"]
    assert heap < 150e6


def test_a_range_is_typed_or_drawn_and_the_focus_stays(open_site):
    from selenium.webdriver.common.action_chains import ActionChains

    site = open_site("shapes", "#/latents")
    field = "[data-key=agreement] input"
    site.click(field)
    site.keys("0.4", ENTER)
    site.until("location.hash.includes('f=agreement')")
    assert site.address == "#/latents?f=agreement%3A0.4.."
    assert (
        site.run("return document.activeElement.getAttribute('aria-label')")
        == "agreement, at least"
    )
    area = site.driver.find_element("css selector", "[data-key=interest] .brush")
    ActionChains(site.driver, duration=0).move_to_element_with_offset(
        area, 0, 0
    ).click_and_hold().move_by_offset(60, 0).release().perform()
    site.until("location.hash.includes('f=interest')")
    site.click(".actions button", "Clear filters")
    site.until("location.hash === '#/latents'")


def test_words_classes_and_numbers_are_searched(open_site):
    site = open_site("shapes", "#/latents")
    alive = [n for n in range(site.plan.latents) if not plan.is_dead(n)]
    site.keys("/")
    site.keys("crim")
    site.until("location.hash.includes('q=crim')")
    expected = {n for n in alive if plan.concept(site.plan, n).startswith("crimson")}
    site.until(f"document.querySelector('.counts b').textContent === '{len(expected)}'")
    assert set(site.latents()) == expected
    assert site.run("return document.activeElement.id") == "search"
    site.keys("son cir", ENTER)
    site.until("location.hash.includes('cir')")
    site.go("#/latents?q=%2317")
    site.until("document.querySelector('.row')")
    assert site.latents() == [17]
    site.go("#/latents?class=teal+square&dead=1")
    site.until("document.querySelector('.row')")
    assert {plan.concept(site.plan, n) for n in site.latents()} == {"teal square"}


def test_a_list_is_saved_as_csv_and_json(open_site):
    site = open_site("shapes", "#/latents?is=shared")
    site.run("window.saved = {}; Page.dom.save = (name, text) => { window.saved[name] = text; };")
    site.act("Page.route.set({})")  # the buttons take what is there when they are drawn
    for label in ("CSV", "JSON"):
        site.run(
            "[...document.querySelectorAll('button')]"
            ".find((button) => button.textContent === arguments[0]).click()",
            label,
        )
    saved = site.run("return window.saved")
    rows = list(csv.DictReader(io.StringIO(saved["concepts.csv"])))
    assert [int(row["latent"]) for row in rows] == [
        row["latent"] for row in json.loads(saved["concepts.json"])
    ]
    table = columns(site.plan)
    for row in rows:
        assert float(row["agreement"]) == pytest.approx(table["agreement"][int(row["latent"])])
        assert row["name:dino"] == plan.concept(site.plan, int(row["latent"]))


def test_keys_lead_through_the_list_and_back(open_site):
    site = open_site("shapes", "#/latents?is=shared")
    site.until("document.querySelector('.row')")
    first, second = site.latents()[:2]
    site.keys("j", "j", ENTER)
    site.until(f"location.hash.startsWith('#/latent/{second}?')")
    site.until("document.querySelector('.steering .where')")
    site.keys("k")
    site.until(f"location.hash.startsWith('#/latent/{first}?')")
    site.until("document.querySelector('.where').textContent.startsWith('1 of')")
    site.keys(RIGHT)
    site.until(f"location.hash.startsWith('#/latent/{second}?')")
    site.keys("?")
    assert site.count("dialog.help-dialog[open]") == 1
    site.keys(ESCAPE)
    site.until("!document.querySelector('dialog')")
    site.keys(ESCAPE)
    site.until("location.hash === '#/latents?is=shared'")
    site.driver.back()
    site.until(f"location.hash.startsWith('#/latent/{second}?')")


def test_bookmarks_and_notes_are_kept_and_handed_on(open_site):
    site = open_site("shapes", "#/latent/4")
    site.keys("b")
    site.click("#note")
    site.keys("a <b>note</b>")
    site.go("#/notes")
    assert site.texts(".noted blockquote") == ["a <b>note</b>"]
    handed = site.run("return Page.keep.text()")
    site.act("[...document.querySelectorAll('.noted button')][0].click()")
    assert site.count(".noted li") == 0
    assert site.run("return Page.keep.load(arguments[0])", handed) == 1
    site.go("#/latents?marked=1")
    site.until("document.querySelector('.row')")
    assert site.latents() == [4]
    refused = site.run("try { Page.keep.load('{}'); } catch (error) { return error.message; }")
    assert "no notes" in refused
    site.run("localStorage.clear()")


def test_a_lasso_on_the_map_makes_a_list(open_site):
    from selenium.webdriver.common.action_chains import ActionChains

    site = open_site("shapes", "#/map")
    site.click(".choice button", "Lasso")
    canvas = site.driver.find_element("css selector", ".scatter")
    half = canvas.size["height"] // 2 - 4
    drawing = (
        ActionChains(site.driver, duration=0)
        .move_to_element_with_offset(canvas, 0, -half)
        .click_and_hold()
    )
    for dx, dy in ((half, 0), (0, 2 * half), (-half, 0)):
        drawing.move_by_offset(dx, dy)
    drawing.release().perform()
    site.until("location.hash.includes('lasso=')")
    place = synthetic.place(site.plan)
    right = {
        int(n) for n, x in zip(place.latents.decode(), place.x.decode(), strict=True) if x > 0.5
    }
    site.click("a.button", f"List these {len(right)}")
    site.until("document.querySelector('.row')")
    assert set(site.latents()) <= right
    assert site.texts(".counts b") == [str(len(right))]
    site.driver.refresh()
    site.until("document.querySelector('.counts b')")
    assert site.texts(".counts b") == [str(len(right))]


def test_every_control_does_something_that_ends_well(open_site):
    site = open_site("shapes")
    script = (Path(__file__).parent / "click_all.js").read_text()
    for view in VIEWS:
        site.go(view)
        site.driver.execute_async_script(script)
        assert site.count("[role=alert]") == 0, (view, site.address)
    assert site.run("return window.clicked.size") > 80


def test_hostile_texts_are_text(open_site):
    site = open_site("hostile")
    policy = site.run("return document.querySelector('meta[http-equiv]').content")
    assert policy.startswith("default-src 'none';")
    assert not any(word in policy for word in ("unsafe", "http", "*"))
    for view in VIEWS:
        site.go(view)
        assert site.run("return document.title") == "shapes <of> colours · SPARC"
        assert site.count("img, iframe, object, embed, [onerror], [href^=javascript]") == 0
        assert site.count("script:not([src])") == 0
        hidden = site.run(
            r"return /[\u0007\u202a-\u202e\u2066-\u2069]/.test(document.body.innerText)"
        )
        assert not hidden, view
        lengths = site.run(
            "return [...document.querySelectorAll('.words')].map((e) => e.textContent.length)"
        )
        assert max(lengths) <= 1000
        for width in (360, 1440):
            site.size(width)
            assert site.overflow() <= 0, (view, width)
    site.go("#/latent/0")
    assert "<img src=x onerror" in site.texts("h1")[0]


@pytest.mark.parametrize(
    "address",
    [
        "#/latent/999",
        "#/latent/x",
        "#/nowhere",
        "#/latents?f=nothing:1..2&sort=-none&f=rows:a..b",
        "#/latent/1?mode=constructor&bin=9e9",
        "#/%E0%A4%A?%",
    ],
)
def test_odd_addresses_are_answered(open_site, address):
    site = open_site("shapes", address)
    assert site.count(".row, .latent-head, [role=alert], .scroll") >= 1


def test_missing_data_are_named(open_site, tmp_path, driver):
    copy_page(tmp_path)
    driver.get(f"{tmp_path.as_uri()}/index.html")
    assert (
        "data/index.js is missing or damaged"
        in driver.find_element("css selector", "[role=alert]").text
    )
    synthetic.write_site(tmp_path, PLANS["bare"])
    (tmp_path / "data" / "latents" / "0000.js").unlink()
    driver.get("about:blank")
    site = Site(driver, tmp_path, PLANS["bare"])
    site.go("#/latent/1")
    assert "data/latents/0000.js is missing or damaged" in site.texts("[role=alert]")[0]
    (
        driver.get_log("browser"),
        driver.get_log("performance"),
    )  # the browser itself says what is missing


STAND_OUT = [
    ("ink", "paper", 7),
    ("soft", "ground", 4.5),
    ("soft", "sunk", 4.5),
    ("accent", "paper", 4.5),
    ("accent", "accent-pale", 4.5),
    ("warn", "warn-pale", 4.5),
    ("on-accent", "accent", 4.5),
    *((f"stream-{i}", "paper", 3) for i in range(6)),
]


def test_texts_and_marks_stand_out_in_both_themes(open_site):
    site = open_site("shapes")

    def colour(name):
        style = "getComputedStyle(document.documentElement)"
        return site.run(f"return {style}.getPropertyValue('--{name}').trim()")

    for _ in range(2):
        for text, ground, least in STAND_OUT:
            assert contrast(colour(text), colour(ground)) >= least, (text, ground)
        site.act("document.querySelector('#theme').click()")
    site.run("localStorage.clear()")


def contrast(first, second):
    """By WCAG 2."""

    def luminance(colour):
        parts = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
        return np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [
            0.2126,
            0.7152,
            0.0722,
        ]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)
