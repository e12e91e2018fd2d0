"""The command on a run of small random encoders: images, scores, and what it refuses.

The scenes hold a red and a green square; captions name them.
"""

import base64
import dataclasses
import json
import os
import shutil
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sparc.analyze.config import AnalyzeConfig
from sparc.analyze.localize.config import LocalizeConfig
from sparc.analyze.localize.localizer import Localizer
from sparc.analyze.localize.maps import localize_images
from sparc.analyze.localize.scores import score_localization
from sparc.analyze.report.digests import replace
from sparc.analyze.report.folder import Report
from sparc.analyze.report.renderers.text import render
from sparc.analyze.report.summary_page import summary_page
from sparc.analyze.run import analyze
from sparc.common.documents import seal, unseal
from sparc.common.errors import ConfigError, DatasetError, ReportError, SparcError
from sparc.common.files.folder import Folder
from sparc.common.images.decoding import ImageError
from sparc.extract import job as extraction
from sparc.extract.config import ExtractConfig
from sparc.extract.datasets import DatasetOptions, open_dataset
from sparc.extract.datasets.folders.local import LocalFolder
from sparc.extract.datasets.formats.webdataset.reader import WebDataset
from sparc.extract.encoders.tower import LocalizeError
from sparc.train import job as training
from sparc.train.config import TrainConfig

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "green", "square", "and"]
SCENES = 24
CAPTIONS = ["a red and a green square", "a red square", "a green square and a square"]


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory, save_bert):
    folder = tmp_path_factory.mktemp("bert")
    return save_bert(folder, WORDS, model_max_length=16, initializer_range=1.0)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A COCO dataset of images of 160 x 120 pixels with two squares each."""
    folder = tmp_path_factory.mktemp("scenes")
    (folder / "val").mkdir()
    (folder / "annotations").mkdir()
    generator = np.random.default_rng(0)
    images, captions, instances = [], [], []
    for number in range(SCENES):
        pixels = np.full((120, 160, 3), generator.integers(100, 140), np.uint8)
        sides = generator.permutation([8, 88])
        for category, (left, colour) in enumerate(
            zip(sides, ((230, 20, 20), (20, 230, 20)), strict=True), 1
        ):
            x, y = int(left + generator.integers(0, 24)), int(generator.integers(0, 80))
            pixels[y : y + 40, x : x + 40] = colour
            corners = [x, y, x + 40, y, x + 40, y + 40, x, y + 40]
            instances.append(
                {
                    "id": len(instances), "image_id": number, "category_id": category,
                    "segmentation": [corners], "iscrowd": 0, "area": 1600,
                    "bbox": [x, y, 40, 40],
                }
            )  # fmt: skip
        name = f"{number}.png"
        Image.fromarray(pixels).save(folder / "val" / name)
        images.append({"id": number, "file_name": name, "width": 160, "height": 120})
        captions.append({"id": number, "image_id": number, "caption": CAPTIONS[number % 3]})
    categories = [{"id": 1, "name": "red square"}, {"id": 2, "name": "green square"}]
    for kind, annotations in (("captions", captions), ("instances", instances)):
        document = {"images": images, "annotations": annotations, "categories": categories}
        path = folder / "annotations" / f"{kind}_val.json"
        path.write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="module")
def streams(weights_file, text_folder):
    return {
        "vit": f"timm:test_vit@{weights_file('test_vit')}?size=160",
        "cnn": f"timm:test_resnet@{weights_file('test_resnet')}?size=160",
        "text": f"transformers:{text_folder}",
    }


@pytest.fixture(scope="module")
def cache(scenes, streams, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache") / "cache"
    config = ExtractConfig(
        format="coco",
        split="val",
        masks=True,
        streams=tuple(f"{name}={spec}" for name, spec in streams.items()),
        rows_per_chunk=16,
        device="cpu",
    )
    extraction.run(open_dataset(str(scenes), config.dataset_options()), folder, config)
    return folder


@pytest.fixture(scope="module")
def run(cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    training.run(
        str(cache),
        folder,
        TrainConfig(
            recipe="joint", latents=32, k=6, auxk=4, steps=10, batch_size=8, lr=0.01, device="cpu"
        ),
    )
    return folder


def test_images_are_written_for_every_text_and_latent(run, scenes, call_process, tmp_path):
    image = scenes / "val" / "0.png"
    result = call_process(
        "analyze", "localize", run, image, "--text", "a red square", "--latent", 3,
        "--out", tmp_path, "--arrays", "--caption", "a red and a green square",
        "--trust-encoders",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    written = [tmp_path / name for name in ("0.a-red-square.png", "0.latent-3.png")]
    assert result.stdout.split() == [str(p) for p in [*written, tmp_path / "contact-sheet.png"]]
    for stream in ("vit", "cnn"):
        values = np.load(tmp_path / f"0.a-red-square.{stream}.npy")
        assert values.shape == (120, 160)
        assert values.dtype == np.float32
        # The encoders see the middle square: the rest is NaN.
        assert np.isnan(values[:, [0, -1]]).all()
        assert np.isfinite(values[:, 30:130]).sum() > 9000
    with Image.open(written[0]) as shown:
        assert shown.width > 3 * 160


def test_a_localizer_works_from_python(run, cache, scenes):
    localizer = Localizer.open(run, LocalizeConfig(device="cpu", trust_encoders=True))
    image = scenes / "val" / "0.png"
    actual = localizer.text(image, "a red square")
    assert set(actual) == {"vit", "cnn"}
    for stream, located in actual.items():
        assert located.map.shape == (120, 160)
        assert stream in localizer.towers
        assert located.presence.share is None or 0 <= located.presence.share <= 1
    assert "random words" in localizer.compared_with
    (latent,) = {located.presence.share for located in localizer.latent(image, 3).values()}
    assert latent is None  # without other images nothing says what is much
    compared = Localizer.open(
        run, LocalizeConfig(device="cpu", cache=str(cache), trust_encoders=True)
    )
    assert compared.compared_with == f"24 images of {cache}"
    numbers = [compared.latent(scenes / "val" / f"{n}.png", 3)["cnn"].presence for n in range(3)]
    ranks = [sorted(numbers, key=key) for key in (lambda p: p.strength, lambda p: p.share)]
    assert ranks[0] == ranks[1]


def test_maps_share_a_scale_and_absent_queries_have_no_colour(run, scenes, tmp_path):
    localizer = Localizer.open(run, LocalizeConfig(device="cpu", trust_encoders=True))
    image = scenes / "val" / "0.png"
    presences = {n: localizer.latent(image, n)["cnn"].presence for n in range(32)}
    active = max((n for n in presences if not presences[n].absent), key=lambda n: presences[n][0])
    inactive = next(n for n in presences if presences[n].absent)
    config = LocalizeConfig(
        latent=(active, inactive), out=tmp_path, streams=("cnn",), trust_encoders=True
    )
    localize_images(str(run), [str(image)], config)

    def colour(latent):
        with Image.open(tmp_path / f"0.latent-{latent}.png") as shown:
            panel = np.asarray(shown.crop((8 + 168 + 20, 44 + 5, 8 + 168 + 140, 44 + 115)), int)
        return np.ptp(panel, axis=2).max()

    assert colour(inactive) == 0
    assert colour(active) > 50


@pytest.fixture
def report(run, cache, tmp_path):
    folder = tmp_path / "report"
    settings = AnalyzeConfig(permuted=False, untrained=False, device="cpu", scheduler="sync")
    analyze(str(run), str(cache), str(folder), settings)
    return folder


def test_scores_go_into_the_report(run, cache, report, call):
    result = call(
        "analyze", "localize", run, "--cache", cache, "--report", report, "--max-images", 6,
        "--template", "a {}", "--trust-encoders",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "vit, text" in result.stdout
    table = pq.read_table(report / "localization.parquet")
    about = json.loads(table.schema.metadata[b"sparc"])
    assert (about["table"], about["run"]) == ("localization", str(run))
    assert about["settings"]["top_rows"] == 100
    assert about["command"]["name"] == "localize"
    assert about["command"]["settings"]["max_images"] == 6
    rows = table.to_pylist()
    assert {row["map"] for row in rows} == {"text", "centre", "random_latent"}
    assert {row["class"] for row in rows} == {None, "red square", "green square"}
    (mean,) = [
        row
        for row in rows
        if (row["stream"], row["map"], row["images"], row["class"])
        == ("cnn", "centre", "several", None)
    ]
    assert mean["objects"] == 12
    (text,) = [
        row
        for row in rows
        if (row["stream"], row["map"], row["images"], row["class"]) == ("cnn", "text", "all", None)
    ]
    # Both squares are in every scene: no class is absent, so there is no AUC.
    assert (text["absent"], text["auc"], mean["absent"]) == (0, None, None)
    assert 0 < mean["average_precision"] < 0.5
    summary = json.loads((report / "summary.json").read_text())
    assert summary["localization_pointing/centre/several/cnn"] == mean["pointing"]
    assert "codes_r_at_1/independent/trained" in summary
    assert "LOCALIZATION" in render(summary_page([Report(report)]))


def test_the_concept_browser_has_maps_of_the_streams_strongest_images(
    run, cache, scenes, report, call, tmp_path
):
    site, known = tmp_path / "site", pq.read_table(report / "latents.parquet").to_pylist()
    asked = max(row["latent"] for row in known if row["stream"] == "cnn" and row["rows_active"])
    browse = ("analyze", "browse", report, site, "--no-map", "--maps=1", "--device=cpu")
    for wrong, message in (
        (
            ("--latents=32", "--trust-encoders"),
            f"{report} has no latent 32: its latents are 0 to 31",
        ),
        ((), "--trust-encoders"),
        (("--trust-encoders", f"--dataset={tmp_path}/none"), "none"),
    ):
        refused = call(*browse, *wrong)
        assert refused.returncode == 2
        assert message in refused.stderr
        assert not (site / "index.html").exists()
        assert not (site / "building.json").exists()
    done = call(*browse, f"--latents={asked}", "--trust-encoders")
    assert done.returncode == 0, done.stderr
    pages = {}
    for file in (site / "data/latents").iterdir():
        content = file.read_text().removesuffix(");\n").partition(",")[2]
        pages |= {int(n): page for n, page in json.loads(content)["latents"].items()}
    mapped = {latent: page for latent, page in pages.items() if page["maps"]}
    assert asked in mapped
    assert len(mapped) <= 2
    localizer = Localizer.open(run, LocalizeConfig(device="cpu", trust_encoders=True))
    compared = 0
    for latent, page in mapped.items():
        for stream, maps in page["maps"].items():
            top = page["modes"]["independent"][stream]["top"][:4]
            assert sorted(m["row"] for m in maps) == sorted(place for place, _ in top)
            by_hand = [
                tile(localizer, scenes, stream, latent, page["rows"][m["row"]]) for m in maps
            ]
            for shown, cells in zip(maps, by_hand, strict=True):
                share = cells / np.max(by_hand)
                written = np.frombuffer(base64.b64decode(shown["data"]), np.uint8).reshape(24, 24)
                np.testing.assert_allclose(written / 255, share, atol=0.6 / 255)
                assert shown["largest"] == pytest.approx(share.max(), abs=1e-5)
                compared += 1
    assert compared >= 8


def tile(localizer, scenes, stream, latent, row):
    """A map in 24 x 24 cells over a square tile that an image of 160 x 120 pixels lies on."""
    with Image.open(scenes / row["image"]) as image:
        encoded = localizer.encode(image.convert("RGB"))
    grid = localizer.grid(stream, latent, encoded)
    rise = np.maximum(grid - np.median(grid), 0)
    # Five pixels a cell, so that the middle one is the cell's centre.
    pixels = np.zeros((120, 120))
    placed = localizer.placement(stream, encoded.size).on_image(rise, (120, 90))
    pixels[15:105] = np.nan_to_num(placed)
    return pixels[2::5, 2::5]


def test_another_models_report_is_not_changed(run, cache, report):
    info = json.loads((report / "report.json").read_text())
    changed = json.dumps({**info, "model_sha256": "0"}).encode()
    replace(Folder(report), "report.json", changed)
    with pytest.raises(ReportError, match="something else"):
        score_localization(str(run), LocalizeConfig(cache=str(cache), report=str(report)))
    assert not (report / "localization.parquet").exists()


def test_a_moved_dataset_is_named(run, cache, tmp_path):
    config = LocalizeConfig(cache=str(cache), dataset=str(tmp_path), trust_encoders=True)
    with pytest.raises(DatasetError, match="dataset="):
        score_localization(str(run), config)


@pytest.fixture(scope="module")
def shards(scenes, cache, streams, tmp_path_factory):
    """A cache of the same scenes, but from shards: its format, with masks."""
    folder = tmp_path_factory.mktemp("shards")
    with tarfile.open(folder / "0.tar", "w") as archive:
        for number in range(SCENES):
            archive.add(scenes / "val" / f"{number}.png", f"{number}.png")
    manifest = open_dataset(
        str(scenes), DatasetOptions(format="coco", split="val", masks=True)
    ).manifest()
    names = [f"0.tar/{image.rpartition('/')[2]}" for image in manifest.rows["image"].to_pylist()]
    column = manifest.rows.schema.get_field_index("image")
    dataset = WebDataset(LocalFolder(folder), DatasetOptions())
    dataset.manifest = lambda: dataclasses.replace(
        manifest,
        dataset=str(folder),
        dataset_format="webdataset",
        rows=manifest.rows.set_column(column, "image", pa.array(names)),
    )
    config = ExtractConfig(
        streams=tuple(f"{name}={spec}" for name, spec in streams.items()),
        rows_per_chunk=16,
        device="cpu",
    )
    extraction.run(dataset, folder / "cache", config)
    return folder / "cache"


def test_images_in_shards_are_scored_as_those_in_a_folder(run, cache, shards):
    tables = [
        score_localization(
            str(run),
            LocalizeConfig(cache=str(c), max_images=4, device="cpu", trust_encoders=True),
        )
        for c in (cache, shards)
    ]
    assert len(tables[0]) > 0
    assert tables[0].equals(tables[1])


@pytest.mark.timeout(120)
def test_a_malicious_dataset_ends_in_a_message(run, cache, scenes, tmp_path, call):
    hostile = tmp_path / "scenes"
    shutil.copytree(scenes, hostile)
    image = hostile / "val" / "0.png"
    for make in (
        lambda: image.symlink_to("/dev/zero"),
        lambda: image.symlink_to(scenes / "val" / "0.png"),
        lambda: os.mkfifo(image),
    ):
        image.unlink()
        make()
        result = call(
            "analyze", "localize", run, "--cache", cache, "--dataset", hostile, "--stream", "cnn",
            "--trust-encoders",
        )  # fmt: skip
        assert result.returncode == 2
        assert "0.png" in result.stderr
        assert "Traceback" not in result.stderr


def test_encoders_of_a_run_are_built_only_with_consent(run, scenes, streams, text_folder, call):
    arguments = ["analyze", "localize", run, scenes / "val" / "0.png", "--latent", 1]
    result = call(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert all(f"'{name}={spec}'" in line for name, spec in streams.items())
    assert "--trust-encoders" in line
    # What is given by hand needs no trust, the rest still does.
    result = call(*arguments, "--spec", f"vit={streams['vit']}")
    (line,) = result.stderr.splitlines()
    assert result.returncode == 2
    assert "'vit=" not in line
    assert f"'text=transformers:{text_folder}'" in line


def test_the_same_tensors_with_another_activation_are_another_encoder(
    run, scenes, text_folder, call, tmp_path
):
    shutil.copytree(text_folder, tmp_path / "relu")
    config = json.loads((tmp_path / "relu/config.json").read_text())
    (tmp_path / "relu/config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    result = call(
        "analyze", "localize", run, scenes / "val" / "0.png", "--latent", 1, "--trust-encoders",
        "--spec", f"text=transformers:{tmp_path}/relu",
    )  # fmt: skip
    assert result.returncode == 2
    assert "is not the encoder that made stream text" in result.stderr
    assert "definition_sha256" in result.stderr


def test_moved_weights_are_named_and_can_be_given(run, scenes, streams, tmp_path):
    document = unseal((run / "config.json").read_bytes())
    for stream in document["data"]["streams"]:
        origin = stream["origin"]
        origin["spec"] = origin["spec"].replace("test_vit.safetensors", "moved.safetensors")
    moved = tmp_path / "run"
    moved.mkdir()
    for file in run.iterdir():
        if file.is_file():
            (moved / file.name).write_bytes(file.read_bytes())
    (moved / "config.json").write_bytes(seal(document))
    images = [str(scenes / "val" / "0.png")]
    trusted = {"latent": (1,), "out": tmp_path / "out", "trust_encoders": True}
    config = LocalizeConfig(**trusted)
    with pytest.raises(LocalizeError, match=r"no weights file .*moved.*specs="):
        localize_images(str(moved), images, config)
    given = LocalizeConfig(**trusted, specs=(f"vit={streams['vit']}",))
    assert len(localize_images(str(moved), images, given)) == 1
    other = LocalizeConfig(**trusted, specs=(f"vit={streams['vit']}&pool=cls&block=0",))
    with pytest.raises(LocalizeError, match=r"is not the encoder that made stream vit.*pooling"):
        localize_images(str(moved), images, other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "--text TEXT or --latent NUMBER"),
        ({"latent": (32,)}, "the model has 0 to 31"),
        ({"latent": (1,), "streams": ("clip",)}, "no stream 'clip'"),
        ({"latent": (1,), "streams": ("text",)}, "none reads images"),
        ({"latent": (1,), "source": "vit"}, "no text stream 'vit'"),
        ({"latent": (1,), "method": "attention", "streams": ("cnn",)}, "no attention"),
    ],
)
def test_impossible_requests_are_refused(run, scenes, tmp_path, settings, message):
    config = LocalizeConfig(out=tmp_path, trust_encoders=True, **settings)
    with pytest.raises(SparcError) as caught:
        localize_images(str(run), [str(scenes / "val" / "0.png")], config)
    assert message in str(caught.value)


def test_settings_that_do_not_go_together_are_refused():
    with pytest.raises(ConfigError, match="or give images"):
        score_localization("run", LocalizeConfig(cache="c", text=("a",)))
    with pytest.raises(ConfigError, match="no images"):
        localize_images("run", ["p"], LocalizeConfig(cache="c", report="r", latent=(1,)))
    for settings in (
        {"report": "r"},
        {"template": "a"},
        {"layers": 0},
    ):
        with pytest.raises(ConfigError):
            LocalizeConfig(**settings)


@pytest.mark.parametrize(("size", "answer"), [((1, 4000), "200 times"), ((20, 4000), None)])
def test_a_sliver_of_an_image_has_an_answer(run, tmp_path, size, answer):
    path = tmp_path / "sliver.png"
    Image.new("RGB", size, "red").save(path)
    config = LocalizeConfig(
        latent=(1,), out=tmp_path, arrays=True, streams=("cnn",), trust_encoders=True
    )
    if answer:
        with pytest.raises(ImageError, match=answer):
            localize_images(str(run), [str(path)], config)
        return
    localize_images(str(run), [str(path)], config)
    values = np.load(tmp_path / "sliver.latent-1.cnn.npy")
    assert values.shape == (4000, 20)
    seen = np.flatnonzero(np.isfinite(values).any(axis=1))
    assert 1985 < seen[0] < seen[-1] < 2015  # the middle square, as its preprocessing crops


def test_files_that_are_no_images_are_named(run, tmp_path):
    config = LocalizeConfig(latent=(1,), out=tmp_path, trust_encoders=True)
    (tmp_path / "text.png").write_text("no (image|picture)")
    os.mkfifo(tmp_path / "pipe.png")
    for name, message in (
        ("text.png", "not an? (image|picture)"),
        ("none.png", "no (image|picture)"),
        (".", "folder"),
        ("pipe.png", "not a regular file"),
    ):
        with pytest.raises(ImageError, match=message):
            localize_images(str(run), [str(tmp_path / name)], config)
