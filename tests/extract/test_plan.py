import subprocess
import sys
from pathlib import Path

import pytest

from sparc.common.errors import SparcError
from sparc.common.streams.spec import StreamSpec
from sparc.extract import plan
from sparc.extract.config import ExtractConfig


@pytest.mark.parametrize(
    ("spec", "dim"),
    [
        ("timm:test_vit", 64),
        ("timm:test_vit?pool=cls", 64),
        ("timm:vit_large_patch14_reg4_dinov2.lvd142m?size=224", 1024),
        ("timm:hf-hub:someone/something", None),
        ("open_clip:ViT-B-16/datacomp_xl_s13b_b90k#text", 512),
        ("open_clip:hf-hub:someone/something#image", None),
        ("transformers:someone/something", None),
    ],
)
def test_widths_are_known_without_weights(spec: str, dim: int | None) -> None:
    assert plan.feature_dim(StreamSpec.parse(spec)) == dim


@pytest.mark.parametrize("spec", ["timm:no_such_vit", "open_clip:NoSuchViT/tag#image"])
def test_models_that_are_not_there_are_refused(spec: str) -> None:
    with pytest.raises(SparcError, match=r"has no (model|architecture)"):
        plan.feature_dim(StreamSpec.parse(spec))


def test_the_plan_counts_and_sizes(fake_dataset) -> None:
    dataset = fake_dataset([["one", "two"], ["three\x07"], [None]], broken=[1])
    config = ExtractConfig(streams=("a=timm:test_vit", "t=open_clip:ViT-B-16/x#text"))
    lines = list(plan.describe(dataset, dataset.manifest(), config))
    text = "\n".join(lines)
    for part in (
        "rows      4",
        "images    3",
        "classes   2, 4 rows labelled",
        "captions  3",
        "three\\x07",
        f"bytes     {(4 * (64 * 2 + 1) + 4 * (512 * 2 + 1)) / 1000:.1f} kB, float16",
        "judged by 3 images, of which 1 cannot be used",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("config", "dim"),
    [('{"hidden_size": 384}', 384), ('{"d_model": 512}', 512), ('{"other": 1}', None)],
)
def test_the_width_of_a_text_model_is_read_from_its_folder(
    tmp_path: Path, config: str, dim: int | None
) -> None:
    (tmp_path / "config.json").write_text(config)
    assert plan.feature_dim(StreamSpec.parse(f"transformers:{tmp_path}")) == dim


def test_a_text_model_with_a_broken_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(SparcError, match="is not JSON"):
        plan.feature_dim(StreamSpec.parse(f"transformers:{tmp_path}"))


def test_what_the_dataset_holds_is_said_before_any_library_of_models_is_imported() -> None:
    # They take seconds, and a person who sees a wrong caption need not wait for them.
    script = (
        "import sys, sparc.extract.plan; print({'torch', 'timm', 'transformers'} & {*sys.modules})"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert found.stdout == "set()\n"
