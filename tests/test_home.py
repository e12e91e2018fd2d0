"""`~` is the home folder wherever a place is typed, since quotes and files keep shells from it."""

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import sparc
from sparc.common.cache.reader import ActivationCache


def test_home_is_known_everywhere(call, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "images").mkdir()
    random = np.random.default_rng(0)
    for number in range(12):
        image = Image.fromarray(random.integers(0, 256, (20, 20, 3), dtype=np.uint8))
        image.save(tmp_path / f"images/{number:02d}.png")
    lines = [f"{number:02d},{'even' if number % 2 == 0 else 'odd'}" for number in range(12)]
    (tmp_path / "labels.csv").write_text("\n".join(["ImageID,LabelName", *lines]))
    torch.manual_seed(0)
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "vit.safetensors")
    (tmp_path / "sparc.toml").write_text(
        '[extract]\nlabels = "~/labels.csv"\nstreams = ["v=timm:test_vit@~/vit.safetensors"]\n'
    )
    commands = [
        ("extract", "run", "~/images", "~/cache", "--config", "~/sparc.toml", "--device", "cpu"),
        ("train", "run", "~/cache", "~/run", "--latents", "8", "--k", "2", "--steps", "2"),
        ("analyze", "run", "~/run", "~/cache", "~/report"),
        ("analyze", "concepts", "~/report", "--out", "~/concepts.csv"),
    ]
    for stage, *arguments in commands:
        done = call(stage, *arguments)
        assert done.returncode == 0, done.stderr
    cache = ActivationCache(tmp_path / "cache")
    assert cache.info.dataset == str(tmp_path / "images")
    assert cache.stream("v").origin.spec == f"timm:test_vit@{tmp_path}/vit.safetensors"
    assert len(cache.classes()) == 2
    assert (tmp_path / "concepts.csv").exists()
    assert sparc.load("~/run").config.names == ("v",)
    assert sparc.Report("~/report").info.cache == str(tmp_path / "cache")
    assert not (tmp_path / "~").exists()
