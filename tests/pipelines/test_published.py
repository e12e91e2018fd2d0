import json
from pathlib import Path

import pytest

from sparc.pipelines.config import CocoConfig, OpenImagesConfig
from sparc.pipelines.demo.dataset import SceneSettings, write_scenes
from sparc.pipelines.published import published_stages


def commands(config, dataset_format):
    return [s.command for s in published_stages("data", Path("out"), config, dataset_format)]


def test_coco_as_published():
    assert commands(CocoConfig(), "coco") == [
        "sparc-extract run data out/caches/train --split=train --preset=dinov2-clip-b "
        "--format=coco --captions=join",
        "sparc-extract run data out/caches/test --split=val --preset=dinov2-clip-b "
        "--format=coco --captions=join",
        "sparc-train run out/caches/train out/run --recipe=published",
        "sparc-analyze run out/run out/caches/test out/report",
    ]


def test_open_images_as_published():
    listed = commands(OpenImagesConfig(limit=100, device="cpu", steps=7), "open-images")
    assert listed == [
        "sparc-extract run data out/caches/train --split=train --preset=dinov2-clip-l "
        "--format=open-images --captions=each --limit=100 --device=cpu",
        "sparc-extract run data out/caches/test --split=test --preset=dinov2-clip-l "
        "--format=open-images --captions=each --limit=100 --device=cpu",
        "sparc-train run out/caches/train out/run --recipe=published --steps=7 --device=cpu",
        "sparc-analyze run out/run out/caches/test out/report --device=cpu",
    ]


def test_the_defaults_of_training_are_the_published_ones():
    from sparc.train.config import TrainConfig

    config = TrainConfig(recipe=CocoConfig().recipe)
    assert (config.latents, config.k, config.batch_size, config.epochs) == (8192, 64, 256, 50)
    assert (config.lr, config.schedule, config.align) == (1e-4, "constant", ())


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    location = tmp_path_factory.mktemp("scenes")
    write_scenes(location, SceneSettings(train=24, test=10))
    return location


def test_coco_from_the_dataset_to_the_report(
    scenes, tmp_path, tiny_streams, pipeline_in_this_process, read_summary
):
    settings = tmp_path / "settings.toml"
    settings.write_text("[train]\nlatents = 32\nk = 4\nlr = 0.01\n[analyze]\nrows = 8\n")
    folder = tmp_path / "out"
    small = ["--test-split=test", "--steps=3", "--k=5", f"--settings={settings}", *tiny_streams]
    result = pipeline_in_this_process("coco", scenes, folder, *small)
    assert result.returncode == 0, result.stderr
    assert "AGREEMENT" in result.stdout
    run = json.loads((folder / "run/config.json").read_text())
    # An option wins over the file; what is in neither stays as published.
    assert [run["train"][name] for name in ("latents", "k", "steps", "lr")] == [32, 5, 3, 0.01]
    assert (run["train"]["recipe"], run["train"]["batch_size"]) == ("published", 256)
    report = json.loads((folder / "report/report.json").read_text())
    assert report["rows"] == 10
    assert report["settings"]["rows"] == 8
    assert read_summary(folder / "report")["nmse_cross/independent/trained"] > 0
    again = pipeline_in_this_process("coco", scenes, folder, *small)
    assert again.returncode == 0
    assert again.stderr.count("done before") == 4


def test_a_dataset_that_is_not_there_is_one_line(tmp_path, run_pipeline):
    result = run_pipeline("open-images", tmp_path / "nowhere", tmp_path / "out")
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: stage [1/4]")
