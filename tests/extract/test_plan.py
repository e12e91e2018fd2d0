import subprocess
import sys

from sparc.extract import plan
from sparc.extract.config import ExtractConfig


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
