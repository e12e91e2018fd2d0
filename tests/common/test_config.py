import dataclasses
import json
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparc.common.config import (
    first_difference,
    from_mapping,
    load_config,
    option,
    to_mapping,
)
from sparc.common.errors import ConfigError
from sparc.common.parsing import read_toml


@dataclasses.dataclass(frozen=True)
class Point:
    name: str
    size: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    rate: float = option(0.5, "A rate.")
    count: int = option(3, "A count.")
    fast: bool = option(False, "Fast or not.")
    kind: Literal["red", "green"] = option("red", "A kind.")
    names: tuple[str, ...] = option((), "Names.", flag="--name")
    place: Path | None = option(None, "A place.")
    limit: int | None = option(None, "A limit.")
    points: tuple[Point, ...] = option((), "Points.")


settings = st.builds(
    Settings,
    rate=st.floats(allow_nan=False),
    count=st.integers(),
    fast=st.booleans(),
    kind=st.sampled_from(["red", "green"]),
    names=st.lists(st.text(), max_size=3).map(tuple),
    place=st.none() | st.sampled_from([Path("a/b"), Path("/c")]),
    limit=st.none() | st.integers(),
    points=st.lists(st.builds(Point, st.text(), st.integers()), max_size=2).map(tuple),
)


@given(settings)
def test_settings_survive_json(value: Settings) -> None:
    text = json.dumps(to_mapping(value))
    assert from_mapping(Settings, json.loads(text), source="test") == value


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cuont": 3}, "unknown setting 'cuont'; did you mean 'count'?"),
        ({"zzz": 3}, "known: rate, count"),
        ({"count": 3.0}, "count must be of type int, not 3.0"),
        ({"count": True}, "count must be of type int, not True"),
        ({"rate": "3"}, "rate must be of type float"),
        ({"fast": 1}, "fast must be of type bool, not 1"),
        ({"kind": "blue"}, "kind must be one of red, green, not 'blue'"),
        ({"names": "abc"}, "names must be a list, not 'abc'"),
        ({"names": ["a", 1]}, r"names\[1\] must be of type str"),
        ({"points": [{"name": "a", "sise": 1}]}, r"points\[0\]: unknown setting 'sise'"),
        ({"points": [3]}, r"points\[0\] must be a table"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(values, message) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping(Settings, values, source="test")


def test_options_win_over_the_file_and_dashes_are_underscores(tmp_path) -> None:
    path = tmp_path / "sparc.toml"
    path.write_text('[extract]\ncount = 7\nrate = 2\nkind = "green"\n[train]\nanything = 1\n')
    config = load_config(Settings, "extract", path, {"count": 9})
    assert config == Settings(count=9, rate=2.0, kind="green")
    assert load_config(Settings, "analyze", path, {}) == Settings()
    assert load_config(Settings, "extract", None, {}) == Settings()


def test_a_file_may_call_a_setting_as_the_option_is_called(tmp_path) -> None:
    path = tmp_path / "sparc.toml"
    for name in ("name", "names"):
        path.write_text(f'[extract]\n{name} = ["a"]\n')
        assert load_config(Settings, "extract", path, {}) == Settings(names=("a",))
        assert load_config(Settings, "extract", path, {"names": ("b",)}).names == ("b",)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path) -> None:
    (tmp_path / "plain.toml").write_bytes(b"[train]\nk = 3\n")
    (tmp_path / "marked.toml").write_bytes(b"\xef\xbb\xbf[train]\nk = 3\n")
    plain, marked = (read_toml(tmp_path / f"{n}.toml", "settings") for n in ("plain", "marked"))
    assert plain == marked == {"train": {"k": 3}}


def test_in_a_file_one_text_stands_for_a_list_of_one(tmp_path) -> None:
    path = tmp_path / "sparc.toml"
    path.write_text('[extract]\nnames = "abc"\n')
    assert load_config(Settings, "extract", path, {}) == Settings(names=("abc",))
    path.write_text("[extract]\nnames = 3\n")
    with pytest.raises(ConfigError, match="names must be a list, not 3"):
        load_config(Settings, "extract", path, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("count = 3\n", "unknown entry 'count' at the top level"),
        ("[extarct]\n", "unknown entry 'extarct'"),
        ("[extract\n", "is not valid TOML"),
        ("[extract]\ncuont = 1\n", r"sparc.toml \[extract\]: unknown setting 'cuont'"),
    ],
)
def test_a_file_with_mistakes_is_refused(tmp_path, content, message) -> None:
    path = tmp_path / "sparc.toml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_config(Settings, "extract", path, {})


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read configuration .*No such file"):
        load_config(Settings, "extract", tmp_path / "none.toml", {})
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load_config(Settings, "extract", tmp_path / "bytes.toml", {})


def test_records_leave_out_a_later_setting_while_it_has_its_default():
    @dataclasses.dataclass(frozen=True)
    class Later:
        k: int = option(8, "…")
        terms: tuple[str, ...] = option((), "…", added=True)

    assert to_mapping(Later()) == {"k": 8}
    assert to_mapping(Later(terms=("pull=1",))) == {"k": 8, "terms": ["pull=1"]}
    assert from_mapping(Later, {"k": 8}, source="…") == Later()
    assert first_difference(Later(), Later(terms=("pull=1",))) == ("terms", [], ["pull=1"])
    assert first_difference(Later(), Later(k=9), ignore=("k",)) is None
