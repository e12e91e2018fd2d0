import subprocess
import sys

import pytest
from PIL import Image

from sparc.common.errors import DatasetError
from sparc.extract import plan
from sparc.extract.config import ExtractConfig
from sparc.extract.datasets import DatasetOptions, open_dataset


def test_the_plan_counts_and_sizes(fake_dataset) -> None:
    dataset = fake_dataset([["one", "two"], ["three\x07"], [None]], broken=[1])
    config = ExtractConfig(streams=("a=timm:test_vit", "t=open_clip:ViT-B-16/x#text"))
    lines = list(plan.describe(dataset, dataset.manifest(), config))
    text = "\n".join(lines)
    for part in (
        "rows      4 of 3 images",
        "classes   2",
        "three\\x07",
        f"bytes     {(4 * (64 * 2 + 1) + 4 * (512 * 2 + 1)) / 1000:.1f} kB, float16",
        "pictures  thumbnails of up to 96 pixels",
        "judged by 3 images, of which 1 cannot be used",
    ):
        assert part in text


def test_what_the_dataset_holds_is_said_before_any_library_of_models_is_imported() -> None:
    # They take seconds, and a person who sees a wrong caption need not wait for them.
    script = (
        "import sys, sparc.extract.plan; print({'torch', 'timm', 'transformers'} & {*sys.modules})"
    )
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert process.stdout == "set()\n"


def test_what_would_give_captions_is_said_before_a_stream_that_needs_them_is_refused(
    tmp_path,
) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    (tmp_path / "dogs.csv").write_text("id,words\na,a poodle\n")
    dataset = open_dataset(tmp_path, DatasetOptions())
    lines: list[str] = []
    config = ExtractConfig(streams=("t=open_clip:ViT-B-16/x#text",))
    planned = plan.describe(dataset, dataset.manifest(), config)
    with pytest.raises(DatasetError, match="stream t needs a caption"):
        lines.extend(planned)
    assert any("--table dogs.csv with --caption-column NAME" in line for line in lines)


def test_streams_of_a_preset_are_left_out_where_a_folder_has_nothing_for_them(tmp_path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    dataset = open_dataset(tmp_path, DatasetOptions())
    config = ExtractConfig(preset="dinov2-clip-b")
    lines = list(plan.describe(dataset, dataset.manifest(), config))
    starts = [" ".join(line.split()[:2]) for line in lines]
    assert [start for start in starts if start.startswith("stream ")] == [
        "stream dino",
        "stream clip_img",
    ]
    assert any("left out  stream clip_txt of dinov2-clip-b" in line for line in lines)

    (tmp_path / "a.txt").write_text("an owl")
    dataset = open_dataset(tmp_path, DatasetOptions())
    lines = list(plan.describe(dataset, dataset.manifest(), config))
    assert sum(line.startswith("stream ") for line in lines) == 3
    assert not any("left out  stream" in line for line in lines)
