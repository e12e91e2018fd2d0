"""What the pages show can be typed: Python that runs, specs that a shell leaves whole."""

import re
from pathlib import Path

import pytest

from sparc.common.cache_writer import write_arrays
from sparc.train import job
from sparc.train.config import TrainConfig
from sparc.train.model import Sparc
from sparc.train.planted import plant

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *(path for path in ROOT.glob("*/*.md") if not path.parts[-2].startswith("."))]

SPEC = re.compile(r"(?:timm|open_clip|transformers):[^\s'`\"]*[?&#]")
"""A spec with a character that means something to a shell: `&` ends a command."""


def test_specs_are_quoted_where_a_shell_would_take_them_apart():
    found = 0
    for page in PAGES:
        for line in page.read_text().splitlines():
            for spec in SPEC.finditer(line):
                assert line[: spec.start()].count("'") % 2 == 1, f"{page.name}: {line}"
                found += 1
    assert found


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("extract", "run"),
        ("analyze", "search"),
        ("analyze", "name"),
        ("analyze", "localize"),
        ("pipelines", "demo"),
        ("pipelines", "coco"),
        ("pipelines", "open-images"),
    ],
)
def test_the_help_says_to_quote_specs(call, program, command):
    shown = " ".join(call(program, command, "--help").stdout.split())
    assert "in quotes" in shown
    assert not re.search(r"(?<!')name=spec", shown, re.IGNORECASE)


def test_the_examples_run(tmp_path, monkeypatch):
    """One after the other, on features with rejected rows."""
    monkeypatch.chdir(tmp_path)
    published = []
    monkeypatch.setattr(Sparc, "push_to_hub", lambda _, repository: published.append(repository))
    features = plant(
        {"dino": 768, "clip_txt": 12}, rows=100, shared=20, private=2, active=3
    ).features
    features["clip_txt"][::17] = 0
    write, use, analyze = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    there = {**features, "captions": [f"caption {row}" for row in range(100)]}
    exec(write, there)
    write_arrays("cache-test", features, modality={"clip_txt": "text"})
    settings = TrainConfig(latents=32, k=4, batch_size=32, steps=2, device="cpu", kernels="torch")
    job.run("cache", Path("run"), settings)
    exec(use, there)
    assert there["dino"].shape == (94, 768)
    assert published == ["you/your-model"]
    exec(analyze, there)
