"""The grammar of every library's specs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparc.common.errors import ConfigError
from sparc.extract.encoders import StreamSpec, parse_spec
from sparc.extract.encoders.open_clip.spec import OpenClipSpec
from sparc.extract.encoders.timm.spec import TimmSpec
from sparc.extract.encoders.transformers.spec import TransformersSpec

name = st.text(st.sampled_from("abcXYZ019_-./"), min_size=1, max_size=20).filter(
    lambda text: text.strip("/") == text and not text.startswith(("./", "../"))
)
pool = st.sampled_from(["cls", "mean", "default"])
text_pool = st.none() | st.sampled_from(["cls", "mean", "last", "default"])
size = st.none() | st.integers(1, 2000)
block = st.none() | st.integers(0, 99)
timm = st.builds(TimmSpec, name, st.none() | name, size, pool, block)
transformers = st.builds(TransformersSpec, name, text_pool)
architecture = name.map(lambda text: text.replace("/", ""))
open_clip = st.builds(
    OpenClipSpec,
    architecture.filter(lambda text: text.strip(".")),
    name,
    st.sampled_from(["image", "text"]),
)


@given(timm | transformers | open_clip)
def test_a_spec_survives_its_text(spec: StreamSpec) -> None:
    assert parse_spec(str(spec)) == spec


def test_specs_of_the_readme() -> None:
    spec = parse_spec("timm:vit_small_patch14_dinov2@/w/a b.safetensors?size=224&pool=cls")
    assert (spec.model, spec.weights) == ("vit_small_patch14_dinov2", "/w/a b.safetensors")
    assert (spec.size, spec.pool, spec.modality) == (224, "cls", "image")
    clip = parse_spec("open_clip:ViT-B-16//weights/open.pt#text")
    assert (clip.model, clip.weights, clip.modality) == ("ViT-B-16", "/weights/open.pt", "text")
    hub = parse_spec("open_clip:hf-hub:org/model#image")
    assert (hub.model, hub.weights, hub.modality) == ("hf-hub:org/model", None, "image")
    text = parse_spec("transformers:org/model")
    assert (text.pool, text.modality, str(text)) == (None, "text", "transformers:org/model")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vit_base", "must begin with one of"),
        ("keras:vit", "must begin with one of"),
        ("timm:", "a name is missing"),
        ("timm:vit@", "a name is missing"),
        ("timm:vit?sise=3", "unknown option 'sise'"),
        ("timm:vit?size=0", "size must be a whole number of at least 1"),
        ("timm:vit?size=2.5", "size must be a whole number"),
        ("timm:vit?block=-1", "block must be a whole number of at least 0"),
        ("timm:vit?pool=max", "pool must be"),
        ("timm:vit?size", "cannot read stream spec"),
        ("open_clip:ViT-B-16/tag", "must end in #image or #text"),
        ("open_clip:ViT-B-16#image", "pretrained tag or a weights file"),
        ("open_clip:ViT-B-16/tag#audio", "must end in #image or #text"),
        ("transformers:x?size=3", "unknown option 'size'"),
    ],
)
def test_malformed_specs_are_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_spec(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "spec",
    [
        "timm:vit@{}w.pth?size=9&pool=cls",
        "timm:hf-hub:org/vit@{}w.pth",
        "open_clip:ViT-B-16/{}w.pth#text",
        "open_clip:local-dir:{}bert#image",
        "transformers:{}bert?pool=cls",
        "transformers:{}org/../bert",
    ],
)
def test_a_file_or_folder_that_is_here_gets_its_absolute_path(spec, tmp_path, monkeypatch) -> None:
    (tmp_path / "w.pth").touch()
    (tmp_path / "bert").mkdir()
    (tmp_path / "org").mkdir()
    monkeypatch.chdir(tmp_path)
    absolute = parse_spec(spec.format(f"{tmp_path}/"))
    assert parse_spec(spec.format("")).absolute() == absolute
    assert absolute.absolute() == absolute
    monkeypatch.chdir("/")
    typed = parse_spec(spec.format(""))
    assert typed.absolute() == typed


def test_names_of_the_hub_and_tags_are_no_files_whatever_lies_here(tmp_path, monkeypatch) -> None:
    for name in ("openai", "vit", "org", "w.pth"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    for text in (
        "timm:vit",
        "timm:hf-hub:org",
        "open_clip:ViT-B-16/openai#image",
        "open_clip:hf-hub:org#text",
        "transformers:w.pth",
        "transformers:org/bert",
    ):
        assert str(parse_spec(text).absolute()) == text


@pytest.mark.parametrize("above", ["what?", "\udce9"])
def test_a_path_that_cannot_be_recorded_stays_as_typed(above, tmp_path, monkeypatch) -> None:
    (tmp_path / above / "bert").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / above)
    assert str(parse_spec("transformers:bert").absolute()) == "transformers:bert"
