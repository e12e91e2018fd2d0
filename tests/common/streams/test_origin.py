"""When two streams come from the same encoder."""

import dataclasses

import pytest

from sparc.common.streams.origin import StreamOrigin, encoder_difference

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
    # No digest is shown without the name behind it.
    assert repr(difference.first) == f"{a.spec} (12ab)"
    bits = dataclasses.replace(b, precision="bfloat16 autocast", batch_size=7)
    assert encoder_difference(a, bits) is None
