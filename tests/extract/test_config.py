import pytest

from sparc.common.config import load_config
from sparc.common.errors import ConfigError
from sparc.extract.config import ExtractConfig
from sparc.extract.datasets.base import DatasetOptions

STREAM = ("a=timm:vit@/w=1.pth?size=224",)


def test_streams_keep_their_order_and_split_at_the_first_equals_sign() -> None:
    config = ExtractConfig(streams=("b=transformers:x", *STREAM))
    assert list(config.specs) == ["b", "a"]
    assert config.specs["a"].weights == "/w=1.pth"


def test_a_preset_names_three_streams() -> None:
    specs = ExtractConfig(preset="dinov2-clip-l").specs
    assert [spec.modality for spec in specs.values()] == ["image", "image", "text"]


def test_dataset_settings_are_those_of_the_readers() -> None:
    config = ExtractConfig(streams=STREAM, split="train", limit=5, holdout=0.2, holdout_by="who")
    wanted = DatasetOptions(split="train", limit=5, holdout=0.2, holdout_by="who")
    assert config.dataset_options() == wanted
    assert ExtractConfig(streams=STREAM).dataset_options() == DatasetOptions()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"streams": ()}, "say which encoders to run"),
        ({"preset": "dinov2-clip-b"}, "give --stream or --preset, not both"),
        ({"streams": (), "preset": "clip"}, "no preset 'clip'"),
        ({"streams": STREAM * 2}, "two streams are called 'a'"),
        ({"streams": ("A=timm:vit",)}, "cannot be called 'A'"),
        ({"streams": ("a=jax:vit",)}, "cannot read stream spec 'jax:vit'"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"rows_per_chunk": 0}, "rows_per_chunk must be at least 1"),
        ({"limit": -1}, "limit must be at least 0"),
        ({"workers": -1}, "workers must not be negative"),
        ({"keep_bits": 8}, "keep_bits needs dtype float32"),
        ({"keep_bits": 24, "dtype": "float32"}, "keep_bits must be from 1 to 23"),
        ({"device": "cpu", "devices": "all"}, "give device or devices, not both"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"devices": "cuda:0,cuda:x"}, "unknown device 'cuda:x'"),
    ],
)
def test_impossible_settings_are_refused_by_name(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        ExtractConfig(**{"streams": STREAM, **settings})


def test_toml_spells_settings_like_the_options(tmp_path) -> None:
    path = tmp_path / "sparc.toml"
    path.write_text('[extract]\nstreams = ["a=timm:vit"]\nbatch-size = 8\nlabels = "l.csv"\n')
    config = load_config(ExtractConfig, "extract", path, {"dtype": "float32"})
    assert (config.batch_size, config.dtype) == (8, "float32")
    assert str(config.labels) == "l.csv"
