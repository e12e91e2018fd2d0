"""Encoders of an artefact: built only with consent, and only if they are what was recorded."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from sparc.analyze.recorded_encoders import RecordedStream, rebuild
from sparc.common.errors import EncoderError
from sparc.common.streams.origin import StreamOrigin
from sparc.extract.encoders import parse_spec
from sparc.extract.encoders.encoder import Encoders

CPU = torch.device("cpu")
PLACES = [
    "timm:vit@/somewhere/vit.safetensors?size=64",
    "timm:vit@relative.pth",
    "timm:hf-hub:org/vit",
    "open_clip:ViT-B-16/weights.pt#image",
    "open_clip:ViT-B-16/folder/weights#image",
    "open_clip:local-dir:/somewhere#image",
    "open_clip:hf-hub:org/clip#image",
]
TEXT_PLACES = ["transformers:org/name", "transformers:/somewhere", "open_clip:hf-hub:org/clip#text"]
NAMES = ["timm:vit_base_patch14_dinov2.lvd142m?size=224", "open_clip:ViT-B-16/openai#image"]


def recorded(spec, **changes):
    origin = StreamOrigin(spec=spec, weights_sha256="12ab", definition_sha256="34cd")
    origin = dataclasses.replace(origin, **changes)
    return RecordedStream(8, parse_spec(spec).modality, origin)


def call(spec, stream, *, by_hand=(), trusted=False, made=None):
    """Rebuild the stream `a`; `made` is the origin of what is built, as recorded by default."""
    built = []

    def build(specs, device):
        built.extend(specs.values())
        return Encoders({"a": SimpleNamespace(dim=8, origin=made or stream.origin)}, {})

    encoders = rebuild(
        {"a": parse_spec(spec)}, {"a": stream}, by_hand=by_hand, trusted=trusted,
        artefact="/sent/run", device=CPU, build=build,
    )  # fmt: skip
    assert [str(each) for each in built] == [spec]
    return encoders


@pytest.mark.parametrize("spec", ["python:/sent/net.py:build", "python:os:system?command=id#text"])
def test_code_that_an_artefact_names_runs_only_if_it_is_named_by_hand(spec):
    with pytest.raises(EncoderError, match="names Python code") as caught:
        call(spec, recorded(spec), trusted=True)
    assert f'specs={{"a": "{spec}"}}' in str(caught.value)
    assert call(spec, recorded(spec), by_hand=("a",))["a"].dim == 8


@pytest.mark.parametrize("spec", [*PLACES, *TEXT_PLACES])
def test_a_place_that_an_artefact_names_needs_consent(spec):
    def never(specs, device):
        pytest.fail("built")

    with pytest.raises(EncoderError) as caught:
        rebuild(
            {"a": parse_spec(spec)}, {"a": recorded(spec)}, by_hand=(), trusted=False,
            artefact="/sent/run", device=CPU, build=never,
        )  # fmt: skip
    message = str(caught.value)
    assert message.startswith("/sent/run names encoders at places that its maker chose: 'a=")
    assert f"'a={spec}'" in message
    assert "trust_encoders=True" in message
    assert 'specs={"NAME": "SPEC"}' in message
    call(spec, recorded(spec), trusted=True)
    call(spec, recorded(spec), by_hand=["a"])


@pytest.mark.parametrize("spec", NAMES)
def test_a_name_of_a_librarys_registry_needs_none(spec):
    call(spec, recorded(spec))


def test_control_codes_of_a_spec_do_not_reach_the_message():
    spec = "transformers:/x\x1b[2J\ny"
    with pytest.raises(EncoderError) as caught:
        call(spec, recorded(spec))
    assert str(caught.value).isprintable()


def test_a_trusted_place_without_a_digest_is_refused():
    spec = "timm:hf-hub:org/vit"
    with pytest.raises(EncoderError, match=r"without a digest of its weights.*specs="):
        call(spec, recorded(spec, weights_sha256=""), trusted=True)
    call(spec, recorded(spec, weights_sha256=""), by_hand=["a"])


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"weights_sha256": "other"}, "weights_sha256"),
        ({"definition_sha256": "other"}, "definition_sha256"),
        ({"pooling": "mean"}, "pooling"),
        ({"input_size": (8, 8)}, "input_size"),
        ({"preprocessing": "none"}, "preprocessing"),
        ({"definition_sha256": "", "spec": "timm:other@w.pt"}, "spec"),
        ({"definition_sha256": "", "spec": "timm:vit@moved.pt"}, None),
        ({"spec": "timm:vit@moved.pt"}, None),
        ({"precision": "bfloat16 autocast", "batch_size": 3}, None),
    ],
)
@pytest.mark.parametrize("by_hand", [["a"], []])
def test_what_is_built_must_be_what_was_recorded(changes, what, by_hand):
    spec = "timm:vit@w.pt"
    stream = recorded(spec)
    made = dataclasses.replace(stream.origin, **changes)
    if what is None:
        call(spec, stream, by_hand=by_hand, trusted=True, made=made)
        return
    with pytest.raises(EncoderError, match=rf"is not the encoder that made stream a .*{what}"):
        call(spec, stream, by_hand=by_hand, trusted=True, made=made)


def test_width_and_modality_must_agree_even_where_nothing_else_is_known():
    stream = RecordedStream(9, None, None)
    with pytest.raises(EncoderError, match="values of a feature: 9 then, 8 now"):
        call("timm:vit@w.pt", stream, by_hand=["a"], made=StreamOrigin(spec="x"))
    stream = RecordedStream(8, "text", StreamOrigin(spec="array"))
    with pytest.raises(EncoderError, match="modality: text then, image now"):
        call("timm:vit@w.pt", stream, by_hand=["a"], made=StreamOrigin(spec="x"))
