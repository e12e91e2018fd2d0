"""The registry of encoder libraries: what each promises, and how a new one is added."""

import dataclasses
import hashlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import ConfigError, EncoderError
from sparc.common.streams.origin import StreamOrigin
from sparc.extract.encoders import StreamSpec, build_encoders, parse_spec, register
from sparc.extract.encoders.encoder import Encoders
from sparc.extract.encoders.libraries import LIBRARIES, feature_width
from sparc.extract.encoders.spec import MalformedSpecError, join_options, split_options


@dataclasses.dataclass(frozen=True)
class ToySpec(StreamSpec):
    """Random projections of pixels: `toy:<seed>[?size=<pixels>]`."""

    library = "toy"
    grammar = "toy:<seed>[?size=<pixels>]"
    may_run_transformers = False

    seed: int
    size: int | None = None

    @classmethod
    def parse(cls, source):
        seed, options = split_options(source, ("size",))
        if not seed.isdecimal():
            raise MalformedSpecError("the seed must be a whole number")
        return cls(int(seed), options.number("size", smallest=1))

    @property
    def source(self):
        return join_options(str(self.seed), {"size": self.size})

    @property
    def modality(self):
        return "image"

    @property
    def place(self):
        return None


class ToyEncoder:
    dim = 6

    def __init__(self, spec, weights):
        self._side, self._weights = spec.size or 4, weights
        digest = hashlib.sha256(weights.numpy().tobytes()).hexdigest()
        self.origin = StreamOrigin(
            spec=str(spec), input_size=(self._side, self._side), weights_sha256=digest
        )

    def prepare(self, image):
        pixels = np.asarray(image.resize((self._side, self._side)), np.float32) / 255
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def encode(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(1) @ self._weights


class ToyLibrary:
    spec = ToySpec
    package = "pillow"

    def width(self, spec):
        return ToyEncoder.dim

    def load(self, spec):
        values = np.random.default_rng(spec.seed).normal(size=(3 * (spec.size or 4) ** 2, 6))
        return torch.from_numpy(values).float()

    def build(self, spec, model, device):
        return ToyEncoder(spec, model)


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr("sparc.extract.encoders.libraries.LIBRARIES", dict(LIBRARIES))
    register(ToyLibrary())


@pytest.mark.usefixtures("toy")
def test_a_library_of_a_users_own_goes_all_the_way(pictures, call, tmp_path):
    (tmp_path / "data").mkdir()
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"data/{number}.png")
    streams = ("--stream", "a=toy:1?size=8", "--stream", "b=toy:2")
    extract = ("run", tmp_path / "data", tmp_path / "cache", *streams, "--device", "cpu")
    planned = call("extract", *extract, "--dry-run")
    assert "a = toy:1?size=8 (image, dim 6, " in planned.stdout, planned.stderr
    done = call("extract", *extract)
    assert done.returncode == 0, done.stderr
    cache = ActivationCache(tmp_path / "cache")
    assert cache.info.versions["pillow"] == importlib.metadata.version("pillow")
    encoder = build_encoders({"a": cache_spec(cache, "a")}, torch.device("cpu")).images["a"]
    assert encoder.origin.weights_sha256 == cache.streams["a"].origin.weights_sha256
    expected = encoder.encode(torch.stack([encoder.prepare(picture) for picture in pictures]))
    np.testing.assert_allclose(cache.features("a", 0), expected, rtol=2e-3, atol=1e-3)

    settings = ("--latents", 8, "--k", 2, "--auxk", 0, "--steps", 2, "--batch-size", 2)
    done = call("train", "run", tmp_path / "cache", tmp_path / "run", *settings, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    refused = call(
        "analyze", "localize", tmp_path / "run", tmp_path / "data/0.png", "--latent", 1,
        "--out", tmp_path / "maps", "--device", "cpu",
    )  # fmt: skip
    assert refused.returncode == 2
    last = " ".join(refused.stderr.split("error: ")[-1].split())
    assert "a: toy:1?size=8 gives no features of places: its library knows no tower" in last
    assert not (tmp_path / "maps").exists()


def cache_spec(cache, stream):
    return parse_spec(cache.streams[stream].origin.spec)


@pytest.mark.usefixtures("toy")
def test_a_registered_library_is_named_in_messages_and_its_name_is_taken():
    with pytest.raises(ConfigError, match=r"begin with one of .*toy.*Specs are .*toy:<seed>"):
        parse_spec("nobody:1")
    with pytest.raises(ConfigError, match="unknown option 'sise'"):
        parse_spec("toy:1?sise=3")
    with pytest.raises(ConfigError, match="there is an encoder library 'toy' already"):
        register(ToyLibrary())


def test_importing_the_package_imports_no_model_library():
    code = (
        "import sys, sparc.extract.encoders; "
        "print([m for m in ('torch', 'timm', 'open_clip', 'transformers') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_no_streams_no_encoders():
    assert build_encoders({}, torch.device("cpu")) == Encoders({}, {})


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
    assert feature_width(parse_spec(spec)) == dim


@pytest.mark.parametrize("spec", ["timm:no_such_vit", "open_clip:NoSuchViT/tag#image"])
def test_models_that_are_not_there_are_refused(spec: str) -> None:
    with pytest.raises(EncoderError, match=r"has no (model|architecture)"):
        feature_width(parse_spec(spec))


@pytest.mark.parametrize(
    ("config", "dim"),
    [('{"hidden_size": 384}', 384), ('{"d_model": 512}', 512), ('{"other": 1}', None)],
)
def test_the_width_of_a_text_model_is_read_from_its_folder(
    tmp_path: Path, config: str, dim: int | None
) -> None:
    (tmp_path / "config.json").write_text(config)
    assert feature_width(parse_spec(f"transformers:{tmp_path}")) == dim


def test_a_text_model_with_a_broken_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(EncoderError, match="is not JSON"):
        feature_width(parse_spec(f"transformers:{tmp_path}"))
