"""The examples in Python of README.md run, one after the other, on features with rejected rows."""

import re
from pathlib import Path

from sparc.common.cache_writer import write_arrays
from sparc.train import job
from sparc.train.config import TrainConfig
from sparc.train.model import Sparc
from sparc.train.planted import plant

README = Path(__file__).parents[1] / "README.md"


def test_the_examples_run(tmp_path, monkeypatch):
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
