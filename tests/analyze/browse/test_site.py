"""Sites of small reports: every number is that of the report's tables, and writing can be resumed.

Tables are read with plain pyarrow, codes with plain Zarr, data files as JSON between two brackets.
"""

import base64
import io
import json
import os
import pty
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import zarr
from PIL import Image

import sparc

WORDS = ("owl", "cat", "<img src=x>", "sofa", "truck", "apple")
STREAMS = ("dino", "clip")
DIMS = {"dino": 10, "clip": 8}
IMAGES = 120
FAST = ("--device=cpu", "--no-untrained", "--no-permuted")
BIAS = ("--bias=class:owl", "--bias=words:cat against words:sofa")
SMALL = ("--latents=24", "--k=3", "--batch-size=32", "--epochs=20", "--lr=3e-3")
SMALL += ("--device=cpu", "--kernels=torch", "--recipe=published")
SECRET = b"taken at home"


def colour(image: int) -> tuple[int, int, int]:
    return (40 * (image % 6), 20 * (image % 12), 2 * image)


@pytest.fixture(scope="module")
def world(tmp_path_factory, call) -> Path:
    """`cache`, `run` and `report`: two captions an image; images say where they were taken."""
    folder = tmp_path_factory.mktemp("browse")
    draws = np.random.default_rng(0)
    concept = np.repeat(draws.integers(len(WORDS), size=IMAGES), 2)
    hidden = np.eye(len(WORDS))[concept]
    hidden += np.repeat(0.1 * draws.normal(size=(IMAGES, len(WORDS))), 2, axis=0)
    features = {name: hidden @ draws.normal(size=(len(WORDS), dim)) for name, dim in DIMS.items()}
    # The rows of an image have different captions: a latent may be active on one of them alone.
    features["clip"] += 0.3 * draws.normal(size=features["clip"].shape)
    exif = Image.Exif()
    exif[0x010E] = SECRET.decode()
    (folder / "images").mkdir()
    files = [folder / f"images/{image:03}.png" for image in range(IMAGES)]
    for image, file in enumerate(files):
        Image.new("RGB", (120, 60), colour(image)).save(file, exif=exif)
    sparc.write_arrays(
        folder / "cache",
        features,
        modality={"clip": "text"},
        sample_ids=[f"image {row // 2}" for row in range(2 * IMAGES)],
        captions=[f"a {WORDS[c]} number {row % 2}" for row, c in enumerate(concept)],
        images=[files[row // 2] for row in range(2 * IMAGES)],
        label_ids=concept.tolist(),
        classes=list(WORDS),
        rows_per_chunk=75,  # divides an image
    )
    for command in (
        ("train", "run", folder / "cache", folder / "run", *SMALL),
        (
            "analyze",
            "run",
            folder / "run",
            folder / "cache",
            folder / "report",
            *FAST,
            "--top-rows=60",
        ),
    ):
        done = call(*command)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def site(world, call) -> Path:
    done = call("analyze", "browse", world / "report", world / "site", *BIAS)
    assert done.returncode == 0, done.stderr
    assert f"open {world}/site/index.html" in done.stdout
    return world / "site"


def read(file: Path) -> Any:
    call = file.read_text(encoding="utf-8")
    arguments = call.removeprefix("sparcData(").removesuffix(");\n")
    return json.loads(f"[{arguments}]")[1]


def column(index: dict, key: str) -> Any:
    (wanted,) = [c["data"] for c in index["columns"] if c["key"] == key]
    return decode(wanted)


def decode(data: dict) -> Any:
    if data["type"] == "text":
        return [data["values"][c - 1] if c else None for c in decode(data["codes"])]
    kinds = {"f4": "<f4", "f2": "<f2", "u1": "u1", "u2": "<u2", "u4": "<u4", "i4": "<i4"}
    return np.frombuffer(base64.b64decode(data["data"]), kinds.get(data["type"], "u1"))


def details(site: Path) -> dict[int, dict]:
    result = {}
    for file in sorted((site / "data/latents").iterdir()):
        result |= {int(n): d for n, d in read(file)["latents"].items()}
    return result


def table(report: Path, name: str, **where: Any) -> Any:
    read_table = pq.read_table(report / f"{name}.parquet")
    for key, value in where.items():
        read_table = read_table.filter(pc.field(key) == value)
    return read_table


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_list_has_the_figures_of_the_tables(world, site, call, tmp_path) -> None:
    index = read(site / "data/index.js")
    report = index["report"]
    assert (report["rows"], report["images"], report["latents"]) == (240, 120, 24)
    assert (report["classes"], report["captions"], report["recipe"]) == (6, True, "published")
    assert [s["name"] for s in index["streams"]] == list(STREAMS)
    assert [s["modality"] for s in index["streams"]] == ["image", "text"]
    for stream in STREAMS:
        where = {"mode": "independent", "stream": stream}
        latents = table(world / "report", "latents", **where).sort_by("latent")
        rows = latents["rows_active"].to_numpy()
        assert column(index, f"rows:{stream}").tolist() == rows.tolist()
        purity = table(world / "report", "purity", restriction="all_rows", depth=1, **where)
        purity = purity.sort_by("latent")
        for key, of_table in (("purity", "purity"), ("base", "base_rate"), ("lift", "lift")):
            expected = purity[of_table].to_pandas().to_numpy(np.float32)
            np.testing.assert_allclose(column(index, f"{key}:{stream}"), expected, rtol=1e-6)
        naming = table(world / "report", "naming", rank=1, **where)
        names = column(index, f"name:{stream}")
        for latent, word, images in zip(
            *(naming[c].to_pylist() for c in ("latent", "word", "images_both")), strict=True
        ):
            assert names[latent].split(", ")[0] == word
            assert column(index, f"guess:{stream}")[latent] == (images < 5)
        assert [name is None for name in names].count(False) == len(naming)
    done = call("analyze", "concepts", world / "report", f"--out={tmp_path}/c.parquet")
    assert done.returncode == 0, done.stderr
    assert "first rows: images on whose first row the latent is active" in done.stdout
    concepts = pq.read_table(tmp_path / "c.parquet").to_pylist()
    for key in ("agreement", "agreement_mispaired", "agreement_excess", "overlap", "shared"):
        values = column(index, key)
        for line in concepts:
            expected = np.nan if line[key] is None else line[key]
            np.testing.assert_allclose(values[line["latent"]], expected, rtol=1e-6)
    dead = column(index, "dead")
    latents = table(world / "report", "latents", mode="independent").to_pylist()
    alive = {line["latent"] for line in latents if line["rows_active"]}
    assert set(np.flatnonzero(dead == 0)) == alive
    listed = {line["latent"] for line in concepts}
    assert listed < alive
    of_second_rows = details(site)[min(alive - listed)]
    assert of_second_rows["thin"] == "active on no image's first row"
    assert [column(index, "interest")[n] for n in np.flatnonzero(dead)] == [0] * int(dead.sum())
    assert column(index, "interest").max() > 0


def test_a_stream_s_share_of_the_selection_is_that_of_the_table(world, site) -> None:
    """Weighted by the rows that select each latent jointly, it is that of `selection`."""
    index = read(site / "data/index.js")
    jointly = np.bincount(
        zarr.open_array(world / "report/codes.zarr/trained/joint/indices")[:].ravel(),
        minlength=24,
    )
    for stream in STREAMS:
        share = np.nan_to_num(column(index, f"selection_share:{stream}"))
        (whole,) = table(world / "report", "selection", control="trained", stream=stream)["share"]
        np.testing.assert_allclose((share * jointly).sum() / jointly.sum(), whole.as_py(), 1e-5)


def test_headlines_have_the_figures_of_the_summary_with_their_controls(world, site) -> None:
    summary = json.loads((world / "report/summary.json").read_text())
    headlines = read(site / "data/index.js")["headlines"]
    agreement = next(h for h in headlines if h["text"].startswith("agreement, depth 1"))
    assert agreement["mode"] == "independent"
    assert not agreement["given"]
    for key, end in (("value", ""), ("low", "_low"), ("high", "_high")):
        wanted = summary[f"agreement{end}/independent/trained/depth 1"]
        np.testing.assert_allclose(agreement[key], wanted, rtol=1e-5)
    (mispaired,) = agreement["controls"]
    assert mispaired["name"] == "mispaired latents"
    wanted = summary["agreement_mispaired/independent/trained/depth 1"]
    np.testing.assert_allclose(mispaired["value"], wanted, rtol=1e-5)
    assert all(h["given"] == (h["mode"] == "joint") for h in headlines)
    assert any(h["given"] for h in headlines)
    shown = {round(h["value"], 4) for h in headlines if h["value"] is not None}
    assert round(summary["nmse_cross/independent/trained"], 4) in shown
    selection = [h for h in headlines if h["text"] == "share of the selection: dino"]
    assert [h["stream"] for h in selection] == ["dino"]


def test_the_page_of_a_latent_has_its_rows_values_and_classes(world, site) -> None:
    pages = details(site)
    cache_rows = pq.read_table(world / "cache/rows.parquet").to_pylist()
    codes = zarr.open_group(world / "report/codes.zarr/trained", mode="r")
    alive = set()
    for mode in ("independent", "joint"):
        for stream in STREAMS:
            at = f"{mode}/{stream}" if mode == "independent" else mode
            indices, values = codes[f"{at}/indices"][:], codes[f"{mode}/{stream}/values"][:]
            lines = table(world / "report", "latents", mode=mode, stream=stream).to_pylist()
            for line in lines:
                if not line["rows_active"]:
                    continue
                alive.add(line["latent"])
                page = pages[line["latent"]]
                of = page["modes"][mode][stream]
                assert of["rows"] == line["rows_active"]
                active = (indices == line["latent"]) & (values > 0)
                counts, edges = np.histogram(
                    values[active].astype(float), 12, range=(0, line["largest_value"])
                )
                assert of["histogram"]["counts"] == counts.tolist()
                np.testing.assert_allclose(of["histogram"]["edges"], edges, rtol=1e-5)
                by_row = dict(zip(np.flatnonzero(active.any(axis=1)), values[active], strict=True))
                images = len({row // 2 for row in by_row})
                assert of["images"] == (images if mode == "independent" else None)
                shown = [*of["top"], *(x for q in of["quantiles"] for x in q["examples"])]
                for place, value in shown:
                    row = page["rows"][place]["row"]
                    np.testing.assert_allclose(by_row[row], value, rtol=1e-5)
                first = {}
                for row in line["top_rows"]:
                    first.setdefault(cache_rows[row]["sample_id"], row)
                top = [page["rows"][place]["row"] for place, _ in of["top"]]
                assert top == list(first.values())[:9]
                for number, examples in enumerate(of["histogram"]["examples"]):
                    low, high = edges[number], edges[number + 1]
                    assert len(examples) <= 2
                    rounding = 1e-5 * line["largest_value"]
                    for _, value in examples:
                        assert low - rounding <= value <= high + rounding
                    assert bool(examples) == bool(counts[number])
                classes = [cache_rows[row]["label_ids"] for row in by_row]
                share = np.mean([0 in c for c in classes])
                (owl,) = [c for c in of["classes"] if c["name"] == "owl"] or [None]
                if owl:
                    np.testing.assert_allclose(owl["share"], share, rtol=1e-5)
                    assert owl["share"] > owl["base"]
    assert set(pages) == alive
    for page in pages.values():
        for shown in page["rows"]:
            row = cache_rows[shown["row"]]
            assert shown["sample"] == row["sample_id"]
            assert shown["caption"] == row["caption"]
            assert shown["classes"] == [WORDS[c] for c in row["label_ids"]]


def test_quantile_groups_lie_where_they_say(site) -> None:
    for page in details(site).values():
        for of_mode in page["modes"].values():
            for of in of_mode.values():
                groups = [[value for _, value in q["examples"]] for q in of["quantiles"]]
                assert [q["at"] for q in of["quantiles"]] in ([], [0.9, 0.5, 0.1])
                for group in groups:
                    assert group == sorted(group, reverse=True)
                for higher, lower in pairwise(groups):
                    assert higher[0] >= lower[0]


def test_partners_and_neighbours_are_those_of_tables_and_run(world, site) -> None:
    pages = details(site)
    within = table(world / "report", "cofiring", mode="independent", first="dino", second="dino")
    for line in within.to_pylist():
        for own, other in (("first", "second"), ("second", "first")):
            partners = pages[line[f"{own}_latent"]]["cofiring"]
            own_stream = {p["latent"]: p for p in partners if p["stream"] == "dino"}
            partner = own_stream.get(line[f"{other}_latent"])
            if partner is None:
                assert len(own_stream) == 6
                assert line["phi"] <= min(p["phi"] for p in own_stream.values())
                continue
            np.testing.assert_allclose(partner["phi"], line["phi"], rtol=1e-5)
            assert partner["images_both"] == line["images_both"]
    rows = sparc.load(world / "run").decoder["dino"].numpy()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosine = rows @ rows.T
    for latent, page in pages.items():
        near = [n for n in page["neighbours"] if n["stream"] == "dino"]
        for neighbour in near:
            wanted = cosine[latent, neighbour["latent"]]
            np.testing.assert_allclose(neighbour["cosine"], wanted, atol=1e-5)
        assert [n["cosine"] for n in near] == sorted((n["cosine"] for n in near), reverse=True)
        assert latent not in [n["latent"] for n in near]


def test_a_tile_is_the_picture_of_its_row_and_nothing_else_of_the_file(site) -> None:
    tiles = column(read(site / "data/index.js"), "tiles")
    for latent, page in details(site).items():
        sprite = page["sprite"]
        assert sprite["tiles"] == tiles[latent]
        content = (site / f"images/000/{latent:05d}.webp").read_bytes()
        assert SECRET not in content
        assert b"EXIF" not in content
        sheet = Image.open(io.BytesIO(content)).convert("RGBA")
        assert sheet.width == 96 * sprite["columns"]
        for shown in page["rows"]:
            left = shown["tile"] % sprite["columns"] * 96
            top = shown["tile"] // sprite["columns"] * 96
            *seen, opaque = sheet.getpixel((left + 48, top + 48))
            wanted = colour(int(shown["sample"].removeprefix("image ")))
            assert opaque == 255
            np.testing.assert_allclose(seen, wanted, atol=12)
            assert sheet.getpixel((left + 48, top + 5))[3] == 0  # it keeps its proportions
        assert len({row["tile"] for row in page["rows"]}) == sprite["tiles"]


def test_words_lead_to_latents_by_name_class_and_caption(world, site) -> None:
    words = read(site / "data/words.js")
    assert words["words"] == sorted(words["words"])
    starts, latents = decode(words["starts"]), decode(words["latents"])
    leads = {
        word: set(latents[starts[place] : starts[place + 1]].tolist())
        for place, word in enumerate(words["words"])
    }
    named = table(world / "report", "naming", mode="independent", word="owl")["latent"].to_pylist()
    assert len(named) > 0
    assert set(named) <= leads["owl"]
    index = read(site / "data/index.js")
    assert index["classes"] == sorted(index["classes"])
    starts, latents = (decode(index["class_latents"][key]) for key in ("starts", "latents"))
    at = index["classes"].index("owl")
    of_class = set(latents[starts[at] : starts[at + 1]].tolist())
    owls = {n for s in STREAMS for n, c in enumerate(column(index, f"class:{s}")) if c == "owl"}
    assert of_class == owls
    assert owls <= leads["owl"]
    for latent in leads["number"]:
        captions = [row["caption"] for row in details(site)[latent]["rows"]]
        assert sum("number" in caption for caption in captions) >= 2


def test_latents_of_like_directions_lie_close_together(world, site) -> None:
    plane = read(site / "data/map.js")
    assert plane["method"].startswith("t-SNE of the decoder rows")
    dead = column(read(site / "data/index.js"), "dead")
    latents = decode(plane["latents"])
    assert latents.tolist() == np.flatnonzero(dead == 0).tolist()
    places = np.stack([decode(plane["x"]), decode(plane["y"])], axis=1).astype(float)
    assert places.min() == 0
    assert places.max() == 1
    model = sparc.load(world / "run")
    rows = np.concatenate([model.decoder[s].numpy()[latents] for s in STREAMS], axis=1)
    likeness = (rows @ rows.T)[np.triu_indices(len(latents), 1)]
    distance = np.linalg.norm(places[:, None] - places, axis=-1)[np.triu_indices(len(latents), 1)]
    assert np.corrcoef(likeness, distance)[0, 1] < -0.3


def test_bias_is_that_of_the_command(world, site, call, tmp_path) -> None:
    owl, contrast = read(site / "data/bias.js")["reports"]
    done = call("analyze", "bias", world / "report", "--attribute=class:owl", f"--out={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert owl["smallest"].split("; the smallest")[0].removeprefix("dino: ") in done.stdout
    lines = table(tmp_path, "associations", control="trained").to_pylist()
    tested = {(x["stream"], x["latent"]): x for x in lines if x["q"] is not None}
    assert {(x["stream"], x["latent"]) for x in owl["associations"]} == set(tested)
    assert any(x["associated"] for x in owl["associations"])
    for shown in owl["associations"]:
        line = tested[shown["stream"], shown["latent"]]
        assert shown["associated"] == line["associated"]
        assert shown["images_with"] == line["images_both"]
        np.testing.assert_allclose(shown["effect"] * np.log(2), line["log_odds"], rtol=1e-5)
        np.testing.assert_allclose(shown["q"], line["q"], rtol=1e-5)
    pairs = table(tmp_path, "pairs", control="trained")
    assert len(owl["pairs"]) == len(pairs)
    assert (contrast["attribute"], contrast["against"]) == ("words:cat", "words:sofa")
    done = call("analyze", "browse", world / "report", tmp_path / "x", "--bias=class:unicorn")
    assert done.returncode == 2
    assert "unicorn" in done.stderr
    done = call("analyze", "browse", world / "report", tmp_path / "x", "--bias=words:sof")
    assert done.returncode == 2
    assert "no caption of " in done.stderr
    assert "has 'sof'; similar words: sofa" in done.stderr
    assert not (tmp_path / "x").exists()


def test_latents_of_another_report_are_matched_as_stability_does(world, call, tmp_path) -> None:
    run, report = tmp_path / "run", tmp_path / "report"
    export = f"--export={tmp_path}/latents.parquet"
    for command in (
        ("train", "run", world / "cache", run, *SMALL, "--seed=15", "--latents=20"),
        ("analyze", "run", run, world / "cache", report, *FAST),
        ("analyze", "stability", world / "run", run, f"--out={tmp_path}"),
        ("analyze", "browse", world / "report", tmp_path / "site", f"--compare={report}", export),
    ):
        done = call(*command)
        assert done.returncode == 0, done.stderr
    (other,) = read(tmp_path / "site/data/compare.js")["reports"]
    match, similarity = (decode(other["latents"][key]) for key in ("match", "similarity"))
    matching = table(tmp_path, "matching", matching="joint").to_pylist()
    together = [line for line in matching if line["stream"] is None]
    assert len(together) == 20
    for line in together:
        partner = line["second_latent"] if line["cosine"] > 0.7 else -1
        assert match[line["first_latent"]] == partner
        np.testing.assert_allclose(similarity[line["first_latent"]], line["cosine"], rtol=1e-6)
    same = [line for line in together if line["cosine"] > 0.7]
    index = read(tmp_path / "site/data/index.js")
    dead = column(index, "dead")
    assert set(other["lost"]) == set(np.flatnonzero(dead == 0)) - {x["first_latent"] for x in same}
    latents = table(report, "latents", mode="independent").to_pylist()
    alive = {line["latent"] for line in latents if line["rows_active"]}
    gained = set(other["gained"])
    assert gained == alive - {line["second_latent"] for line in same}
    on_first_rows = {x["latent"] for x in latents if any(n % 2 == 0 for n in x["top_rows"])}
    assert gained - on_first_rows  # the first row of an image has an even number
    np.testing.assert_array_equal(column(index, "stability"), similarity)
    summary = json.loads((report / "summary.json").read_text())["nmse_cross/independent/trained"]
    assert round(summary, 4) in {round(h["value"], 4) for h in other["headlines"] if h["value"]}
    assert 0 < len(same) < 20
    exported = pq.read_table(tmp_path / "latents.parquet").to_pydict()
    assert exported["latent"] == np.flatnonzero(dead == 0).tolist()
    assert {"x", "y", "agreement", "name:dino", "stability"} <= exported.keys()
    pictures = [Image.open(io.BytesIO(image["bytes"])) for image in exported["image"]]
    assert {picture.size for picture in pictures} == {(96, 48)}
    named = {n for of in other["details"].values() for n in of["names"].values()}
    assert any(name.startswith("owl") for name in named)


def test_the_page_shows_the_figures_and_pictures_of_the_files(site, open_site) -> None:
    page = open_site(site, "#/latents")
    index = read(site / "data" / "index.js")
    for key in ("agreement", "overlap"):
        page.go(f"#/latents?cols={key}")
        page.until("document.querySelector('.row')")
        shown = page.run(
            "return [...document.querySelectorAll('.row')]"
            ".map((r) => [Number(r.dataset.latent), r.querySelector('[data-key] b').innerText])"
        )
        assert len(shown) > 5
        numbers = [np.nan if text == "–" else float(text.replace("−", "-")) for _, text in shown]
        expected = column(index, key)[[latent for latent, _ in shown]]
        np.testing.assert_allclose(numbers, expected, rtol=0, atol=0.00501)
    for latent, detail in list(details(site).items())[:3]:
        page.go(f"#/latent/{latent}")
        rows = page.run(
            "return [...document.querySelectorAll('.shot')].map((s) => Number(s.dataset.row))"
        )
        tops = [own["top"] for own in detail["modes"]["independent"].values()]
        assert rows == [detail["rows"][place]["row"] for top in tops for place, _ in top]
    for view in ("#/", "#/map", "#/bias", "#/about"):
        page.go(view)
        assert page.count("[role=alert]") == 0


def test_a_small_site_drops_what_is_needed_least_and_says_so(world, call, tmp_path, site) -> None:
    whole = sum(map(len, contents(site).values()))
    pictures = sum(len(x) for name, x in contents(site).items() if name.startswith("images"))
    size = whole - pictures // 2
    done = call("analyze", "browse", world / "report", tmp_path / "site", f"--size={size / 1000}kB")
    assert done.returncode == 0, done.stderr
    dropped = read(tmp_path / "site/data/index.js")["images"]["dropped"]
    assert "images by value of " in dropped
    assert dropped in done.stderr
    assert sum(map(len, contents(tmp_path / "site").values())) < whole - pictures // 3
    best = int(column(read(site / "data/index.js"), "interest").argmax())
    page = details(tmp_path / "site")[best]
    for of in page["modes"]["independent"].values():
        assert all(page["rows"][place]["tile"] >= 0 for place, _ in of["top"][:4])
    assert any(row["tile"] < 0 for p in details(tmp_path / "site").values() for row in p["rows"])


def test_pages_of_many_latents_are_short(world, call, tmp_path, site, monkeypatch) -> None:
    monkeypatch.setattr("sparc.analyze.browse.extent.MANY_LATENTS", 20)
    done = call("analyze", "browse", world / "report", tmp_path / "site", "--no-map")
    assert done.returncode == 0, done.stderr
    short, full = details(tmp_path / "site"), details(site)
    assert short.keys() == full.keys()
    for latent, page in short.items():
        assert len(page["rows"]) <= len(full[latent]["rows"])
        for mode, most in (("independent", 2), ("joint", 1)):
            for stream, of in page["modes"][mode].items():
                assert all(len(q["examples"]) <= most for q in of["quantiles"])
                values = [v for _, v in full[latent]["modes"][mode][stream]["top"]]
                top = [v for _, v in of["top"]]
                assert top == values[: 9 if mode == "independent" else 4]


def test_an_interrupted_site_is_continued_and_the_same(world, site, call, tmp_path) -> None:
    again = tmp_path / "site"
    shutil.copytree(site, again)
    record = json.loads((again / "site.json").read_text())
    (again / "site.json").unlink()
    del record["files"], record["sha256"]
    from sparc.common.documents import seal

    (again / "building.json").write_bytes(seal(record))
    sprites = sorted((again / "images/000").iterdir())
    stamps = [sprite.stat().st_mtime_ns for sprite in sprites[1:]]
    sprites[0].unlink()
    shutil.rmtree(again / "data")
    done = call("analyze", "browse", world / "report", again, *BIAS)
    assert done.returncode == 0, done.stderr
    assert [sprite.stat().st_mtime_ns for sprite in sprites[1:]] == stamps
    assert_same_site(again, site)
    (again / "data/latents/0000.js").write_text("sparcData('latents/0', {})")
    done = call("analyze", "browse", world / "report", again, *BIAS)
    assert "0000.js is missing or damaged: it is made again" in done.stderr
    assert_same_site(again, site)
    done = call("analyze", "browse", world / "report", again, *BIAS)
    assert "is finished" in done.stderr


def assert_same_site(again: Path, site: Path) -> None:
    """All but the command, which names the folder."""
    one, other = contents(again), contents(site)
    assert one.keys() == other.keys()
    for name in one.keys() - {"data/index.js", "site.json"}:
        assert one[name] == other[name], name
    first, second = read(again / "data/index.js"), read(site / "data/index.js")
    del first["command"], second["command"]
    assert first == second


def test_places_are_no_settings_but_a_site_is_made_again_where_more_is_at_hand(
    world, call, tmp_path
) -> None:
    site, run, cache = tmp_path / "site", tmp_path / "run", tmp_path / "cache"
    asked = ("analyze", "browse", world / "report", site, "--no-map")
    shutil.copytree(world / "cache", cache)
    shutil.rmtree(cache / "thumbnails")
    (world / "images").rename(tmp_path / "images")
    (world / "run").rename(run)
    try:
        done = call(*asked, "--cache", cache)
        assert done.returncode == 0, done.stderr
        poor = details(site)
        done = call(*asked, "--run", run)
        assert done.returncode == 0, done.stderr
    finally:
        run.rename(world / "run")
        (tmp_path / "images").rename(world / "images")
    assert "is finished" not in done.stderr
    assert f"--run {run}" in read(site / "data/index.js")["command"]
    for latent, page in details(site).items():
        assert (poor[latent]["sprite"], poor[latent]["neighbours"]) == (None, [])
        assert page["sprite"]["tiles"] > 0
        assert page["neighbours"]
    before = contents(site)
    report = sparc.Report(world / "report", run=world / "run", cache=cache)
    assert report.browse(site, map=False) == str(site / "index.html")
    assert "is finished" in call(*asked, "--cache", cache).stderr
    assert contents(site) == before
    done = call(*asked, *BIAS)
    assert done.returncode == 2
    assert "(bias: (none) there, class:owl, words:cat against words:sofa now)" in done.stderr


def test_a_folder_of_something_else_is_refused(world, site, call, tmp_path) -> None:
    done = call("analyze", "browse", world / "report", world / "run")
    assert done.returncode == 2
    assert "is not empty and not a site" in done.stderr
    done = call("analyze", "browse", site, world / "report")
    assert f"`sparc-analyze browse {world}/report {site}`" in done.stderr
    done = call("analyze", "concepts", site)
    assert f"it is a site; give the report that it was made from, {world}/report" in done.stderr
    again = tmp_path / "site"
    shutil.copytree(site, again)
    done = call("analyze", "browse", world / "report", again, *BIAS, "--size=1MB")
    assert done.returncode == 2
    assert "(size: 300MB there, 1MB now)" in done.stderr
    done = call("analyze", "browse", world / "report", again, "--size=1MB", "--overwrite")
    assert done.returncode == 0, done.stderr
    (again / "mine.txt").write_text("mine")
    done = call("analyze", "browse", world / "report", again, "--overwrite")
    assert done.returncode == 2
    assert "holds mine.txt besides the site" in done.stderr
    (again / "data/my").mkdir()
    (again / "mine.txt").rename(again / "data/my/notes.md")
    done = call("analyze", "browse", world / "report", again, "--size=1MB", "--overwrite")
    assert "holds data/my/notes.md besides the site" in done.stderr
    (again / "data/index.js").write_text("damaged")
    (again / "data/latents/9999.js").write_text("of a site with more latents")
    done = call("analyze", "browse", world / "report", again, "--size=1MB")
    assert done.returncode == 0, done.stderr
    assert (again / "data/my/notes.md").read_text() == "mine"
    assert not (again / "data/latents/9999.js").exists()
    assert call("analyze", "browse", world / "report", again, "--size=big").returncode == 2


def test_a_terminal_is_asked_before_a_site_is_removed(world, site) -> None:
    before = contents(site)
    terminal, theirs = pty.openpty()
    os.write(terminal, b"n\n")
    command = (sys.executable, "-m", "sparc.analyze.cli", "browse", world / "report", site)
    try:
        done = subprocess.run(
            [*command, "--overwrite"], stdin=theirs, stderr=theirs, stdout=subprocess.PIPE
        )
        said = os.read(terminal, 10_000).decode()
    finally:
        os.close(terminal)
        os.close(theirs)
    assert done.returncode == 1
    assert f"Remove the site in {site}?" in " ".join(said.split())
    assert contents(site) == before


def test_one_stream_without_captions_labels_and_images(tmp_path, call) -> None:
    draws = np.random.default_rng(0)
    sparc.write_arrays(tmp_path / "cache", {"only": draws.normal(size=(40, 6))})
    small = ("--latents=8", "--k=2", "--batch-size=8", "--steps=20", "--device=cpu")
    for command in (
        ("train", "run", tmp_path / "cache", tmp_path / "run", *small, "--kernels=torch"),
        ("analyze", "run", tmp_path / "run", tmp_path / "cache", tmp_path / "report", *FAST),
    ):
        assert call(*command).returncode == 0
    shutil.rmtree(tmp_path / "run")
    done = call("analyze", "browse", tmp_path / "report", tmp_path / "site")
    assert done.returncode == 0, done.stderr
    index = read(tmp_path / "site/data/index.js")
    keys = {c["key"] for c in index["columns"]}
    assert "interest" in keys
    assert not keys & {"agreement", "shared", "name:only", "class:only", "selection_share:only"}
    assert index["classes"] == []
    assert not index["report"]["captions"]
    assert index["images"]["format"] == ""
    assert any("nearest decoder rows are not shown" in note for note in index["notes"])
    assert any("no pictures" in note for note in index["notes"])
    page = next(iter(details(tmp_path / "site").values()))
    assert page["sprite"] is None
    assert page["pairs"] == page["nearest"] == page["neighbours"] == []
    assert all(row["tile"] == -1 and row["caption"] is None for row in page["rows"])
