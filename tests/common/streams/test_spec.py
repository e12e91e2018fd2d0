import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparc.common.config import from_mapping, to_mapping
from sparc.common.errors import ConfigError
from sparc.common.streams.spec import (
    StreamInfo,
    StreamOrigin,
    StreamSpec,
    check_name,
    encoder_difference,
)

name = st.text(st.sampled_from("abcXYZ019_-./"), min_size=1, max_size=20).filter(
    lambda text: text.strip("/") == text
)
pool = st.sampled_from(["cls", "mean", "default"])
size = st.none() | st.integers(1, 2000)
block = st.none() | st.integers(0, 99)
timm = st.builds(StreamSpec, st.just("timm"), name, st.none() | name, st.none(), size, pool, block)
transformers = st.builds(StreamSpec, st.just("transformers"), name, pool=pool)
architecture = name.map(lambda text: text.replace("/", ""))
open_clip = st.builds(
    StreamSpec,
    st.just("open_clip"),
    architecture.filter(bool),
    name,
    st.sampled_from(["image", "text"]),
)


@given(timm | transformers | open_clip)
def test_a_spec_survives_its_text(spec: StreamSpec) -> None:
    assert StreamSpec.parse(str(spec)) == spec


def test_specs_of_the_readme() -> None:
    spec = StreamSpec.parse("timm:vit_small_patch14_dinov2@/w/a b.safetensors?size=224&pool=cls")
    assert (spec.model, spec.weights) == ("vit_small_patch14_dinov2", "/w/a b.safetensors")
    assert (spec.size, spec.pool, spec.modality) == (224, "cls", "image")
    clip = StreamSpec.parse("open_clip:ViT-B-16//weights/open.pt#text")
    assert (clip.model, clip.weights, clip.modality) == ("ViT-B-16", "/weights/open.pt", "text")
    hub = StreamSpec.parse("open_clip:hf-hub:org/model#image")
    assert (hub.model, hub.weights, hub.modality) == ("hf-hub:org/model", None, "image")
    text = StreamSpec.parse("transformers:org/model")
    assert (text.pool, text.modality, str(text)) == ("mean", "text", "transformers:org/model")


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
        StreamSpec.parse(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


MOVED = [
    ("timm:vit@/old/a.pth?size=9", "timm:vit@b.safetensors?size=9"),
    ("open_clip:ViT-B-16//old/a.pt#text", "open_clip:ViT-B-16/b.bin#text"),
    ("open_clip:local-dir:/old/clip#image", "open_clip:local-dir:new/clip#image"),
    ("transformers:/old/bert?pool=cls", "transformers:./new/bert?pool=cls"),
    ("transformers:old/bert?pool=cls", "transformers:/w/old/bert?pool=cls"),
    ("transformers:old/bert/", "transformers:/w/old/bert"),
]
OTHER = [
    ("timm:efficientnet_b0@/a.pth", "timm:tf_efficientnet_b0@/a.pth"),
    ("timm:vit@/a.pth", "timm:vit"),
    ("timm:vit@/a.pth?size=224", "timm:vit@/a.pth"),
    ("timm:vit@/a.pth?block=3", "timm:vit@/a.pth?block=4"),
    ("open_clip:ViT-B-16/openai#image", "open_clip:ViT-B-16/openai.pt#image"),
    ("open_clip:ViT-B-16/openai#image", "open_clip:ViT-B-16/other#image"),
    ("open_clip:ViT-B-16-quickgelu/a.pt#image", "open_clip:ViT-B-16/a.pt#image"),
    ("open_clip:ViT-B-16/a.pt#text", "open_clip:ViT-B-16/a.pt#image"),
    ("transformers:org/bert", "transformers:org/other"),
    ("transformers:org/bert", "transformers:/bert"),
    ("transformers:/bert?pool=cls", "transformers:/bert"),
    ("transformers:bert?pool=cls", "transformers:/w/bert"),
    ("transformers:bert", "transformers:/w/robert"),
    ("transformers:w/bert", "transformers:bert"),
    ("made by hand", "timm:vit"),
]


@pytest.mark.parametrize(("first", "second"), MOVED + OTHER)
def test_of_two_encoders_with_the_same_weights_only_the_place_of_them_may_differ(
    first: str, second: str
) -> None:
    expected = None if (first, second) in MOVED else "spec"
    a, b = (StreamOrigin(spec=spec, weights_sha256="12ab") for spec in (first, second))
    found = [encoder_difference(a, b), encoder_difference(b, a)]
    assert [each and each.what for each in found] == [expected, expected]
    assert encoder_difference(a, a) is None


def test_with_a_digest_of_the_definition_the_spec_no_longer_decides() -> None:
    for first, second in MOVED + OTHER:
        a, b = (
            StreamOrigin(spec=spec, weights_sha256="12ab", definition_sha256="34cd")
            for spec in (first, second)
        )
        assert encoder_difference(a, b) is None
        other = dataclasses.replace(b, definition_sha256="56ef")
        assert encoder_difference(a, other) == ("definition_sha256", "34cd", "56ef")
        # One record is older: the specs decide.
        older = encoder_difference(a, dataclasses.replace(b, definition_sha256=""))
        assert (older is None) == ((first, second) in MOVED)


def test_without_a_digest_of_the_weights_another_place_is_another_encoder() -> None:
    a, b = (StreamOrigin(spec=spec, weights_sha256="12ab") for spec in MOVED[0])
    difference = encoder_difference(a, dataclasses.replace(b, weights_sha256=""))
    assert difference == ("spec", a.spec, b.spec)
    difference = encoder_difference(a, dataclasses.replace(b, weights_sha256="34cd"))
    assert difference == ("weights_sha256", "12ab", "34cd")
    bits = dataclasses.replace(b, precision="bfloat16 autocast", batch_size=7)
    assert encoder_difference(a, bits) is None


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
    absolute = StreamSpec.parse(spec.format(f"{tmp_path}/"))
    assert StreamSpec.parse(spec.format("")).anywhere() == absolute
    assert absolute.anywhere() == absolute
    monkeypatch.chdir("/")
    typed = StreamSpec.parse(spec.format(""))
    assert typed.anywhere() == typed


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
        assert str(StreamSpec.parse(text).anywhere()) == text


@pytest.mark.parametrize("above", ["what?", "\udce9"])
def test_a_path_that_cannot_be_recorded_stays_as_typed(above, tmp_path, monkeypatch) -> None:
    (tmp_path / above / "bert").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / above)
    assert str(StreamSpec.parse("transformers:bert").anywhere()) == "transformers:bert"


@pytest.mark.parametrize("bad", ["", "Dino", "1st", "a-b", "a/b", "a.b", "clip image", "é"])
def test_names_that_are_no_identifiers_are_refused(bad: str) -> None:
    with pytest.raises(ConfigError, match="lower-case letters"):
        check_name(bad)


def test_stream_info_survives_json() -> None:
    origin = StreamOrigin(spec="timm:x", input_size=(224, 224), batch_size=4)
    info = StreamInfo(
        name="a", modality="image", dim=3, dtype="float32", keep_bits=7, origin=origin
    )
    assert from_mapping(StreamInfo, to_mapping(info), source="test") == info
    with pytest.raises(ConfigError, match="keep_bits needs dtype float32"):
        dataclasses.replace(info, dtype="float16")
    with pytest.raises(ConfigError, match="at least one value"):
        dataclasses.replace(info, dim=0)
