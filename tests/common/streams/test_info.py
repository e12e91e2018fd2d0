import dataclasses

import pytest

from sparc.common.config import from_mapping, to_mapping
from sparc.common.errors import ConfigError
from sparc.common.streams.info import StreamInfo, check_name
from sparc.common.streams.origin import StreamOrigin


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
